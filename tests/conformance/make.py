"""Makes the larger tables of cases: `python3 tests/conformance/make.py` (needs the package `xxhash`).

What is expected is stated by hand or computed here, with Python's own arithmetic, addresses and XXH3; flagd is never asked.
`docs/evaluation.md` says why each answer is right. `operators.json`, `order.json` and `splits.json` were written by hand.

A file has `definitions`, `cases` and perhaps, put in place in this order: `archive` and `kill` (lists of flags) and `forge` (entries
that no server would write: `{"kind": 1, "key": ..., "text": ...}`). A case has `flag`, `context`, `value`, `variant` (null where the
caller's default is served), `reason`, and perhaps `now`.
"""

import ipaddress
import json
import pathlib
from fractions import Fraction

import xxhash

HERE = pathlib.Path(__file__).parent


class Raw(str):
    """JSON text that is written as it stands: 1, 1.0 and 1e0 are not the same to a reader."""


def dump(value):
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k, ensure_ascii=False)}: {dump(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(dump(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


class Table:
    def __init__(self, name, about):
        self.name, self.about = name, about
        self.flags, self.segments, self.cases, self.more = {}, {}, [], {}

    def test(self, key, test):
        """A flag that is on where one test holds."""
        self.flags[key] = {"rules": [{"name": "r", "if": test, "serve": "on"}]}

    def holds(self, key, context, holds, **more):
        value, variant, reason = (True, "on", "Rule(r)") if holds else (False, "off", "Otherwise")
        self.case(key, context, value, variant, reason, **more)

    def case(self, key, context, value, variant, reason, **more):
        self.cases.append({"flag": key, "context": context, "value": value, "variant": variant, "reason": reason, **more})

    def write(self):
        lines = ["{", f'  "about": {dump(self.about)},', '  "definitions": {']
        parts = [f'"flags": {{\n{self.entries(self.flags)}\n    }}']
        if self.segments:
            parts.append(f'"segments": {{\n{self.entries(self.segments)}\n    }}')
        lines.append("    " + ",\n    ".join(parts))
        lines.append("  },")
        lines += [f"  {dump(name)}: {dump(value)}," for name, value in self.more.items()]
        lines.append('  "cases": [')
        lines.append(",\n".join("    " + dump(case) for case in self.cases))
        lines += ["  ]", "}", ""]
        (HERE / f"{self.name}.json").write_text("\n".join(lines), encoding="utf-8")
        print(f"{self.name}: {len(self.cases)} cases")
        return len(self.cases)

    @staticmethod
    def entries(entries):
        return ",\n".join(f"      {dump(key)}: {dump(value)}" for key, value in entries.items())


def types():
    """Every operator on a value of every type."""
    t = Table("types", "Every operator on a value of every type: absent or of another type is false, a list matches when any element does.")
    operators = {
        # operator, operand, members beside it, a value that it holds for, one of the same type that it does not hold for
        "equals-string": ("equals", "x", {}, "x", "y"),
        "equals-string-ignore": ("equals", "x", {"ignoreCase": True}, "X", "y"),
        "equals-number": ("equals", 1, {}, 1, 2),
        "equals-true": ("equals", True, {}, True, False),
        "equals-false": ("equals", False, {}, False, True),
        "in": ("in", ["x", "z"], {}, "z", "y"),
        "in-mixed": ("in", ["p", 7, False], {}, 7, 8),
        "startsWith": ("startsWith", "ab", {}, "abc", "cab"),
        "endsWith": ("endsWith", ["bc", "bd"], {}, "abc", "bca"),
        "contains": ("contains", "b", {}, "abc", "ac"),
        "matches": ("matches", "^a+$", {}, "aaa", "aba"),
        "lessThan": ("lessThan", 1, {}, 0, 1),
        "atMost": ("atMost", 1, {}, 1, 2),
        "greaterThan": ("greaterThan", 1, {}, 2, 1),
        "atLeast": ("atLeast", 1, {}, 1, 0),
        "before": ("before", "2026-01-01T00:00:00Z", {}, "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        "after": ("after", "2026-01-01T00:00:00Z", {}, "2026-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
        "semver": ("semver", ">=1.2", {}, "1.2.0", "1.1.9"),
        "cidr": ("cidr", "10.0.0.0/8", {}, "10.1.2.3", "11.0.0.0"),
    }
    other = ["", "text", 3.5, True, False, {"x": "x"}, {}, [], None]
    for key, (operator, operand, more, yes, no) in operators.items():
        t.test(key, {"attribute": "a", operator: operand, **more})
        t.holds(key, {"a": yes}, True)
        t.holds(key, {"a": no}, False)
        t.holds(key, {"a": [no, None, {"a": yes}, yes]}, True)
        t.holds(key, {"a": [no, no]}, False)
        t.holds(key, {"a": [[yes]]}, False)
        t.holds(key, {"a": {"a": yes}}, False)
        t.holds(key, {"b": yes}, False)
        numbers = operator in ("lessThan", "atMost", "greaterThan", "atLeast")
        for value in other:
            # Of the other values only numbers and booleans can hold by accident, where they are what is tested.
            by_accident = value == operand and type(value) is type(operand)
            if numbers and value == 3.5:
                by_accident = operator in ("greaterThan", "atLeast")
            if key == "in-mixed" and value is False:
                by_accident = True
            t.holds(key, {"a": value}, by_accident)
    for key, wanted in (("exists", True), ("absent", False)):
        t.test(key, {"attribute": "a", "exists": wanted})
        for value in ["", "x", 0, 1.5, True, False, {}, [], [None], [[]], {"a": None}]:
            t.holds(key, {"a": value}, wanted)
        t.holds(key, {"a": None}, not wanted)
        t.holds(key, {}, not wanted)
    return t


def strings():
    t = Table("strings", "Strings: code points, no normalisation, lower case by character, several operands, patterns.")
    lower = lambda text: "".join(c.lower() if c != "\u03a3" else "\u03c3" for c in text)
    words = ["x", "X", "Straße", "STRASSE", "straße", "STRAßE", "İ", "i", "i\u0307", "Σ", "σ", "ς", "é", "e\u0301", "É", "ǅ", "ǆ", "K", "k"]
    for n, operand in enumerate(words):
        for ignore in (False, True):
            key = f"equals-{n}{'-ignore' if ignore else ''}"
            t.test(key, {"attribute": "a", "equals": operand, "ignoreCase": ignore})
            for word in words:
                a, b = (lower(word), lower(operand)) if ignore else (word, operand)
                near = word == operand or a == b or word.lower() == operand.lower() or word.upper() == operand.upper()
                if near:
                    t.holds(key, {"a": word}, a == b)
    parts = {
        "starts": ("startsWith", ["ab", "Cd"], False, {"abc": True, "ABc": False, "Cdx": True, "xab": False, "a": False, "ab": True, " ab": False}),
        "starts-ignore": ("startsWith", ["ab", "Cd"], True, {"ABc": True, "cDx": True, "xab": False, "A": False}),
        "ends": ("endsWith", "@example.com", False, {"a@example.com": True, "a@EXAMPLE.com": False, "@example.com": True, "a@example.com ": False}),
        "ends-ignore": ("endsWith", "@Example.com", True, {"a@EXAMPLE.COM": True, "a@example.org": False}),
        "has": ("contains", "日本", False, {"東日本橋": True, "日 本": False, "日": False, "日本": True}),
        "has-ignore": ("contains", "ÄÖ", True, {"xäöx": True, "xÄöx": True, "a\u0308o\u0308": False}),
        "has-half": ("contains", "i", True, {"İ": True, "I": True, "ı": False}),
        "starts-dot": ("startsWith", "\u0307", True, {"İ": False, "\u0307x": True}),
        "ends-dot": ("endsWith", "\u0307", True, {"İ": True, "i": False}),
        "nul": ("contains", "\0", False, {"a\0b": True, "ab": False}),
    }
    for key, (operator, operand, ignore, values) in parts.items():
        t.test(key, {"attribute": "a", operator: operand, **({"ignoreCase": True} if ignore else {})})
        for value, holds in values.items():
            t.holds(key, {"a": value}, holds)
    patterns = {
        "somewhere": ("b+", {"abc": True, "ac": False, "": False}),
        "whole": ("^b+$", {"bb": True, "bb\n": False, "abb": False}),
        "lines": ("(?m)^b$", {"a\nb\nc": True, "ab": False}),
        "dot": ("^a.c$", {"a\nc": False, "a😀c": True, "ac": False}),
        "dot-all": ("(?s)^a.c$", {"a\nc": True}),
        "ignore": ("(?i)^straße$", {"STRAßE": True, "STRASSE": False, "STRA\u1e9eE": True}),
        "digits": (r"^\d+$", {"123": True, "٣": True, "": False}),
        "letters": (r"^\p{Greek}+$", {"αβγ": True, "abc": False}),
        "word": (r"\bcat\b", {"a cat.": True, "concat": False}),
        "empty": ("^$", {"": True, " ": False}),
        "choice": ("^(beta|canary)-[0-9]{1,3}$", {"beta-1": True, "canary-999": True, "canary-1000": False, "alpha-1": False}),
    }
    for key, (pattern, values) in patterns.items():
        t.test(f"matches-{key}", {"attribute": "a", "matches": pattern})
        for value, holds in values.items():
            t.holds(f"matches-{key}", {"a": value}, holds)
    t.test("in-many", {"attribute": "a", "in": [f"c{n}" for n in range(50)] + ["", "Ü"]})
    t.test("in-many-ignore", {"attribute": "a", "in": [f"C{n}" for n in range(50)] + ["Ü"], "ignoreCase": True})
    for value, plain, ignore in [("c49", True, True), ("C49", False, True), ("c50", False, False), ("", True, False), ("ü", False, True), ("Ü", True, True)]:
        t.holds("in-many", {"a": value}, plain)
        t.holds("in-many-ignore", {"a": value}, ignore)
    return t


def exact(text):
    """What a number of a context is: whole numbers of 64 bits exactly, others as the nearest float."""
    if text.lstrip("-").isdigit() and -(2**63) <= int(text) < 2**63:
        return Fraction(int(text))
    return Fraction(float(text))


def numbers():
    t = Table("numbers", "Numbers are compared by their exact value, whatever they are written as; a string of digits is a string.")
    bounds = ["0", "1", "-1", "1.5", "0.1", "9007199254740992", "-9007199254740992", "9223372036854775808", "1e300"]
    values = ["0", "-0", "-0.0", "1", "1.0", "1e0", "10e-1", "-1", "1.5", "15e-1", "0.1", "0.10000000000000001", "0.30000000000000004",
              "9007199254740991", "9007199254740992", "9007199254740993", "9007199254740993.0", "-9007199254740993", "9223372036854775807",
              "9223372036854775808", "18446744073709551615", "-9223372036854775808", "1e300", "1e-400", "122.416294033786585"]
    compare = {"lessThan": lambda a, b: a < b, "atMost": lambda a, b: a <= b, "greaterThan": lambda a, b: a > b, "atLeast": lambda a, b: a >= b}
    for n, bound in enumerate(bounds):
        t.test(f"equals-{n}", {"attribute": "a", "equals": Raw(bound)})
        for operator in compare:
            t.test(f"{operator}-{n}", {"attribute": "a", operator: Raw(bound)})
        for m, value in enumerate(values):
            context = {"a": Raw(value)}
            near = abs(exact(value) - exact(bound)) <= 2
            if near:
                t.holds(f"equals-{n}", context, exact(value) == exact(bound))
            # Where they are far apart one of the four is enough.
            for operator in compare if near else list(compare)[m % 4 : m % 4 + 1]:
                t.holds(f"{operator}-{n}", context, compare[operator](exact(value), Fraction(float(bound))))
    t.test("whole", {"attribute": "a", "equals": Raw("9007199254740993")})
    t.test("max", {"attribute": "a", "in": [Raw("9223372036854775807"), Raw("-9223372036854775808")]})
    for value in ["9007199254740992", "9007199254740993", "9007199254740993.0", "9007199254740994"]:
        t.holds("whole", {"a": Raw(value)}, exact(value) == 9007199254740993)
    for value in ["9223372036854775807", "9223372036854775806", "9223372036854775807.0", "-9223372036854775808", "-9.223372036854775808e18"]:
        t.holds("max", {"a": Raw(value)}, exact(value) in (2**63 - 1, -(2**63)))
    for value in ["1", " 1", "1.0", "", "one"]:
        t.holds("equals-1", {"a": value}, False)
        t.holds("atLeast-0", {"a": value}, False)
    return t


def moments():
    t = Table("moments", "RFC 3339 with an offset, cut off at the millisecond; windows of time against now.")
    t.test("before", {"attribute": "a", "before": "2026-06-01T12:00:00.500Z"})
    t.test("after", {"attribute": "a", "after": "2026-06-01T14:00:00.5+02:00"})
    rows = [  # text, -1 before, 0 at, 1 after, None: no moment
        ("2026-06-01T12:00:00.499Z", -1), ("2026-06-01T12:00:00.500Z", 0), ("2026-06-01T12:00:00.501Z", 1),
        ("2026-06-01T12:00:00.4999999999999Z", -1), ("2026-06-01T12:00:00.5009999Z", 0), ("2026-06-01T12:00:00Z", -1),
        ("2026-06-01t12:00:00.5z", 0), ("2026-06-01T17:30:00.5+05:30", 0), ("2026-06-01T00:00:00.5-12:00", 0), ("2026-06-02T11:59:00.5+23:59", 0),
        ("2026-06-01T12:00:00.5-00:00", 0), ("2026-06-01T11:59:60.5Z", -1), ("2026-06-01T12:00:60Z", 1), ("9999-12-31T23:59:59.999Z", 1),
        ("0000-01-01T00:00:00Z", -1), ("2024-02-29T00:00:00Z", -1), ("2000-02-29T00:00:00Z", -1), ("2028-02-29T00:00:00Z", 1),
        ("2026-02-29T00:00:00Z", None), ("1900-02-29T00:00:00Z", None), ("2026-06-31T00:00:00Z", None), ("2026-13-01T00:00:00Z", None),
        ("2026-00-01T00:00:00Z", None), ("2026-06-00T00:00:00Z", None), ("2026-06-01T24:00:00Z", None), ("2026-06-01T12:60:00Z", None),
        ("2026-06-01T12:00:61Z", None), ("2026-06-01T12:00:00", None), ("2026-06-01 12:00:00Z", None), ("2026-06-01", None), ("2026-06-01T12:00Z", None),
        ("2026-06-01T12:00:00.Z", None), ("2026-06-01T12:00:00,5Z", None), ("2026-06-01T12:00:00+0200", None), ("2026-06-01T12:00:00+02", None),
        ("2026-06-01T12:00:00+24:00", None), ("2026-06-01T12:00:00+02:60", None), (" 2026-06-01T12:00:00Z", None), ("2026-06-01T12:00:00Z ", None),
        ("+2026-06-01T12:00:00Z", None), ("12026-06-01T12:00:00Z", None), ("2026-6-1T12:00:00Z", None), ("9999-12-31T23:59:59-00:01", None),
        ("0000-01-01T00:00:00+00:01", None), ("1780315200500", None), ("2026-06-01T12:00:00Z[UTC]", None), ("", None),
    ]
    for text, side in rows:
        t.holds("before", {"a": text}, side == -1)
        t.holds("after", {"a": text}, side in (0, 1))
    t.holds("after", {"a": Raw("1780315200500")}, False)
    start, end = "2026-06-01T12:00:00Z", "2026-06-01T13:00:00.001Z"
    t.test("from", {"time": {"after": start}})
    t.test("until", {"time": {"before": end}})
    t.test("window", {"time": {"after": start, "before": end}})
    t.test("never-again", {"not": {"time": {"after": start}}})
    for now, after, before in [("2026-06-01T11:59:59.999Z", False, True), (start, True, True), ("2026-06-01T12:00:00.001Z", True, True),
                               ("2026-06-01T13:00:00Z", True, True), (end, True, False), ("2026-06-01T13:00:00.002Z", True, False), ("1970-01-01T00:00:00.001Z", False, True),
                               ("9999-01-01T00:00:00Z", True, False)]:
        t.holds("from", {}, after, now=now)
        t.holds("until", {}, before, now=now)
        t.holds("window", {}, after and before, now=now)
        t.holds("never-again", {}, not after, now=now)
    return t


def versions():
    t = Table("versions", "Semantic versions and requirements on them.")
    rows = {
        "*": "1.0.0+ 0.0.0+ 1.0.0-a-",
        "1": "1.0.0+ 1.9.9+ 2.0.0- 0.9.9- 1.0.0-a-",
        "1.2": "1.2.0+ 1.3.0+ 1.1.9- 2.0.0-",
        "1.2.3": "1.2.3+ 1.9.0+ 1.2.2- 2.0.0- 1.2.3-a-",
        "^0.2.3": "0.2.3+ 0.2.9+ 0.3.0- 0.2.2- 1.0.0-",
        "^0.0.3": "0.0.3+ 0.0.4- 0.0.2-",
        "^0.0": "0.0.0+ 0.0.9+ 0.1.0-",
        "^0": "0.0.0+ 0.9.9+ 1.0.0-",
        "^0.0.0": "0.0.0+ 0.0.1-",
        "~1": "1.0.0+ 1.9.9+ 2.0.0-",
        "~1.2": "1.2.0+ 1.2.9+ 1.3.0- 1.1.0-",
        "~1.2.3": "1.2.3+ 1.2.9+ 1.3.0- 1.2.2-",
        "=1": "1.0.0+ 1.9.9+ 2.0.0-",
        "=1.2": "1.2.0+ 1.2.9+ 1.3.0-",
        "=1.2.3": "1.2.3+ 1.2.4- 1.2.3+build+",
        ">1": "2.0.0+ 1.9.9- 1.0.0-",
        ">1.2": "1.3.0+ 1.2.9- 2.0.0+",
        ">1.2.3": "1.2.4+ 1.2.3- 1.10.0+",
        ">=1.2": "1.2.0+ 1.1.9- 9.0.0+",
        "<1": "0.9.9+ 1.0.0-",
        "<1.2": "1.1.9+ 1.2.0-",
        "<1.2.3": "1.2.2+ 1.2.3- 1.2.3-a-",
        "<=1": "1.9.9+ 0.1.0+ 2.0.0-",
        "<=1.2": "1.2.9+ 1.3.0-",
        "<=1.2.3": "1.2.3+ 1.2.4-",
        "1.*": "1.0.0+ 1.9.0+ 2.0.0-",
        "1.2.x": "1.2.9+ 1.3.0-",
        "1.X.X": "1.9.9+ 2.0.0-",
        ">=1.*": "1.0.0+ 2.0.0+ 0.9.0-",
        ">=2.3.0, <3": "2.3.0+ 2.99.0+ 3.0.0- 2.2.9- 3.0.0-a- 2.3.0-a-",
        " >= 2.3.0 , < 3 ": "2.3.0+ 3.0.0-",
        ">=1.2.3-b": "1.2.3-b+ 1.2.3-a- 1.2.3+ 1.2.4-b- 1.2.4+ 1.2.3-b.1+",
        ">1.2.3-b, <1.2.3": "1.2.3-c+ 1.2.3-b- 1.2.3-",
        "^1.2.3-b": "1.2.3-b+ 1.2.3-a- 1.9.0+ 1.9.0-b-",
        "~1.2.3-b": "1.2.3-b+ 1.2.4+ 1.2.4-b- 1.2.3-a-",
        "=1.2.3-b": "1.2.3-b+ 1.2.3- 1.2.3-b.0- 1.2.3-b+x+",
        ">=1.0.0-alpha": "1.0.0-alpha.1+ 1.0.0-alpha.beta+ 1.0.0-beta.2+ 1.0.0-beta.11+ 1.0.0-rc.1+ 1.0.0+ 1.0.0-1- 1.0.0-Alpha-",
        ">1.0.0-beta.2, <2": "1.0.0-beta.11+ 1.0.0-beta.2- 1.0.0-beta.1- 1.0.0-beta-",
        ">1.0.0-9": "1.0.0-10+ 1.0.0-8- 1.0.0-a+",
        "=1, >=1.0.0-0": "1.0.0+ 1.0.0-a- 1.5.0+",
        "^1, >=1.0.0-0": "1.0.0-a+ 1.0.0+",
        "<=1, >=1.0.0-0": "1.0.0-a- 1.0.0+",
        "~1, >=1.0.0-0": "1.0.0-a- 1.4.0+",
        ">=1.2.3+build": "1.2.3+ 1.2.3+other+ 1.2.2-",
        ">=18446744073709551615.0.0": "18446744073709551615.0.0+ 18446744073709551616.0.0- 18446744073709551614.9.9-",
    }
    for n, (requirement, versions) in enumerate(rows.items()):
        t.test(f"v{n}", {"attribute": "a", "semver": requirement})
        for word in versions.split(" "):
            t.holds(f"v{n}", {"a": word[:-1]}, word[-1] == "+")
    t.test("any", {"attribute": "a", "semver": ">=0.0.0-0"})
    for text in ["v1.2.3", "1.2", "1", "1.2.3.4", "01.2.3", "1.02.3", "1.2.03", "1.2.3-", "1.2.3+", "1.2.3-a..b", "1.2.3-01", "1.2.3 ", " 1.2.3", "1.2.x",
                 "1.2.-3", "+1.2.3", "1.2.3-ä", "", "latest", "1,2,3"]:
        t.holds("any", {"a": text}, False)
    for text in ["1.2.3", "0.0.0-0", "0.0.0+001", "1.2.3+01.-.x"]:
        t.holds("any", {"a": text}, True)
    t.holds("any", {"a": Raw("1.2")}, False)
    return t


def addresses():
    t = Table("addresses", "IP addresses in networks; an IPv4-mapped address is also its IPv4 address.")
    networks = ["10.0.0.0/8", "10.1.2.3/8", "192.168.1.7", "0.0.0.0/0", "::/0", "2001:db8::/32", "2001:db8::1", "::ffff:0:0/96", "::ffff:10.0.0.0/104", "192.168.1.128/25",
                "255.255.255.255/32", "fe80::/10"]
    texts = ["10.0.0.0", "10.255.255.255", "11.0.0.0", "9.255.255.255", "192.168.1.7", "192.168.1.127", "192.168.1.128", "255.255.255.255", "0.0.0.0", "::", "::1",
             "2001:db8::1", "2001:DB8:0:0:0:0:0:1", "2001:db7:ffff::", "::ffff:10.1.2.3", "::ffff:a01:203", "::10.1.2.3", "::ffff:192.168.1.7", "febf::1", "fec0::1"]
    for n, network in enumerate(networks):
        t.test(f"n{n}", {"attribute": "a", "cidr": network})
        inside = ipaddress.ip_network(network, strict=False)
        for text in texts:
            address = ipaddress.ip_address(text)
            forms = [address] + ([address.ipv4_mapped] if address.version == 6 and address.ipv4_mapped else [])
            holds = any(form.version == inside.version and form in inside for form in forms)
            if holds or hash_of("pick", f"{network} {text}") % 3 == 0:
                t.holds(f"n{n}", {"a": text}, holds)
    t.test("list", {"attribute": "a", "cidr": ["10.0.0.0/8", "2001:db8::/32"]})
    t.holds("list", {"a": "10.0.0.1"}, True)
    t.holds("list", {"a": "2001:db8::"}, True)
    t.holds("list", {"a": ["11.0.0.1", "10.0.0.1"]}, True)
    t.test("all", {"attribute": "a", "cidr": ["0.0.0.0/0", "::/0"]})
    for text in ["10.0.0.1/32", "10.0.0.1:80", "[::1]", "fe80::1%eth0", "10.0.0", "10.0.0.256", "010.0.0.1", "10.0.0.01", "0x0a.0.0.1", "10.0.0.1 ", "1::2::3", ":::", "12345::", "",
                 "localhost", "167772161", "::ffff:10.0.0.1.2"]:
        t.holds("all", {"a": text}, False)
    t.holds("all", {"a": Raw("167772161")}, False)
    return t


def hash_of(salt, unit):
    seed = xxhash.xxh3_64_intdigest(salt.encode("utf-8"), 0)
    return xxhash.xxh3_64_intdigest(unit.encode("utf-8"), seed)


def point(salt, unit):
    return ((hash_of(salt, unit) >> 32) * 1_000_000) >> 32


def owner(split, at):
    end = 0
    for name, percent in split:
        end += Fraction(percent) * 10_000
        if at < end:
            return name
    raise AssertionError("the split does not cover the line")


def units():
    t = Table("units", "What is hashed and listed: the targeting key or the attribute that `by` names; and where it falls, from another XXH3.")
    names = [f"v{n:02}" for n in range(20)]
    flags = {
        # key: (salt or none, by or none, stretches)
        "half-by": (None, "id", [("on", "50"), ("off", "50")]),
        "half-path": (None, "company.id", [("on", "50"), ("off", "50")]),
        "half-key": (None, "targetingKey", [("on", "50"), ("off", "50")]),
        "half": (None, None, [("on", "50"), ("off", "50")]),
        "twin": ("half", None, [("on", "50"), ("off", "50")]),
        "other": ("half", None, [("off", "50"), ("on", "50")]),
        "tail": ("edge", None, [("on", "99.9999"), ("off", "0.0001")]),
        "head": ("edge", None, [("on", "0.0001"), ("off", "99.9999")]),
        "pieces": (None, None, [("on", "0"), ("on", "12.5"), ("off", "12.5"), ("on", "0.0001"), ("off", "24.9999"), ("on", "50")]),
    }
    for key, (salt, by, split) in flags.items():
        serve = {"split": [{name: Raw(percent)} for name, percent in split], **({"by": by} if by else {})}
        t.flags[key] = {**({"salt": salt} if salt else {}), "otherwise": serve}
    t.flags["twenty"] = {"variants": {name: name.upper() for name in names}, "offVariant": "v19", "otherwise": {"split": {name: 5 for name in reversed(names)}}}

    def serves(key, context, unit):
        salt, _, split = flags[key]
        if unit is None:
            t.case(key, context, False, "off", "NoUnit")
        else:
            variant = owner(split, point(salt or key, unit))
            t.case(key, context, variant == "on", variant, "Otherwise")

    units = [("acme", "acme"), ("", None), (" ", " "), (17, "17"), (Raw("17.0"), "17"), (Raw("1.7e1"), "17"), (Raw("-0.0"), "0"), (Raw("-0"), "0"), (0, "0"), (-5, "-5"),
             (Raw("17.5"), None), (Raw("9007199254740992.0"), "9007199254740992"), (Raw("9007199254740994.0"), None), (Raw("9007199254740994"), "9007199254740994"),
             (Raw("9223372036854775807"), "9223372036854775807"), (Raw("-9223372036854775808"), "-9223372036854775808"), (Raw("9223372036854775808"), None),
             (Raw("1e16"), None), (True, None), (None, None), (["acme"], None), ({"id": "acme"}, None), ("日本", "日本"), ("e\u0301", "e\u0301"), ("\u00e9", "\u00e9"), ("a\0", "a\0")]
    for value, unit in units:
        serves("half-by", {"targetingKey": "u", "id": value}, unit)
        serves("half-path", {"company": {"id": value}}, unit)
    serves("half-by", {"targetingKey": "u"}, None)
    serves("half-path", {"company": {"id": "a"}, "company.id": "b"}, "b")
    serves("half-path", {"company": [{"id": "a"}]}, None)
    for key, unit in [("u", "u"), ("", None), (None, None), (17, "17"), (Raw("18446744073709551615"), "18446744073709551615"), (Raw("-9223372036854775808"), "-9223372036854775808")]:
        serves("half-key", {"targetingKey": key}, unit)
        serves("half", {"targetingKey": key}, unit)
    serves("half", {}, None)
    for n in range(12):
        for key in ("half", "twin", "other", "pieces"):
            serves(key, {"targetingKey": f"user-{n}"}, f"user-{n}")
    # Found by search: the first two and the last two points of the line under the salt `edge`.
    for unit, at in [("edge-24106", 0), ("edge-188057", 1), ("edge-777282", 999_998), ("edge-3816613", 999_999)]:
        assert point("edge", unit) == at
        serves("tail", {"targetingKey": unit}, unit)
        serves("head", {"targetingKey": unit}, unit)
    for length in (1, 16, 17, 128, 129, 240, 241, 1000):
        unit = "".join(chr(97 + n % 26) for n in range(length))
        serves("half", {"targetingKey": unit}, unit)
    for n in range(20):
        variant = owner([(name, "5") for name in names], point("twenty", f"user-{n}"))
        t.case("twenty", {"targetingKey": f"user-{n}"}, variant.upper(), variant, "Otherwise")
    return t


def places():
    t = Table("places", "Order, requirements, segments in segments, conditions in conditions, paths, and every default.")
    on, off = (True, "on"), (False, "off")
    t.flags.update({
        "default": {},
        "switched-off": {"enabled": False, "otherwise": "on", "rules": [{"name": "r", "if": {"attribute": "a", "exists": False}, "serve": "on"}]},
        "yes-no": {"variants": {"no": False, "yes": True}},
        "only": {"variants": {"only": "x"}, "offVariant": "only"},
        "falsy": {"variants": {"zero": 0, "minus": -1}, "offVariant": "zero", "otherwise": "minus"},
        "fraction": {"variants": {"a": Raw("1.0"), "b": Raw("0.1")}, "offVariant": "a", "otherwise": "b"},
        "text": {"variants": {"empty": "", "long": "e\u0301 😀 \" \\ \n"}, "offVariant": "empty", "otherwise": "long"},
        "object": {"variants": {"o": {"b": [1, Raw("2.50"), None], "a": {}}, "l": []}, "offVariant": "l", "otherwise": "o"},
        "parent": {"variants": {"a": "A", "b": "B", "c": "C"}, "offVariant": "c", "rules": [{"name": "is a", "if": {"attribute": "p", "equals": "a"}, "serve": "a"},
                   {"name": "is b", "if": {"attribute": "p", "equals": "b"}, "serve": "b"}]},
        "child": {"requires": [{"flag": "parent", "serves": ["b", "a"]}], "otherwise": "on"},
        "child-off": {"requires": [{"flag": "parent", "serves": ["c"]}], "otherwise": "on"},
        "grandchild": {"requires": [{"flag": "child", "serves": ["on"]}, {"flag": "yes-no", "serves": ["no"]}], "otherwise": "on"},
        "orphan": {"requires": [{"flag": "switched-off", "serves": ["on"]}, {"flag": "parent", "serves": ["a"]}], "otherwise": "on"},
        "content": {"requires": [{"flag": "switched-off", "serves": ["off"]}], "otherwise": "on"},
        "first-wins": {"variants": {"1": 1, "2": 2, "3": 3}, "offVariant": "3", "rules": [
            {"name": "one", "if": {"attribute": "n", "atLeast": 1}, "serve": "1"}, {"name": "two", "if": {"attribute": "n", "atLeast": 0}, "serve": "2"},
            {"name": "again", "if": {"attribute": "n", "atLeast": 1}, "serve": "3"}]},
        "off-arm": {"rules": [{"name": "nobody", "if": {"attribute": "n", "exists": True}, "serve": {"split": {"on": 0, "off": 100}}},
                    {"name": "all", "if": {"attribute": "n", "exists": True}, "serve": "on"}]},
        "no-unit": {"variants": {"x": "X", "y": "Y", "z": "Z"}, "offVariant": "z", "rules": [{"name": "by", "if": {"attribute": "n", "exists": True},
                    "serve": {"split": [{"x": 50}, {"y": 50}], "by": "unit"}}], "otherwise": "x"},
        "whole": {"rules": [{"name": "w", "if": {"attribute": "n", "exists": True}, "serve": {"split": [{"off": 0}, {"on": 60}, {"on": 40}], "by": "unit"}}]},
        "whole-off": {"otherwise": {"split": {"on": 0, "off": 100}}},
        "rollout-all": {"rollout": 100},
        "rollout-none": {"rollout": 0},
        "seg-a": {"rules": [{"name": "in a", "if": {"segment": "a"}, "serve": "on"}]},
        "seg-by": {"rules": [{"name": "in by", "if": {"segment": "by"}, "serve": "on"}]},
        "seg-nested": {"rules": [{"name": "in n", "if": {"segment": "nested"}, "serve": "on"}]},
        "seg-empty": {"rules": [{"name": "e", "if": {"segment": "empty"}, "serve": "on"}]},
        "seg-not": {"rules": [{"name": "out", "if": {"not": {"segment": "a"}}, "serve": "on"}]},
        "name's (odd) – rule": {} ,
    })
    del t.flags["name's (odd) – rule"]
    t.flags["odd-name"] = {"rules": [{"name": "it's (odd) – 日本", "if": {"attribute": "n", "exists": True}, "serve": "on"}]}
    t.segments.update({
        "a": {"include": ["u-1", "both", "17"], "exclude": ["u-2", "both"], "if": {"attribute": "mail", "endsWith": "@example.com"}},
        "by": {"by": "company.id", "include": ["acme", "42"], "exclude": ["globex"], "if": {"attribute": "plan", "equals": "gold"}},
        "nested": {"exclude": ["u-3"], "if": {"all": [{"segment": "a"}, {"not": {"segment": "by"}}]}},
        "empty": {},
    })
    for key, served in [("default", off), ("yes-no", (False, "no")), ("only", ("x", "only")), ("falsy", (-1, "minus")), ("fraction", (Raw("0.1"), "b")),
                        ("text", ("e\u0301 😀 \" \\ \n", "long")), ("object", ({"a": {}, "b": [1, Raw("2.5"), None]}, "o")), ("whole-off", off), ("rollout-all", on), ("rollout-none", (False, "off"))]:
        t.case(key, {}, *served, "Otherwise")
        t.case(key, {"targetingKey": "u"}, *served, "Otherwise")
    t.case("switched-off", {}, *off, "Disabled")
    t.case("missing", {"targetingKey": "u"}, None, None, "NotFound")
    t.case("DEFAULT", {"targetingKey": "u"}, None, None, "NotFound")
    for p, child, child_off in [("a", None, "parent"), ("b", None, "parent"), ("c", "parent", None), (None, "parent", None)]:
        context = {"p": p}
        for key, unmet in (("child", child), ("child-off", child_off), ("grandchild", "child" if child else None)):
            served, reason = (off, f"Requirement({unmet})") if unmet else (on, "Otherwise")
            t.case(key, context, *served, reason)
        t.case("orphan", context, *off, "Requirement(switched-off)")
        t.case("content", context, *on, "Otherwise")
    for n, value, variant, reason in [(5, 1, "1", "Rule(one)"), (1, 1, "1", "Rule(one)"), (Raw("0.5"), 2, "2", "Rule(two)"), (-1, 3, "3", "Otherwise"), ("1", 3, "3", "Otherwise")]:
        t.case("first-wins", {"n": n}, value, variant, reason)
    t.case("off-arm", {"targetingKey": "u", "n": 1}, *off, "Rule(nobody)")
    t.case("off-arm", {"n": 1}, *off, "Rule(nobody)")
    t.case("off-arm", {}, *off, "Otherwise")
    t.case("no-unit", {"targetingKey": "u", "n": 1}, "Z", "z", "NoUnit")
    t.case("no-unit", {"targetingKey": "u", "n": 1, "unit": ["a"]}, "Z", "z", "NoUnit")
    t.case("no-unit", {"targetingKey": "u"}, "X", "x", "Otherwise")
    t.case("no-unit", {"n": 1, "unit": "acme"}, *(("X", "x") if point("no-unit", "acme") < 500_000 else ("Y", "y")), "Rule(by)")
    t.case("whole", {"n": 1}, *on, "Rule(w)")
    t.case("whole", {}, *off, "Otherwise")
    t.case("odd-name", {"n": 1}, *on, "Rule(it's (odd) – 日本)")

    def segment(key, name, context, inside):
        served, reason = (on, f"Rule({name})") if inside else (off, "Otherwise")
        t.case(key, context, *served, reason)

    mail = {"mail": "a@example.com"}
    for context, inside in [({"targetingKey": "u-1"}, True), ({"targetingKey": "U-1"}, False), ({"targetingKey": "u-2"}, False), ({"targetingKey": "u-2", **mail}, False), ({"targetingKey": "both"}, False),
                            ({"targetingKey": "u-9"}, False), ({"targetingKey": "u-9", **mail}, True), (mail, True), ({}, False), ({"targetingKey": 17}, True), ({"targetingKey": "17"}, True)]:
        segment("seg-a", "in a", context, inside)
        segment("seg-not", "out", context, not inside)
        segment("seg-nested", "in n", context, inside)
        segment("seg-empty", "e", context, False)
    for context, inside in [({"company": {"id": "acme"}}, True), ({"company": {"id": "globex"}, "plan": "gold"}, False), ({"company": {"id": 42}}, True), ({"company": {"id": Raw("42.0")}}, True),
                            ({"company.id": "acme"}, True), ({"plan": "gold"}, True), ({"targetingKey": "acme"}, False), ({"company": {"id": ["acme"]}}, False), ({"company": "acme"}, False)]:
        segment("seg-by", "in by", context, inside)
    segment("seg-nested", "in n", {"targetingKey": "u-3", **mail}, False)
    segment("seg-nested", "in n", {"targetingKey": "u-1", "plan": "gold"}, False)
    paths = {
        "plain": ("a", [({"a": "x"}, True), ({"A": "x"}, False), ({"a": {"a": "x"}}, False)]),
        "two": ("a.b", [({"a": {"b": "x"}}, True), ({"a.b": "x"}, True), ({"a.b": "y", "a": {"b": "x"}}, False), ({"a.b": None, "a": {"b": "x"}}, True), ({"a": "x"}, False), ({"a": [{"b": "x"}]}, False),
                        ({"a": {"b": ["y", "x"]}}, True), ({"a": {"b": None}}, False)]),
        "three": ("a.b.c", [({"a": {"b": {"c": "x"}}}, True), ({"a.b": {"c": "x"}}, False), ({"a": {"b.c": "x"}}, False), ({"a.b.c": "x"}, True)]),
        "empty": ("a..b", [({"a": {"": {"b": "x"}}}, True), ({"a": {"b": "x"}}, False), ({"a..b": "x"}, True)]),
        "edge": (".", [({".": "x"}, True), ({"": {"": "x"}}, True), ({"": "x"}, False)]),
        "number": ("a.0", [({"a": ["x"]}, False), ({"a": {"0": "x"}}, True)]),
        "key": ("targetingKey", [({"targetingKey": "x"}, True), ({"targetingKey": "y"}, False), ({}, False)]),
        "below-key": ("targetingKey.a", [({"targetingKey": "x"}, False), ({"targetingKey.a": "x"}, True)]),
    }
    for name, (path, rows) in paths.items():
        t.test(f"path-{name}", {"attribute": path, "equals": "x"})
        for context, holds in rows:
            t.holds(f"path-{name}", context, holds)
    t.test("key-number", {"attribute": "targetingKey", "equals": "17"})
    t.holds("key-number", {"targetingKey": 17}, True)
    t.test("key-exists", {"attribute": "targetingKey", "exists": True})
    for key, holds in (("u", True), ("", False), (None, False), (0, True)):
        t.holds("key-exists", {"targetingKey": key}, holds)
    yes, no = {"attribute": "a", "exists": True}, {"attribute": "a", "exists": False}
    trees = [({"all": [yes]}, True), ({"all": [yes, no]}, False), ({"any": [no, yes]}, True), ({"any": [no]}, False), ({"not": no}, True), ({"not": {"not": yes}}, True),
             ({"not": {"all": [yes, no]}}, True), ({"any": [{"all": [yes, no]}, {"not": {"any": [no, no]}}]}, True), ({"all": [{"any": [no, yes]}, {"not": no}, yes]}, True),
             ({"not": {"attribute": "b", "equals": "x"}}, True), ({"not": {"attribute": "b", "atLeast": 1}}, True), ({"not": {"attribute": "a", "atLeast": 1}}, True)]
    for n, (tree, holds) in enumerate(trees):
        t.test(f"tree-{n}", tree)
        t.holds(f"tree-{n}", {"a": "1"}, holds)
    return t


def standing():
    t = Table("standing", "Kills, archived flags, and entries that are refused.")
    t.flags.update({
        "killed": {"rollout": 100},
        "killed-text": {"variants": {"a": "A", "b": "B"}, "offVariant": "b", "rules": [{"name": "r", "if": {"attribute": "x", "exists": True}, "serve": "a"}], "otherwise": "a"},
        "killed-disabled": {"enabled": False, "otherwise": "on"},
        "killed-json": {"variants": {"n": [1, Raw("1.0")], "f": {"k": None}}, "offVariant": "n", "otherwise": "f"},
        "needs-killed": {"requires": [{"flag": "killed", "serves": ["on"]}], "otherwise": "on"},
        "needs-killed-off": {"requires": [{"flag": "killed", "serves": ["off"]}], "otherwise": "on"},
        "killed-and-needs": {"requires": [{"flag": "alive", "serves": ["off"]}], "otherwise": "on"},
        "archived": {"rollout": 100},
        "alive": {"rollout": 100},
        "odd-kill": {"rollout": 100},
        "empty-kill": {"rollout": 100},
        "other-kill": {"rollout": 100},
    })
    t.more["archive"] = ["archived"]
    t.more["kill"] = ["killed", "killed-text", "killed-disabled", "killed-json", "killed-and-needs"]
    t.more["forge"] = [
        {"kind": 1, "key": "later", "text": '{"variants":{"off":false,"on":true},"offVariant":"off","otherwise":"on","since":2}'},
        {"kind": 1, "key": "broken", "text": "not JSON"},
        {"kind": 1, "key": "half-split", "text": '{"otherwise":{"split":[{"on":50}]}}'},
        {"kind": 1, "key": "lost", "text": '{"rules":[{"name":"r","if":{"segment":"nowhere"},"serve":"on"}]}'},
        {"kind": 1, "key": "leans", "text": '{"requires":[{"flag":"broken","serves":["on"]}],"otherwise":"on"}'},
        {"kind": 1, "key": "circle-a", "text": '{"requires":[{"flag":"circle-b","serves":["on"]}],"otherwise":"on"}'},
        {"kind": 1, "key": "circle-b", "text": '{"requires":[{"flag":"circle-a","serves":["on"]}],"otherwise":"on"}'},
        {"kind": 1, "key": "sibling", "text": '{"otherwise":"on"}'},
        {"kind": 3, "key": "odd-kill", "text": "not JSON"},
        {"kind": 3, "key": "empty-kill", "text": "{}"},
        {"kind": 3, "key": "other-kill", "text": '{"offVariant":"dark","value":false,"since":2}'},
        {"kind": 3, "key": "broken", "text": '{"offVariant":"off","value":"closed"}'},
        {"kind": 3, "key": "never-defined", "text": '{"offVariant":"off","value":7,"by":"x","at":"2026-01-01T00:00:00Z"}'},
        {"kind": 3, "key": "never-defined-either", "text": ""},
    ]
    off = (False, "off")
    for context in ({}, {"targetingKey": "u", "x": 1}):
        t.case("killed", context, *off, "Killed")
        t.case("killed-text", context, "B", "b", "Killed")
        t.case("killed-disabled", context, *off, "Killed")
        t.case("killed-json", context, [1, Raw("1.0")], "n", "Killed")
        t.case("killed-and-needs", context, *off, "Killed")
        t.case("needs-killed", context, *off, "Requirement(killed)")
        t.case("needs-killed-off", context, True, "on", "Otherwise")
        t.case("archived", context, None, None, "NotFound")
        t.case("alive", context, True, "on", "Otherwise")
        t.case("odd-kill", context, *off, "Killed")
        t.case("empty-kill", context, *off, "Killed")
        t.case("other-kill", context, False, "dark", "Killed")
        # All of one change, and one of it is refused: all are. Kills are not.
        for key in ("later", "half-split", "lost", "leans", "circle-a", "circle-b", "sibling"):
            t.case(key, context, None, None, "Refused")
        t.case("broken", context, "closed", "off", "Killed")
        t.case("never-defined", context, 7, "off", "Killed")
        t.case("never-defined-either", context, None, None, "Killed")
    return t


def reading():
    """Contexts and definitions as text: what a reader makes of members that come twice, of numbers, of nothing."""
    t = Table("reading", "How contexts are read: members that come twice, null, numbers by how they are written, nesting, keys that are numbers.")
    t.test("is-1", {"attribute": "a", "equals": 1})
    t.test("is-2", {"attribute": "a", "equals": Raw("2e0")})
    t.test("is-text-1", {"attribute": "a", "equals": "1"})
    t.test("there", {"attribute": "a", "exists": True})
    t.test("path", {"attribute": "a.b", "equals": 1})
    t.test("large", {"attribute": "a", "equals": Raw("9223372036854775808")})
    t.test("small", {"attribute": "a", "equals": Raw("-9223372036854775808")})
    t.test("zero", {"attribute": "a", "equals": Raw("-0.0")})
    t.test("key-1", {"attribute": "targetingKey", "equals": "1"})
    t.test("key-number", {"attribute": "targetingKey", "equals": 1})
    t.test("key-large", {"attribute": "targetingKey", "equals": "18446744073709551615"})
    for text in ("1", "1.0", "1e0", "10e-1", "0.1E+1", "1.0000000000000000000"):
        t.holds("is-1", Raw(f'{{"a": {text}}}'), True)
        t.holds("is-text-1", Raw(f'{{"a": {text}}}'), False)
        t.holds("is-2", Raw(f'{{"a": [{text}, 2]}}'), True)
    t.holds("is-1", Raw('{"a": 2, "a": 1}'), True)
    t.holds("is-1", Raw('{"a": 1, "a": 2}'), False)
    t.holds("is-1", Raw('{"a": 1, "\\u0061": 2}'), False)
    t.holds("there", Raw('{"a": 1, "a": null}'), False)
    t.holds("there", Raw('{"a": null, "a": 1}'), True)
    t.holds("path", Raw('{"a": {"b": 2, "b": 1}}'), True)
    t.holds("path", Raw('{"a": {"b": 1}, "a": {"c": 1}}'), False)
    t.holds("path", Raw('{"a.b": null, "a": {"b": 1}}'), True)
    t.holds("path", Raw('{"a.b": 2, "a": {"b": 1}}'), False)
    for value, there in (("[]", True), ("{}", True), ('""', True), ("[null]", True), ("[[null]]", True), ('{"b": null}', True), ("null", False)):
        t.holds("there", Raw(f'{{"a": {value}}}'), there)
    for text in ("9223372036854775808", "9223372036854775808.0", "9.223372036854775808e18", "9223372036854775807.9", "9223372036854775809"):
        t.holds("large", Raw(f'{{"a": {text}}}'), True)
    t.holds("large", Raw('{"a": 9223372036854775807}'), False)
    t.holds("small", Raw('{"a": -9223372036854775808}'), True)
    t.holds("small", Raw('{"a": -9223372036854775809}'), True)
    t.holds("small", Raw('{"a": -9223372036854775807}'), False)
    for text in ("0", "-0", "0.0", "-0.0", "0e999", "1e-999", "-1e-400"):
        t.holds("zero", Raw(f'{{"a": {text}}}'), True)
    t.holds("zero", Raw('{"a": 5e-324}'), False)
    t.holds("key-1", Raw('{"targetingKey": 1}'), True)
    t.holds("key-1", Raw('{"targetingKey": "2", "targetingKey": 1}'), True)
    t.holds("key-1", Raw('{"targetingKey": [], "targetingKey": "1"}'), True)
    t.holds("key-1", Raw('{"targetingKey": "1", "targetingKey": null}'), False)
    t.holds("key-1", Raw('{"targetingKey": "1", "targetingKey": ""}'), False)
    t.holds("key-number", Raw('{"targetingKey": 1}'), False)
    t.holds("key-large", Raw('{"targetingKey": 18446744073709551615}'), True)
    t.holds("there", Raw('{"a": ' + "[" * 126 + "]" * 126 + "}"), True)
    t.holds("there", Raw('{"a": ' + '{"b": ' * 125 + "{}" + "}" * 125 + "}"), True)
    # Letters whose lower case came with Unicode 15 to 17, with simple mapping only, and without any.
    pairs = (("\u1c89", "\u1c8a"), ("\ua7cb", "\u0264"), ("\ua7da", "\ua7db"), ("\U00016ea0", "\U00016ebb"), ("\u1e9e", "\u00df"),
             ("\u10a0", "\u2d00"), ("\u13a0", "\uab70"), ("\u1c90", "\u10d0"), ("\u2126", "\u03c9"), ("\u212a", "k"), ("\u03f4", "\u03b8"))
    for n, (upper, lower) in enumerate(pairs):
        for operator in ("equals", "startsWith", "endsWith", "contains"):
            t.test(f"case-{operator}-{n}", {"attribute": "a", operator: upper, "ignoreCase": True})
            t.holds(f"case-{operator}-{n}", {"a": lower}, True)
    for n, (one, other) in enumerate((("\u017f", "s"), ("\u03c2", "\u03c3"), ("\u0131", "i"), ("\ufb01", "fi"), ("\u00b5", "\u03bc"), ("\u1e9e", "ss"))):
        t.test(f"no-case-{n}", {"attribute": "a", "equals": one, "ignoreCase": True})
        t.holds(f"no-case-{n}", {"a": other}, False)
        t.holds(f"no-case-{n}", {"a": other.upper()}, False)
    # Requirements at their edges, and networks that are read as text.
    for n, (text, versions) in enumerate((
        (" x ", {"1.2.3": True, "0.0.0": True, "1.2.3-a": False}),
        ("X", {"1.2.3+b": True, "1": False}),
        (">=1.2.3-a, <2", {"1.2.3-b": True, "1.2.4-b": False, "1.2.4": True, "2.0.0-a": False}),
        ("<1.2.3, >=1.2.2-a", {"1.2.2-b": True, "1.2.3-a": False, "1.2.2": True}),
        ("~0.0.1-a", {"0.0.1-a": True, "0.0.2": True, "0.1.0": False, "0.0.2-a": False}),
        ("^1, =1.2.3-a", {"1.2.3-a": True, "1.2.3": False}),
        ("^1.1, =1.2.3-a", {"1.2.3-a": True}),
        ("1.*, =1.2.3-a", {"1.2.3-a": False}),
        (">1.2.3-18446744073709551615", {"1.2.3-18446744073709551616": True, "1.2.3-9": False, "1.2.3-a": True}),
    )):
        t.test(f"version-{n}", {"attribute": "a", "semver": text})
        for version, holds in versions.items():
            t.holds(f"version-{n}", {"a": version}, holds)
    return t


def bounds():
    """Where an evaluation stops: 10,000 things."""
    t = Table("bounds", "One evaluation looks at 10,000 things, in the order in which they are reached; what lies beyond does not hold.")
    use = lambda key: {"segment": key}
    rules = lambda *conditions: {"rules": [{"name": f"r{n}", "if": c, "serve": "on"} for n, c in enumerate(conditions)]}
    t.segments["empty"] = {}
    t.segments["all"] = {"if": {"attribute": "nowhere", "exists": False}}
    # Each look at a hundred is the segment itself and 99 empty ones.
    t.segments["hundred"] = {"if": {"any": [use("empty")] * 99}}
    for n in (98, 99, 100):
        t.flags[f"hundreds-{n}"] = rules({"any": [use("hundred")] * n}, {"any": [use("empty")] * 99 + [use("all")]})
        t.flags[f"not-{n}"] = rules({"any": [use("hundred")] * n}, {"not": {"any": [use("empty")] * 99 + [use("all")]}})
    # 100 n, then 99, then one more: the last is the 10,000th where n is 99.
    for n, reached in ((98, True), (99, True), (100, False)):
        t.case(f"hundreds-{n}", {}, *((True, "on", "Rule(r1)") if reached else (False, "off", "Otherwise")))
        t.case(f"not-{n}", {}, *((False, "off", "Otherwise") if reached else (True, "on", "Rule(r1)")))
    t.flags["one-too-many"] = rules({"any": [use("hundred")] * 99}, {"any": [use("empty")] * 100}, use("all"))
    t.case("one-too-many", {}, False, "off", "Otherwise")
    # What is not looked at does not count: the first that holds ends `any`.
    t.flags["short"] = rules({"all": [{"any": [use("all"), use("hundred")]}] * 200 + [{"not": use("all")}]}, use("all"))
    t.case("short", {}, True, "on", "Rule(r1)")
    # Requirements count too, and those of required flags.
    t.flags["leaf"] = {"otherwise": "on"}
    t.flags["costly"] = rules({"any": [use("hundred")] * 99}, use("all"))
    t.flags["pays"] = {"requires": [{"flag": "leaf", "serves": ["on"]}, {"flag": "costly", "serves": ["on"]}], **rules(use("all"))}
    t.case("pays", {}, True, "on", "Rule(r0)")
    t.flags["pays-twice"] = {"requires": [{"flag": "costly", "serves": ["on"]}, {"flag": "pays", "serves": ["on"]}]}
    t.case("pays-twice", {}, False, "off", "Requirement(pays)")
    t.flags["chain-0"] = {"otherwise": "on"}
    t.segments["link-0"] = {"include": ["u"]}
    for n in range(1, 9):
        t.flags[f"chain-{n}"] = {"requires": [{"flag": f"chain-{n - 1}", "serves": ["on"]}], "otherwise": "on"}
        t.segments[f"link-{n}"] = {"if": use(f"link-{n - 1}")}
    t.flags["links"] = rules(use("link-8"))
    t.case("chain-8", {}, True, "on", "Otherwise")
    t.case("links", {"targetingKey": "u"}, True, "on", "Rule(r0)")
    t.case("links", {"targetingKey": "v"}, False, "off", "Otherwise")
    return t


print(sum(table().write() for table in (types, strings, numbers, moments, versions, addresses, units, places, standing, reading, bounds)), "in all")
