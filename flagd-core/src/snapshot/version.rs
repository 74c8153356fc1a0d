//! Semantic versions without an allocation.
//!
//! `semver::Version` owns its text, so parsing one on every evaluation would allocate. Here a requirement is
//! taken from the `semver` crate once, at compile, and the version of a context is read in place. The answers
//! are those of the crate; a test compares the two on arbitrary input.

use std::cmp::Ordering;

use semver::{Comparator, Op, VersionReq};

/// A version read in place: `major.minor.patch`, then perhaps `-pre`, then perhaps `+build` (which never counts).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version<'a> {
    major: u64,
    minor: u64,
    patch: u64,
    pre: &'a str,
}

/// What a version must satisfy.
#[derive(Debug)]
pub(super) enum Requirement {
    /// `>=1.2.3`, the most frequent one; no pre-release satisfies it.
    AtLeast(u64, u64, u64),
    Other(VersionReq),
}

impl From<VersionReq> for Requirement {
    fn from(requirement: VersionReq) -> Requirement {
        match requirement.comparators.as_slice() {
            [Comparator { op: Op::GreaterEq, major, minor: Some(minor), patch: Some(patch), pre }]
                if pre.is_empty() =>
            {
                Requirement::AtLeast(*major, *minor, *patch)
            }
            _ => Requirement::Other(requirement),
        }
    }
}

impl Requirement {
    /// Whether `text` is a version that satisfies it. False for what is no version.
    pub(super) fn is_satisfied_by(&self, text: &str) -> bool {
        let Some(version) = Version::read(text) else { return false };
        let comparators = match self {
            Requirement::AtLeast(major, minor, patch) => {
                let least = (*major, *minor, *patch);
                return version.pre.is_empty() && (version.major, version.minor, version.patch) >= least;
            }
            Requirement::Other(requirement) => &requirement.comparators,
        };
        // A pre-release is only meant by a requirement that names a pre-release of the same version.
        comparators.iter().all(|comparator| version.matches(comparator))
            && (version.pre.is_empty()
                || comparators.iter().any(|comparator| version.is_pre_release_of(comparator)))
    }
}

impl<'a> Version<'a> {
    /// One pass over the three numbers; what may follow them is rare.
    fn read(text: &'a str) -> Option<Version<'a>> {
        let (major, rest) = number(text.as_bytes())?;
        let (minor, rest) = number(rest.strip_prefix(b".")?)?;
        let (patch, rest) = number(rest.strip_prefix(b".")?)?;
        let pre = if rest.is_empty() { "" } else { tags(text.get(text.len() - rest.len()..)?)? };
        Some(Version { major, minor, patch, pre })
    }

    fn matches(&self, comparator: &Comparator) -> bool {
        let stated = self.compare_stated(comparator);
        let pre = || compare_pre(self.pre, comparator.pre.as_str());
        let exact = || stated == Ordering::Equal && self.pre == comparator.pre.as_str();
        // `>1.2` means past every 1.2.x, so among equal stated numbers only a full version has an order.
        let beyond = |side: Ordering| match stated {
            Ordering::Equal => comparator.patch.is_some() && pre() == side,
            _ => stated == side,
        };
        match comparator.op {
            Op::Exact | Op::Wildcard => exact(),
            Op::Greater => beyond(Ordering::Greater),
            Op::GreaterEq => exact() || beyond(Ordering::Greater),
            Op::Less => beyond(Ordering::Less),
            Op::LessEq => exact() || beyond(Ordering::Less),
            Op::Tilde => {
                self.major == comparator.major
                    && comparator.minor.is_none_or(|minor| minor == self.minor)
                    && (stated == Ordering::Greater || stated == Ordering::Equal && pre() != Ordering::Less)
            }
            Op::Caret => {
                let open = comparator.patch.is_none();
                self.keeps_compatible_part(comparator)
                    && (stated == Ordering::Greater
                        || stated == Ordering::Equal && (open || pre() != Ordering::Less))
            }
            _ => false,
        }
    }

    /// The order of the numbers that the comparator states.
    fn compare_stated(&self, comparator: &Comparator) -> Ordering {
        let minor = || comparator.minor.map_or(Ordering::Equal, |minor| self.minor.cmp(&minor));
        let patch = || comparator.patch.map_or(Ordering::Equal, |patch| self.patch.cmp(&patch));
        self.major.cmp(&comparator.major).then_with(minor).then_with(patch)
    }

    /// `^` fixes everything up to the first number that is not zero.
    fn keeps_compatible_part(&self, comparator: &Comparator) -> bool {
        let minor_is_fixed = comparator.major == 0;
        let patch_is_fixed = minor_is_fixed && comparator.minor == Some(0);
        self.major == comparator.major
            && (!minor_is_fixed || comparator.minor.is_none_or(|minor| minor == self.minor))
            && (!patch_is_fixed || comparator.patch.is_none_or(|patch| patch == self.patch))
    }

    fn is_pre_release_of(&self, comparator: &Comparator) -> bool {
        !comparator.pre.is_empty()
            && (self.major, Some(self.minor), Some(self.patch))
                == (comparator.major, comparator.minor, comparator.patch)
    }
}

/// A number without leading zeros, and what follows it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, mut rest) = bytes.split_first().filter(|(first, _)| first.is_ascii_digit())?;
    let mut number = u64::from(first - b'0');
    while let Some((digit, after)) = rest.split_first().filter(|(digit, _)| digit.is_ascii_digit()) {
        if *first == b'0' {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        rest = after;
    }
    Some((number, rest))
}

/// The pre-release of `-pre+build`, either of which may be missing; `None` when it is malformed.
fn tags(text: &str) -> Option<&str> {
    let (pre, build) = match text.split_once('+') {
        Some((pre, build)) => (pre, Some(build)),
        None => (text, None),
    };
    let well_formed = |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let padded = |id: &str| id.len() > 1 && id.starts_with('0') && is_number(id);
    if build.is_some_and(|build| !build.split('.').all(well_formed)) {
        return None;
    }
    if pre.is_empty() {
        return Some(pre);
    }
    let pre = pre.strip_prefix('-')?;
    pre.split('.').all(|id| well_formed(id) && !padded(id)).then_some(pre)
}

fn is_number(identifier: &str) -> bool {
    !identifier.is_empty() && identifier.bytes().all(|b| b.is_ascii_digit())
}

/// The precedence of two pre-release tags; a release (no tag) comes after all of its pre-releases.
fn compare_pre(a: &str, b: &str) -> Ordering {
    if a.is_empty() || b.is_empty() {
        return a.is_empty().cmp(&b.is_empty());
    }
    let mut rest = b.split('.');
    for left in a.split('.') {
        let Some(right) = rest.next() else { return Ordering::Greater };
        let order = match (is_number(left), is_number(right)) {
            // Without leading zeros the longer number is the larger one.
            (true, true) => left.len().cmp(&right.len()).then_with(|| left.cmp(right)),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => left.cmp(right),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    if rest.next().is_some() { Ordering::Less } else { Ordering::Equal }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_satisfy_requirements() {
        let cases: &[(&str, &str, bool)] = &[
            (">=2.3.0", "2.3.0", true),
            (">=2.3.0", "2.2.9", false),
            (">=2.3.0, <3", "2.99.1", true),
            (">=2.3.0, <3", "3.0.0", false),
            (">=2.3.0", "2.3.0+build.7", true),
            (">=2.3.0", "2.4.0-rc.1", false),
            (">=2.3.0-rc.1", "2.3.0-rc.2", true),
            ("^0.2.3", "0.3.0", false),
            ("~1.2", "1.2.9", true),
            ("*", "1.0.0", true),
            ("*", "1.0.0-a", false),
            (">=2.3.0", "2.3", false),
            (">=2.3.0", "v2.3.0", false),
            (">=2.3.0", "02.3.0", false),
            (">=2.3.0", "2.3.0-", false),
            (">=2.3.0", "2.3.0-a..b", false),
            (">=2.3.0", "99999999999999999999.0.0", false),
            (">=2.3.0", "", false),
        ];
        for (requirement, version, want) in cases {
            let parsed = VersionReq::parse(requirement).unwrap();
            assert_eq!(
                Requirement::from(parsed).is_satisfied_by(version),
                *want,
                "{version} against {requirement}"
            );
        }
    }

    fn any_version() -> impl Strategy<Value = String> {
        let pre = prop_oneof![2 => Just(String::new()), 1 => "-[0a1b-]{1,3}(\\.[0-2a]{1,2}){0,2}"];
        let build = prop_oneof![3 => Just(String::new()), 1 => "\\+[0-9a.]{0,4}"];
        ("[0-3]", "[0-3]", "[0-3]", pre, build)
            .prop_map(|(a, b, c, pre, build)| format!("{a}.{b}.{c}{pre}{build}"))
    }

    fn any_requirement() -> impl Strategy<Value = String> {
        let one = ("(|=|>|>=|<|<=|~|\\^)", "[0-2](\\.[0-2](\\.[0-2](-[0a1b]{1,2}(\\.[0-2])?)?)?)?")
            .prop_map(|(op, version)| format!("{op}{version}"));
        prop::collection::vec(one, 1..4).prop_map(|list| list.join(", "))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn answers_are_those_of_the_semver_crate(requirement in any_requirement(), version in any_version()) {
            if let Ok(requirement) = VersionReq::parse(&requirement) {
                let want = semver::Version::parse(&version).is_ok_and(|version| requirement.matches(&version));
                let ours = Requirement::from(requirement.clone()).is_satisfied_by(&version);
                prop_assert_eq!(ours, want, "{} against {}", version, requirement);
            }
        }

        #[test]
        fn reads_exactly_what_the_semver_crate_reads(text in "[0-9a.+-]{0,12}") {
            prop_assert_eq!(Version::read(&text).is_some(), semver::Version::parse(&text).is_ok(), "{}", text);
        }
    }
}
