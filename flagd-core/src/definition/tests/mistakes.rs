//! One row per mistake: what was written, where the problem is, what it says and how to mend it.

use crate::definition::{parse_file, parse_flag, parse_segment, parse_stored_flag};
use crate::key::{FlagKey, SegmentKey};
use crate::problem::Problem;

/// Written, path, part of the message, hint ("" for none).
type Row = (&'static str, &'static str, &'static str, &'static str);

fn problems_of_flag(text: &str) -> Vec<Problem> {
    parse_flag(&FlagKey::new("k").unwrap(), text).expect_err(text)
}

fn check(row: &Row, problems: &[Problem]) {
    let (text, path, message, hint) = row;
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let [problem] = problems else { panic!("one problem expected in {text}: {shown:#?}") };
    assert_eq!(problem.path, *path, "{text}: {problem}");
    assert!(problem.message.contains(message), "{text}: {problem}");
    assert_eq!(problem.hint.as_deref().unwrap_or_default(), *hint, "{text}: {problem}");
    assert!(problem.position.is_some(), "{text}: {problem}");
}

#[test]
fn mistakes_in_json() {
    let rows: &[Row] = &[
        ("", "", "EOF while parsing a value", ""),
        ("{", "", "EOF while parsing an object", ""),
        (r#"{"a":1,}"#, "", "trailing comma", ""),
        (r#"{"enabled": true} x"#, "", "trailing characters", ""),
        (r#"{"enabled": tru}"#, "", "expected ident", ""),
        ("{'enabled': true}", "", "key must be a string", ""),
        ("[]", "", "this must be a flag, not a list", ""),
        ("null", "", "this must be a flag, not null", "leave the member out instead"),
        (r#"{"description":"\ud800"}"#, "description", "half of a surrogate pair", ""),
        (r#"{"\ud800":1}"#, "", "half of a surrogate pair", ""),
        (r#"{"enabled":true,"enabled":true}"#, "enabled", "`enabled` is given twice", ""),
        (r#"{"enabled":true,"en\u0061bled":true}"#, "enabled", "`enabled` is given twice", ""),
    ];
    for row in rows {
        check(row, &problems_of_flag(row.0));
    }
}

#[test]
fn mistakes_in_the_members_of_a_flag() {
    let rows: &[Row] = &[
        (r#"{"enable":true}"#, "enable", "unknown member `enable`", "did you mean \"enabled\"?"),
        (
            r#"{"odd name":1}"#,
            "[\"odd name\"]",
            "unknown member `odd name`",
            "a flag has `variants`, `offVariant`, `enabled`, `salt`, `requires`, `rules`, `otherwise`, `rollout`, `description`, `owner`, `tags`, `metadata`",
        ),
        (
            r#"{"enabled":"true"}"#,
            "enabled",
            "must be true or false, not a string",
            "write true without quotes",
        ),
        (r#"{"enabled":1}"#, "enabled", "must be true or false, not a number", ""),
        (r#"{"enabled":null}"#, "enabled", "must be true or false, not null", "leave the member out instead"),
        (r#"{"salt":""}"#, "salt", "a salt must not be empty", ""),
        (r#"{"salt":7}"#, "salt", "must be a string, not a number", "write \"7\""),
        (r#"{"description":["a"]}"#, "description", "must be a string, not a list", ""),
        (r#"{"owner":""}"#, "owner", "`owner` must not be empty", ""),
        (r#"{"tags":"a"}"#, "tags", "must be a list of strings, not a string", "write [\"a\"]"),
        (r#"{"tags":["a","b","a"]}"#, "tags[2]", "the tag `a` is given twice", ""),
        (r#"{"tags":["a",1]}"#, "tags[1]", "must be a string, not a number", "write \"1\""),
        (r#"{"metadata":"a"}"#, "metadata", "must be an object, not a string", ""),
        (r#"{"metadata":{"a":{"b":1,"b":2}}}"#, "metadata.a.b", "`b` is given twice", ""),
        (
            r#"{"metadata":{"a":[1,1e999]}}"#,
            "metadata.a[1]",
            "1e999 cannot be held exactly",
            "write it as a string, or with fewer digits",
        ),
    ];
    for row in rows {
        check(row, &problems_of_flag(row.0));
    }
}

#[test]
fn mistakes_in_variants() {
    let rows: &[Row] = &[
        (r#"{"variants":{}}"#, "variants", "at least one variant", "leave `variants` out for on and off"),
        (r#"{"variants":["on"]}"#, "variants", "must be an object of names and values, not a list", ""),
        (r#"{"variants":{"a":null},"offVariant":"a"}"#, "variants.a", "must not be null", ""),
        (
            r#"{"variants":{"a":1,"b":"x"},"offVariant":"a"}"#,
            "variants.b",
            "this one is of type string, `a` of type number",
            "",
        ),
        (
            r#"{"variants":{"a b":1,"c":2},"offVariant":"c"}"#,
            "variants[\"a b\"]",
            "` ` at byte 1 is not one of them",
            "",
        ),
        (r#"{"variants":{"a":1,"a":2},"offVariant":"a"}"#, "variants.a", "`a` is given twice", ""),
        (
            r#"{"variants":{"a":18446744073709551616},"offVariant":"a"}"#,
            "variants.a",
            "cannot be held exactly",
            "write it as a string, or with fewer digits",
        ),
        (
            r#"{"variants":{"a":-9223372036854775809},"offVariant":"a"}"#,
            "variants.a",
            "cannot be held exactly",
            "write it as a string, or with fewer digits",
        ),
        (
            r#"{"variants":{"a":0.12345678901234567890},"offVariant":"a"}"#,
            "variants.a",
            "cannot be held exactly",
            "write it as a string, or with fewer digits",
        ),
        (
            r#"{"variants":{"a":{"b":[1e400]}},"offVariant":"a"}"#,
            "variants.a.b[0]",
            "cannot be held exactly",
            "write it as a string, or with fewer digits",
        ),
        (
            r#"{"variants":{"a":"x","b":"y"}}"#,
            "",
            "`offVariant` is missing",
            "name the variant that a killed or disabled flag serves",
        ),
        (r#"{"variants":{"a":"x","off":"y"}}"#, "", "`offVariant` is missing", "add \"offVariant\": \"off\""),
        (
            r#"{"variants":{"a":true,"b":true}}"#,
            "",
            "`offVariant` is missing",
            "name the variant that a killed or disabled flag serves",
        ),
        (r#"{"variants":{"a":false}}"#, "", "`offVariant` is missing", "add \"offVariant\": \"a\""),
        (r#"{"offVariant":"of"}"#, "offVariant", "no variant `of`", "did you mean \"off\"?"),
        (r#"{"offVariant":false}"#, "offVariant", "a variant is named, not valued", "did you mean \"off\"?"),
        (r#"{"offVariant":3}"#, "offVariant", "must be the name of a variant, not a number", ""),
    ];
    for row in rows {
        check(row, &problems_of_flag(row.0));
    }
}

#[test]
fn mistakes_in_requirements() {
    let rows: &[Row] = &[
        (r#"{"requires":{}}"#, "requires", "must be a list of requirements, not an object", ""),
        (r#"{"requires":["r"]}"#, "requires[0]", "must be a requirement, not a string", ""),
        (
            r#"{"requires":[{"flag":"r"}]}"#,
            "requires[0]",
            "`serves` is missing",
            "such as {\"flag\": \"payments-v2\", \"serves\": [\"on\"]}",
        ),
        (
            r#"{"requires":[{"serves":["on"]}]}"#,
            "requires[0]",
            "`flag` is missing",
            "such as {\"flag\": \"payments-v2\", \"serves\": [\"on\"]}",
        ),
        (r#"{"requires":[{"flag":"k","serves":["on"]}]}"#, "requires[0].flag", "cannot require itself", ""),
        (r#"{"requires":[{"flag":"r r","serves":["on"]}]}"#, "requires[0].flag", "` ` at byte 1", ""),
        (r#"{"requires":[{"flag":"r","serves":[]}]}"#, "requires[0].serves", "must not be empty", ""),
        (
            r#"{"requires":[{"flag":"r","serves":"on"}]}"#,
            "requires[0].serves",
            "must be a list of variants",
            "write [\"on\"]",
        ),
        (r#"{"requires":[{"flag":"r","serves":["-"]}]}"#, "requires[0].serves[0]", "`-` at byte 0", ""),
        (
            r#"{"requires":[{"flag":"r","serves":["a"]},{"flag":"r","serves":["b"]}]}"#,
            "requires[1]",
            "`r` is required twice",
            "name all variants that satisfy in one `serves`",
        ),
        (
            r#"{"requires":[{"flag":"r","serves":["a"],"server":1}]}"#,
            "requires[0].server",
            "unknown member",
            "did you mean \"serves\"?",
        ),
    ];
    for row in rows {
        check(row, &problems_of_flag(row.0));
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one row per case")]
fn mistakes_in_rules_and_splits() {
    let rows: &[Row] = &[
        (
            r#"{"rules":[{"if":{"segment":"s"},"serve":"on"}]}"#,
            "rules[0]",
            "`name` is missing",
            "such as \"name\": \"staff\"",
        ),
        (
            r#"{"rules":[{"name":"a","serve":"on"}]}"#,
            "rules[0]",
            "`if` is missing",
            "such as \"if\": {\"segment\": \"staff\"}",
        ),
        (
            r#"{"rules":[{"name":"a","if":{"segment":"s"}}]}"#,
            "rules[0]",
            "`serve` is missing",
            "such as \"serve\": \"on\"",
        ),
        (
            r#"{"rules":[{"name":" a","if":{"segment":"s"},"serve":"on"}]}"#,
            "rules[0].name",
            "no space at either end",
            "",
        ),
        (
            r#"{"rules":[{"name":"a","if":{"segment":"s"},"serve":"on"},{"name":"a","if":{"segment":"t"},"serve":"on"}]}"#,
            "rules[1].name",
            "a rule named `a` comes earlier",
            "give each rule a name of its own",
        ),
        (
            r#"{"rules":[{"name":"a","if":{"segment":"s"},"serve":"onn"}]}"#,
            "rules[0].serve",
            "no variant `onn`",
            "did you mean \"on\"?",
        ),
        (
            r#"{"rules":[{"name":"a","if":{"segment":"s"},"serve":true}]}"#,
            "rules[0].serve",
            "a variant is named, not valued",
            "did you mean \"on\"?",
        ),
        (r#"{"otherwise":"purple"}"#, "otherwise", "no variant `purple`", "its variants are `off`, `on`"),
        (
            r#"{"otherwise":{}}"#,
            "otherwise",
            "`split` is missing",
            "such as \"split\": {\"on\": 25, \"off\": 75}",
        ),
        (
            r#"{"otherwise":{"on":25,"off":75}}"#,
            "otherwise",
            "shares stand in `split`",
            "write {\"split\": {\"on\":25,\"off\":75}}",
        ),
        (
            r#"{"otherwise":{"split":{"on":25,"off":75},"bye":"x"}}"#,
            "otherwise.bye",
            "unknown member",
            "did you mean \"by\"?",
        ),
        (r#"{"otherwise":{"split":{"on":25,"off":75},"by":""}}"#, "otherwise.by", "must not be empty", ""),
        (
            r#"{"otherwise":{"split":{"on":25,"off":74.5}}}"#,
            "otherwise.split",
            "the shares sum to 99.5, not 100",
            "",
        ),
        (
            r#"{"otherwise":{"split":{"on":100,"off":0.0001}}}"#,
            "otherwise.split",
            "the shares sum to 100.0001, not 100",
            "",
        ),
        (r#"{"otherwise":{"split":{}}}"#, "otherwise.split", "the shares sum to 0, not 100", ""),
        (
            r#"{"otherwise":{"split":{"on":50,"of":50}}}"#,
            "otherwise.split.of",
            "no variant `of`",
            "did you mean \"off\"?",
        ),
        (r#"{"otherwise":{"split":{"on":50,"on":50}}}"#, "otherwise.split.on", "given twice", ""),
        (
            r#"{"otherwise":{"split":{"on":"50","off":50}}}"#,
            "otherwise.split.on",
            "must be a percentage as a number",
            "write 50 without quotes",
        ),
        (
            r#"{"otherwise":{"split":{"on":"50%","off":50}}}"#,
            "otherwise.split.on",
            "must be a percentage as a number",
            "write 50 without quotes",
        ),
        (
            r#"{"otherwise":{"split":{"on":33.33333,"off":50}}}"#,
            "otherwise.split.on",
            "at most four decimals",
            "",
        ),
        (r#"{"otherwise":{"split":{"on":-1,"off":50}}}"#, "otherwise.split.on", "from 0 to 100", ""),
        (r#"{"otherwise":{"split":{"on":1e2}}}"#, "otherwise.split.on", "from 0 to 100", ""),
        (
            r#"{"otherwise":{"split":[{"on":25},{"off":74}]}}"#,
            "otherwise.split",
            "the shares sum to 99, not 100",
            "",
        ),
        (r#"{"otherwise":{"split":[]}}"#, "otherwise.split", "the shares sum to 0, not 100", ""),
        (
            r#"{"otherwise":{"split":[{"on":25,"off":75}]}}"#,
            "otherwise.split[0]",
            "a stretch names one variant",
            "such as [{\"on\": 25}, {\"off\": 75}]",
        ),
        (
            r#"{"otherwise":{"split":[{"on":25},{"offf":75}]}}"#,
            "otherwise.split[1].offf",
            "no variant `offf`",
            "did you mean \"off\"?",
        ),
        (
            r#"{"otherwise":{"split":25}}"#,
            "otherwise.split",
            "must be an object of shares or a list of stretches",
            "",
        ),
        (r#"{"rollout":25,"otherwise":"on"}"#, "rollout", "which is stated too", "leave one of the two out"),
        (r#"{"rollout":"25%"}"#, "rollout", "must be a percentage as a number", "write 25 without quotes"),
        (r#"{"rollout":101}"#, "rollout", "from 0 to 100", ""),
        (
            r#"{"rollout":5,"variants":{"a":true,"b":false}}"#,
            "rollout",
            "only for flags with the variants on (true) and off (false)",
            "state \"otherwise\": {\"split\": {...}}",
        ),
        (
            r#"{"rollout":5,"variants":{"on":false,"off":true}}"#,
            "rollout",
            "only for flags with the variants on (true) and off (false)",
            "state \"otherwise\": {\"split\": {...}}",
        ),
    ];
    for row in rows {
        check(row, &problems_of_flag(row.0));
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one row per case")]
fn mistakes_in_conditions() {
    const LIST: &str = "the operators are `equals`, `in`, `startsWith`, `endsWith`, `contains`, `matches`, `lessThan`, \
                        `atMost`, `greaterThan`, `atLeast`, `before`, `after`, `semver`, `cidr`, `exists`";
    let rows: &[Row] = &[
        ("{}", "if", "a condition is one of `all`, `any`, `not`, `segment`, `time`, `attribute`", ""),
        (r#""staff""#, "if", "must be a condition, which is an object, not a string", ""),
        ("[]", "if", "must be an object, not a list", "write {\"all\": [...]}"),
        (r#"{"all":[]}"#, "if.all", "must not be empty", "leave it out, or name at least one condition"),
        (r#"{"any":[]}"#, "if.any", "must not be empty", "leave it out, or name at least one condition"),
        (r#"{"all":{}}"#, "if.all", "must be a list of conditions", ""),
        (
            r#"{"all":[{"segment":"s"}],"any":[{"segment":"s"}]}"#,
            "if",
            "only one of `all`, `any`",
            "put each in an object of its own and list them in \"all\"",
        ),
        (r#"{"segment":"s s"}"#, "if.segment", "` ` at byte 1", ""),
        (
            r#"{"segment":"s","equals":1}"#,
            "if.equals",
            "`equals` does not go with `segment`",
            "it stands beside \"attribute\", in an object of its own",
        ),
        (
            r#"{"equals":1}"#,
            "if",
            "`equals` does not say which attribute",
            "add \"attribute\": \"country\" or the like",
        ),
        (r#"{"attribute":"a"}"#, "if", "names an attribute but no operator", LIST),
        (r#"{"attribute":"","equals":1}"#, "if.attribute", "must not be empty", ""),
        (
            r#"{"attribute":"a","equals":1,"in":[1]}"#,
            "if",
            "a test has one operator; this one has `equals`, `in`",
            "write one test for each and list them in \"all\"",
        ),
        (
            r#"{"attribute":"a","ends_with":"x"}"#,
            "if.ends_with",
            "unknown member `ends_with`",
            "did you mean \"endsWith\"?",
        ),
        (
            r#"{"all":[{"attribute":"a","regex":"x"}]}"#,
            "if.all[0].regex",
            "unknown member `regex`",
            "did you mean \"matches\"?",
        ),
        (
            r#"{"attribute":"a","notIn":["x"]}"#,
            "if.notIn",
            "unknown member `notIn`",
            "wrap the opposite test in {\"not\": ...}",
        ),
        (r#"{"attribute":"a","sounds":"x"}"#, "if.sounds", "unknown member `sounds`", LIST),
        (r#"{"and":[]}"#, "if.and", "unknown member `and`", "did you mean \"all\"?"),
        (r#"{"attribute":"a","equals":["x"]}"#, "if.equals", "not a list", "did you mean \"in\"?"),
        (
            r#"{"attribute":"a","equals":null}"#,
            "if.equals",
            "not null",
            "an absent attribute is tested with \"exists\": false",
        ),
        (
            r#"{"attribute":"a","equals":{}}"#,
            "if.equals",
            "must be a string, a number or a boolean, not an object",
            "",
        ),
        (r#"{"attribute":"a","equals":9223372036854775809}"#, "if.equals", "cannot be held exactly", ""),
        (r#"{"attribute":"a","in":"x"}"#, "if.in", "must be a list, not a string", "write [\"x\"]"),
        (
            r#"{"attribute":"a","in":[]}"#,
            "if.in",
            "must not be empty",
            "nothing is in an empty list: leave the test out",
        ),
        (
            r#"{"attribute":"a","in":["x",null]}"#,
            "if.in[1]",
            "not null",
            "an absent attribute is tested with \"exists\": false",
        ),
        (
            r#"{"attribute":"a","startsWith":""}"#,
            "if.startsWith",
            "the empty text is part of every string",
            "to ask whether there is a value, use \"exists\"",
        ),
        (
            r#"{"attribute":"a","endsWith":["x",1]}"#,
            "if.endsWith[1]",
            "must be a string, not a number",
            "write \"1\"",
        ),
        (
            r#"{"attribute":"a","contains":7}"#,
            "if.contains",
            "must be a string or a list of strings",
            "write \"7\"",
        ),
        (r#"{"attribute":"a","matches":"("}"#, "if.matches", "not a regular expression: unclosed group", ""),
        (r#"{"attribute":"a","matches":"\\w{500}{500}"}"#, "if.matches", "needs more than 1048576 bytes", ""),
        (r#"{"attribute":"a","matches":"a(?=b)"}"#, "if.matches", "look-around", ""),
        (
            r#"{"attribute":"a","matches":"a","ignoreCase":true}"#,
            "if.ignoreCase",
            "does not go with `matches`",
            "begin the pattern with (?i)",
        ),
        (
            r#"{"attribute":"a","lessThan":1,"ignoreCase":true}"#,
            "if.ignoreCase",
            "does not go with `lessThan`",
            "leave it out",
        ),
        (r#"{"attribute":"a","equals":"x","ignoreCase":1}"#, "if.ignoreCase", "must be true or false", ""),
        (
            r#"{"attribute":"a","lessThan":"5"}"#,
            "if.lessThan",
            "must be a number, not a string",
            "write 5 without quotes",
        ),
        (r#"{"attribute":"a","atLeast":9007199254740993}"#, "if.atLeast", "cannot be held exactly", ""),
        (
            r#"{"attribute":"a","before":"2026-11-23"}"#,
            "if.before",
            "not a moment in RFC 3339",
            "write it with an offset, such as \"2026-11-23T08:00:00Z\"",
        ),
        (
            r#"{"attribute":"a","after":1763884800}"#,
            "if.after",
            "must be a string, not a number",
            "write \"1763884800\"",
        ),
        (
            r#"{"attribute":"a","semver":">=two"}"#,
            "if.semver",
            "not a requirement on a version",
            "write it such as \">=2.3.0, <3\"",
        ),
        (
            r#"{"attribute":"a","cidr":"10.0.0.0/33"}"#,
            "if.cidr",
            "neither a network nor an address",
            "write it such as \"10.0.0.0/8\" or \"2001:db8::/32\"",
        ),
        (
            r#"{"attribute":"a","cidr":"10.0.0.0/08"}"#,
            "if.cidr",
            "neither a network nor an address",
            "write it such as \"10.0.0.0/8\" or \"2001:db8::/32\"",
        ),
        (
            r#"{"attribute":"a","cidr":["10.0.0.1","localhost"]}"#,
            "if.cidr[1]",
            "neither a network nor an address",
            "write it such as \"10.0.0.0/8\" or \"2001:db8::/32\"",
        ),
        (r#"{"attribute":"a","exists":"yes"}"#, "if.exists", "must be true or false", ""),
        (
            r#"{"time":{}}"#,
            "if.time",
            "needs `after`, `before` or both",
            "{\"after\": \"2026-11-23T08:00:00Z\"}",
        ),
        (
            r#"{"time":{"after":"soon"}}"#,
            "if.time.after",
            "not a moment in RFC 3339",
            "write it with an offset, such as \"2026-11-23T08:00:00Z\"",
        ),
        (
            r#"{"time":{"from":"2026-11-23T08:00:00Z","after":"2026-11-23T08:00:00Z"}}"#,
            "if.time.from",
            "unknown member",
            "a window of time has `after`, `before`",
        ),
        (
            r#"{"time":{"after":"2026-11-23T08:00:00Z","before":"2026-11-23T08:00:00Z"}}"#,
            "if.time",
            "ends before it begins",
            "swap `after` and `before`",
        ),
    ];
    for row in rows {
        let text = format!(r#"{{"if":{}}}"#, row.0);
        check(row, &parse_segment(&SegmentKey::new("s").unwrap(), &text).expect_err(row.0));
    }
}

#[test]
fn mistakes_in_segments_and_files() {
    let rows: &[Row] = &[
        (r#"{"flag":{}}"#, "flag", "unknown member `flag`", "did you mean \"flags\"?"),
        (r#"{"flags":[]}"#, "flags", "must be an object of flags by key, not a list", ""),
        (r#"{"flags":{"a b":{}}}"#, "flags[\"a b\"]", "a flag key holds only", ""),
        (
            r#"{"flags":{"Team.New":{"enabled":0}}}"#,
            "flags[\"Team.New\"].enabled",
            "must be true or false",
            "",
        ),
        (r#"{"flags":{"a":{},"a":{}}}"#, "flags.a", "`a` is given twice", ""),
        (r#"{"flags":{"a":true}}"#, "flags.a", "must be a flag, not a boolean", ""),
        (r#"{"$schema":1}"#, "$schema", "must be a string", "write \"1\""),
        (
            r#"{"segments":{"s":{"includes":["a"]}}}"#,
            "segments.s.includes",
            "unknown member",
            "did you mean \"include\"?",
        ),
        (
            r#"{"segments":{"s":{"include":"a"}}}"#,
            "segments.s.include",
            "must be a list of units",
            "write [\"a\"]",
        ),
        (
            r#"{"segments":{"s":{"include":[17]}}}"#,
            "segments.s.include[0]",
            "must be a string, not a number",
            "write \"17\"",
        ),
        (
            r#"{"segments":{"s":{"exclude":["a",""]}}}"#,
            "segments.s.exclude[1]",
            "a unit must not be empty",
            "",
        ),
        (
            r#"{"segments":{"s":{"includeParts":4096}}}"#,
            "segments.s.includeParts",
            "unknown member `includeParts`",
            "a segment has `by`, `include`, `exclude`, `if`, `description`, `owner`, `tags`, `metadata`",
        ),
        (r#"{"segments":{"s":{"by":7}}}"#, "segments.s.by", "must be a string", "write \"7\""),
        (
            r#"{"segments":{"s":{"if":{"segment":7}}}}"#,
            "segments.s.if.segment",
            "must be a string",
            "write \"7\"",
        ),
    ];
    for row in rows {
        check(row, &parse_file(row.0).expect_err(row.0));
    }
}

/// What nobody writes by hand: a stored segment whose lists are kept in parts.
#[test]
fn mistakes_in_stored_segments() {
    let rows: &[Row] = &[
        (r#"{"includeParts":4095}"#, "includeParts", "kept in 4096 parts", ""),
        (r#"{"excludeParts":"4096"}"#, "excludeParts", "kept in 4096 parts", ""),
        (r#"{"includeParts":4096.0}"#, "includeParts", "kept in 4096 parts", ""),
        (r#"{"include":[],"includeParts":4096}"#, "includeParts", "`include` is stated too", ""),
    ];
    let key = SegmentKey::new("s").unwrap();
    for row in rows {
        check(row, &parse_segment(&key, row.0).expect_err(row.0));
    }
    let read = parse_segment(&key, r#"{"include":["a"],"excludeParts":4096}"#).unwrap();
    assert_eq!((read.include.listed(), read.exclude), (&["a".into()][..], crate::definition::Units::InParts));
}

#[test]
fn what_is_right_is_read() {
    let file = r#"{
        "$schema": "./flagd.schema.json",
        "flags": {
            "new-checkout": {
                "description": "One-page checkout", "owner": "payments", "tags": ["checkout"], "metadata": { "ticket": "PAY-7" },
                "variants": { "on": true, "off": false }, "offVariant": "off", "enabled": true,
                "requires": [ { "flag": "payments-v2", "serves": ["on"] } ],
                "rules": [
                    { "name": "staff", "if": { "segment": "staff" }, "serve": "on" },
                    { "name": "dach",
                      "if": { "all": [ { "attribute": "country", "in": ["DE", "AT", "CH"] }, { "attribute": "appVersion", "semver": ">=2.3.0" } ] },
                      "serve": { "split": { "on": 25, "off": 75 }, "by": "companyId" } }
                ],
                "otherwise": { "split": { "on": 1.5, "off": 98.5 } }
            },
            "dark-mode": { "rollout": 25 },
            "two": { "variants": { "yes": true, "no": false } }
        },
        "segments": {
            "staff": { "include": ["u-17"], "exclude": [], "if": { "attribute": "email", "endsWith": "@example.com" } },
            "beta-companies": { "by": "companyId", "include": ["globex", "acme", "globex"] }
        }
    }"#;
    let parsed = parse_file(file).unwrap();
    assert_eq!(parsed.flags.len(), 3);
    assert_eq!(parsed.flags["two"].off_variant.as_str(), "no");
    assert_eq!(parsed.flags["new-checkout"].rules.len(), 2);
    assert_eq!(parsed.segments["beta-companies"].include.listed(), ["acme".into(), "globex".into()]);
}

#[test]
fn clients_are_as_strict_about_what_changes_answers() {
    for text in [
        r#"{"rules":[{}]}"#,
        r#"{"otherwise":"purple"}"#,
        r#"{"level":2}"#,
        r#"{"enabled":true,"enabled":true}"#,
    ] {
        assert!(parse_stored_flag(&FlagKey::new("k").unwrap(), text).is_err(), "{text}");
    }
}

#[test]
fn all_problems_of_a_file_are_told_at_once_in_its_order() {
    let problems = parse_file(include_str!("mistakes.json")).unwrap_err();
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(shown.join("\n") + "\n", include_str!("mistakes.golden"));
}

#[test]
fn positions_count_characters_and_lines() {
    let problems = problems_of_flag("{\n  \"description\": \"\u{e9}\u{1f600}\", \"enabled\": 1\n}");
    assert_eq!(problems[0].to_string(), "2:35: enabled: this must be true or false, not a number");
    let problems = problems_of_flag("{\n  \"description\": \"\u{e9}\u{1f600}\" \"enabled\": 1\n}");
    assert_eq!(problems[0].to_string(), "2:23: this is not JSON: expected `,` or `}`");
}
