//! Reads conditions: who is meant by a rule or a segment.

use super::json::{At, Kind, Object, Reader, listed};
use super::value::inexact;
use super::words::{self, Operator};
use super::{Case, Condition, Scalar, Test, number};
use crate::key::SegmentKey;
use crate::limits;
use crate::problem::nearest;
use crate::time::Timestamp;

/// Compiles a pattern of `matches` within the limits; the only way from a pattern's text to a regex.
///
/// # Errors
/// A sentence that says what is wrong with the pattern.
pub(crate) fn compile_pattern(pattern: &str) -> Result<regex::Regex, String> {
    let built = regex::RegexBuilder::new(pattern).size_limit(limits::REGEX_COMPILED_MAX_BYTES).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("this pattern needs more than {limit} bytes when compiled")
        }
        // The crate draws the pattern with a marker over several lines; the last line is the reason.
        other => {
            let text = other.to_string();
            let reason = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
            format!("this is not a regular expression: {reason}")
        }
    })
}

/// Reads a network, or an address as the network of that one address; the only way from text to a network.
pub(crate) fn read_network(text: &str) -> Option<ipnet::IpNet> {
    // The crate takes `10.0.0.0/08`, which some take for octal, as they would in an address.
    if text.split_once('/').is_some_and(|(_, length)| length.len() > 1 && length.starts_with('0')) {
        return None;
    }
    let network = text.parse::<ipnet::IpNet>();
    network.or_else(|_| text.parse::<core::net::IpAddr>().map(ipnet::IpNet::from)).ok()
}

impl<'a> Reader<'a> {
    /// A condition; `depth` is 1 for the outermost.
    pub(super) fn condition(&mut self, at: &At<'_, 'a>, depth: usize) -> Option<Condition> {
        self.conditions += 1;
        if self.conditions > limits::CONDITIONS_MAX {
            if self.conditions == limits::CONDITIONS_MAX + 1 {
                self.problem(at, format!("a definition has at most {} conditions", limits::CONDITIONS_MAX));
            }
            return None;
        }
        if depth > limits::CONDITION_DEPTH_MAX {
            self.problem(at, format!("conditions are nested at most {} deep", limits::CONDITION_DEPTH_MAX));
            return None;
        }
        if at.kind() == Kind::Array {
            self.problem_hint(at, "a condition must be an object, not a list", "write {\"all\": [...]}");
            return None;
        }
        let object = self.members(at, "a condition, which is an object", |_| false)?;
        let unknown = self.unknown_condition_words(at, &object);
        let kinds: Vec<&str> =
            words::CONDITION.iter().copied().filter(|kind| object.get(kind).is_some()).collect();
        let [kind] = kinds.as_slice() else {
            self.not_one_kind(at, &object, &kinds, unknown);
            return None;
        };
        let kind = *kind;
        if kind != "attribute" {
            self.only_member(at, &object, kind);
        }
        let text = object.get(kind)?;
        let inner = at.key(kind, text);
        match kind {
            "all" => self.conditions(&inner, depth).map(Condition::All),
            "any" => self.conditions(&inner, depth).map(Condition::Any),
            "not" => self.condition(&inner, depth + 1).map(|condition| Condition::Not(Box::new(condition))),
            "segment" => {
                let key = self.string(&inner)?;
                match SegmentKey::new(&key) {
                    Ok(key) => Some(Condition::Segment(key)),
                    Err(error) => {
                        self.problem(&inner, error.to_string());
                        None
                    }
                }
            }
            "time" => self.time(&inner),
            _ => self.attribute(at, &object, unknown),
        }
    }

    fn conditions(&mut self, at: &At<'_, 'a>, depth: usize) -> Option<Vec<Condition>> {
        let elements = self.list(at, "a list of conditions", usize::MAX)?;
        if elements.is_empty() {
            self.problem_hint(
                at,
                "this list must not be empty",
                "leave it out, or name at least one condition",
            );
            return None;
        }
        let read = elements.iter().enumerate().map(|(i, text)| self.condition(&at.index(i, text), depth + 1));
        collect(read)
    }

    /// Notes members that no condition has; whether there were any.
    fn unknown_condition_words(&mut self, at: &At<'_, 'a>, object: &Object<'a>) -> bool {
        let mut any = false;
        let known = || {
            words::CONDITION
                .iter()
                .copied()
                .chain(words::OPERATORS.map(Operator::name))
                .chain([words::IGNORE_CASE])
        };
        for member in object.members() {
            let name = member.name.as_ref();
            if known().any(|word| word == name) {
                continue;
            }
            any = true;
            // A word of another system may look like one of ours that means something else: `and`, `any`.
            let hint = words::translated(name).or_else(|| nearest(name, known()));
            let hint = match hint {
                Some("not") if !name.eq_ignore_ascii_case("not") => {
                    "wrap the opposite test in {\"not\": ...}".to_owned()
                }
                Some(word) => format!("did you mean \"{word}\"?"),
                None => format!("the operators are {}", listed(&words::OPERATORS.map(Operator::name))),
            };
            let message = format!("unknown member `{name}`");
            self.note(&at.key(name, member.text), member.key_text, message, Some(hint));
        }
        any
    }

    fn not_one_kind(&mut self, at: &At<'_, 'a>, object: &Object<'a>, kinds: &[&str], unknown: bool) {
        if !kinds.is_empty() {
            let message = format!("a condition is only one of {}", listed(kinds));
            self.problem_hint(at, message, "put each in an object of its own and list them in \"all\"");
            return;
        }
        let operator = object.members().iter().find_map(|member| Operator::named(&member.name));
        match operator {
            Some(operator) if !unknown => {
                let message = format!("`{}` does not say which attribute it tests", operator.name());
                self.problem_hint(at, message, "add \"attribute\": \"country\" or the like");
            }
            None if !unknown => {
                self.problem(at, format!("a condition is one of {}", listed(words::CONDITION)));
            }
            _ => {}
        }
    }

    fn only_member(&mut self, at: &At<'_, 'a>, object: &Object<'a>, kind: &str) {
        for member in object.members() {
            let name = member.name.as_ref();
            if Operator::named(name).is_some() || name == words::IGNORE_CASE {
                let message = format!("`{name}` does not go with `{kind}`");
                let hint = Some("it stands beside \"attribute\", in an object of its own".to_owned());
                self.note(&at.key(name, member.text), member.key_text, message, hint);
            }
        }
    }

    fn time(&mut self, at: &At<'_, 'a>) -> Option<Condition> {
        let object = self.object(at, "a window of time", words::TIME)?;
        let mut side = |name: &str| object.get(name).map(|text| self.moment(&at.key(name, text)));
        let (after, before) = (side("after"), side("before"));
        let (after, before) = match (after, before) {
            (None, None) => {
                self.problem_hint(
                    at,
                    "a window of time needs `after`, `before` or both",
                    "{\"after\": \"2026-11-23T08:00:00Z\"}",
                );
                return None;
            }
            (Some(None), _) | (_, Some(None)) => return None,
            (after, before) => (after.flatten(), before.flatten()),
        };
        if let (Some(from), Some(until)) = (after, before)
            && from >= until
        {
            self.problem_hint(at, "this window of time ends before it begins", "swap `after` and `before`");
            return None;
        }
        Some(Condition::Time { after, before })
    }

    fn moment(&mut self, at: &At<'_, 'a>) -> Option<Timestamp> {
        let text = self.string(at)?;
        let moment = Timestamp::parse(&text);
        if moment.is_none() {
            let hint = "write it with an offset, such as \"2026-11-23T08:00:00Z\"";
            self.problem_hint(at, "this is not a moment in RFC 3339", hint);
        }
        moment
    }

    fn attribute(&mut self, at: &At<'_, 'a>, object: &Object<'a>, unknown: bool) -> Option<Condition> {
        let name = object.get("attribute")?;
        let attribute =
            self.text(&at.key("attribute", name), "the name of an attribute", limits::OPERAND_MAX_BYTES);
        let stated: Vec<Operator> =
            words::OPERATORS.into_iter().filter(|o| object.get(o.name()).is_some()).collect();
        let operator = match stated.as_slice() {
            [operator] => *operator,
            [] if unknown => return None,
            [] => {
                let message = "this test names an attribute but no operator";
                let hint = format!("the operators are {}", listed(&words::OPERATORS.map(Operator::name)));
                self.problem_hint(at, message, hint);
                return None;
            }
            several => {
                let names: Vec<&str> = several.iter().map(|operator| operator.name()).collect();
                let message = format!("a test has one operator; this one has {}", listed(&names));
                self.problem_hint(at, message, "write one test for each and list them in \"all\"");
                return None;
            }
        };
        let case = self.case(at, object, operator);
        let operand = object.get(operator.name())?;
        let test = self.test(&at.key(operator.name(), operand), operator, case?)?;
        Some(Condition::Attribute { attribute: attribute?.into(), test })
    }

    fn case(&mut self, at: &At<'_, 'a>, object: &Object<'a>, operator: Operator) -> Option<Case> {
        let Some(text) = object.get(words::IGNORE_CASE) else { return Some(Case::Sensitive) };
        let at = at.key(words::IGNORE_CASE, text);
        if !operator.knows_case() {
            let hint = match operator {
                Operator::Matches => "begin the pattern with (?i)",
                _ => "leave it out",
            };
            self.problem_hint(&at, format!("`ignoreCase` does not go with `{}`", operator.name()), hint);
            return None;
        }
        Some(if self.boolean(&at)? { Case::Ignore } else { Case::Sensitive })
    }

    fn test(&mut self, at: &At<'_, 'a>, operator: Operator, case: Case) -> Option<Test> {
        Some(match operator {
            Operator::Equals => Test::Equals(self.scalar(at)?, case),
            Operator::In => Test::In(self.operands(at, "a list", Self::scalar)?, case),
            Operator::StartsWith => Test::StartsWith(self.texts(at, Self::affix)?, case),
            Operator::EndsWith => Test::EndsWith(self.texts(at, Self::affix)?, case),
            Operator::Contains => Test::Contains(self.texts(at, Self::affix)?, case),
            Operator::Matches => Test::Matches(self.pattern(at)?),
            Operator::LessThan => Test::LessThan(self.bound(at)?),
            Operator::AtMost => Test::AtMost(self.bound(at)?),
            Operator::GreaterThan => Test::GreaterThan(self.bound(at)?),
            Operator::AtLeast => Test::AtLeast(self.bound(at)?),
            Operator::Before => Test::Before(self.moment(at)?),
            Operator::After => Test::After(self.moment(at)?),
            Operator::Semver => Test::Semver(self.requirement_on_version(at)?),
            Operator::Cidr => Test::Cidr(self.texts(at, Self::network)?),
            Operator::Exists => Test::Exists(self.boolean(at)?),
        })
    }

    fn scalar(&mut self, at: &At<'_, 'a>) -> Option<Scalar> {
        match at.kind() {
            Kind::Boolean => Some(Scalar::Bool(at.text == "true")),
            Kind::String => {
                let text = self.string(at)?;
                self.short(at, &text)?;
                Some(Scalar::String(text.into()))
            }
            Kind::Number => {
                let scalar = number::scalar(at.text);
                if scalar.is_none() {
                    self.problem(at, inexact(at.text));
                }
                scalar
            }
            Kind::Array => {
                self.problem_hint(
                    at,
                    "this must be a string, a number or a boolean, not a list",
                    "did you mean \"in\"?",
                );
                None
            }
            Kind::Null => {
                let hint = "an absent attribute is tested with \"exists\": false";
                self.problem_hint(at, "this must be a string, a number or a boolean, not null", hint);
                None
            }
            Kind::Object => {
                self.wrong_type(at, "a string, a number or a boolean");
                None
            }
        }
    }

    fn bound(&mut self, at: &At<'_, 'a>) -> Option<f64> {
        if at.kind() != Kind::Number {
            self.wrong_type(at, "a number");
            return None;
        }
        let bound = number::bound(at.text);
        if bound.is_none() {
            self.problem(at, inexact(at.text));
        }
        bound
    }

    /// A list that is not empty, each element read alike.
    fn operands<T>(
        &mut self,
        at: &At<'_, 'a>,
        what: &str,
        read: impl Fn(&mut Self, &At<'_, 'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let elements = self.list(at, what, limits::OPERANDS_MAX)?;
        if elements.is_empty() {
            self.problem_hint(
                at,
                "this list must not be empty",
                "nothing is in an empty list: leave the test out",
            );
            return None;
        }
        collect(elements.iter().enumerate().map(|(index, text)| read(self, &at.index(index, text))))
    }

    /// One string or a list of strings.
    fn texts(
        &mut self,
        at: &At<'_, 'a>,
        read: impl Fn(&mut Self, &At<'_, 'a>) -> Option<Box<str>>,
    ) -> Option<Vec<Box<str>>> {
        match at.kind() {
            Kind::String => read(self, at).map(|text| vec![text]),
            Kind::Array => self.operands(at, "a list of strings", read),
            _ => {
                self.wrong_type(at, "a string or a list of strings");
                None
            }
        }
    }

    fn short(&mut self, at: &At<'_, 'a>, text: &str) -> Option<()> {
        if text.len() <= limits::OPERAND_MAX_BYTES {
            return Some(());
        }
        let max = limits::OPERAND_MAX_BYTES;
        self.problem(at, format!("an operand has at most {max} bytes; this one has {}", text.len()));
        None
    }

    fn affix(&mut self, at: &At<'_, 'a>) -> Option<Box<str>> {
        let text = self.string(at)?;
        if text.is_empty() {
            self.problem_hint(
                at,
                "the empty text is part of every string",
                "to ask whether there is a value, use \"exists\"",
            );
            return None;
        }
        self.short(at, &text)?;
        Some(text.into())
    }

    fn pattern(&mut self, at: &At<'_, 'a>) -> Option<Box<str>> {
        let text = self.text(at, "a pattern", limits::REGEX_MAX_BYTES)?;
        match compile_pattern(&text) {
            Ok(_) => Some(text.into()),
            Err(reason) => {
                self.problem(at, reason);
                None
            }
        }
    }

    fn requirement_on_version(&mut self, at: &At<'_, 'a>) -> Option<Box<str>> {
        let text = self.text(at, "a requirement on a version", limits::OPERAND_MAX_BYTES)?;
        match semver::VersionReq::parse(&text) {
            Ok(_) => Some(text.into()),
            Err(error) => {
                let message = format!("this is not a requirement on a version: {error}");
                self.problem_hint(at, message, "write it such as \">=2.3.0, <3\"");
                None
            }
        }
    }

    fn network(&mut self, at: &At<'_, 'a>) -> Option<Box<str>> {
        let text = self.string(at)?;
        if read_network(&text).is_none() {
            let hint = "write it such as \"10.0.0.0/8\" or \"2001:db8::/32\"";
            self.problem_hint(at, "this is neither a network nor an address", hint);
            return None;
        }
        Some(text.into())
    }
}

/// All of them, or nothing; reads on after a failure so that every problem is found.
pub(super) fn collect<T>(read: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    let mut whole = true;
    let list: Vec<T> = read
        .filter_map(|element| {
            whole &= element.is_some();
            element
        })
        .collect();
    whole.then_some(list)
}
