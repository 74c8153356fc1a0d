//! Semantic versions and requirements on them, from the rules on the page.

use std::cmp::Ordering;

/// A full version; build metadata never counts and is checked and dropped.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    numbers: [u64; 3],
    pre: Vec<String>,
}

impl Version {
    pub(crate) fn read(text: &str) -> Option<Version> {
        let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
        if build.is_some_and(|build| !build.split('.').all(is_word)) {
            return None;
        }
        let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
        let numbers: Vec<u64> = core.split('.').map(number).collect::<Option<_>>()?;
        Some(Version { numbers: numbers.try_into().ok()?, pre: pre_release(pre)? })
    }

    /// Precedence as SemVer 2.0.0 section 11 has it.
    fn compare(&self, other: &Version) -> Ordering {
        let words = || match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let pairs = self.pre.iter().zip(&other.pre).map(|(a, b)| compare_words(a, b));
                pairs.fold(Ordering::Equal, Ordering::then).then(self.pre.len().cmp(&other.pre.len()))
            }
        };
        self.numbers.cmp(&other.numbers).then_with(words)
    }
}

fn compare_words(a: &str, b: &str) -> Ordering {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match (digits(a), digits(b)) {
        // Without leading zeros the longer one is the larger one.
        (true, true) => a.len().cmp(&b.len()).then(a.cmp(b)),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.cmp(b),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

fn pre_release(text: Option<&str>) -> Option<Vec<String>> {
    let Some(text) = text else { return Some(Vec::new()) };
    let words: Vec<&str> = text.split('.').collect();
    let zero =
        |word: &str| word.len() > 1 && word.starts_with('0') && word.bytes().all(|b| b.is_ascii_digit());
    let good = words.iter().all(|word| is_word(word) && !zero(word));
    good.then(|| words.into_iter().map(str::to_owned).collect())
}

/// One comparator: an operator and a version of which the last parts may be left out.
struct Comparator {
    operator: String,
    numbers: Vec<u64>,
    pre: Vec<String>,
}

/// Whether a version satisfies a requirement that was accepted.
pub(crate) fn satisfies(requirement: &str, version: &Version) -> bool {
    let comparators: Vec<Comparator> = requirement.split(',').map(comparator).collect();
    let pre_is_named = || {
        let names = |each: &&Comparator| each.numbers == version.numbers && !each.pre.is_empty();
        comparators.iter().any(|each| names(&each))
    };
    comparators.iter().all(|each| each.holds(version)) && (version.pre.is_empty() || pre_is_named())
}

fn comparator(text: &str) -> Comparator {
    let text = text.trim();
    let operator: String = text.chars().take_while(|c| "=<>~^".contains(*c)).collect();
    let rest = text[operator.len()..].trim();
    let rest = rest.split('+').next().unwrap();
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let parts: Vec<&str> = core.split('.').collect();
    let wild = |part: &&str| matches!(*part, "*" | "x" | "X");
    let numbers: Vec<u64> =
        parts.iter().take_while(|part| !wild(part)).map(|part| number(part).unwrap()).collect();
    let operator = match operator.as_str() {
        "" if parts.iter().any(wild) => "*".to_owned(),
        "" => "^".to_owned(),
        stated => stated.to_owned(),
    };
    Comparator { operator, numbers, pre: pre_release(pre).unwrap() }
}

impl Comparator {
    /// Whether a version is in what the comparator allows, before the rule about pre-releases.
    fn holds(&self, version: &Version) -> bool {
        let Comparator { operator, numbers: stated, pre } = self;
        if stated.is_empty() {
            return true;
        }
        let beginning = &version.numbers[..stated.len()];
        let words = Version { numbers: [0; 3], pre: version.pre.clone() }
            .compare(&Version { numbers: [0; 3], pre: pre.clone() });
        let exactly = beginning == stated && words == Ordering::Equal;
        let order = beginning.cmp(stated.as_slice());
        let order = if stated.len() == 3 { order.then(words) } else { order };
        match operator.as_str() {
            "=" | "*" => exactly,
            ">" => order == Ordering::Greater,
            ">=" => order == Ordering::Greater || exactly,
            "<" => order == Ordering::Less,
            "<=" => order == Ordering::Less || exactly,
            "~" => match stated.as_slice() {
                [major, minor, patch] if version.numbers[2] != *patch => {
                    version.numbers[..2] == [*major, *minor] && version.numbers[2] > *patch
                }
                _ => beginning == stated && words != Ordering::Less,
            },
            "^" => match stated.as_slice() {
                [major] => version.numbers[0] == *major,
                [0, minor] => version.numbers[..2] == [0, *minor],
                [major, minor] => version.numbers[0] == *major && version.numbers[1] >= *minor,
                numbers => {
                    let kept = numbers.iter().position(|part| *part > 0).map_or(3, |index| index + 1);
                    version.numbers[..kept] == numbers[..kept] && order != Ordering::Less
                }
            },
            other => unreachable!("no operator: {other}"),
        }
    }
}
