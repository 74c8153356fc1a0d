//! Which etcds are to be trusted with what.
//!
//! flagd heals what these versions get wrong, but whoever runs one should know.

/// A version as it is compared: major, minor, patch.
pub(super) type Version = (u32, u32, u32);

/// The first version without the faults below.
const FIRST_GOOD: Version = (3, 5, 28);

/// Faults that matter here, each with the versions of 3.4 and 3.5 that mend it.
const FAULTS: &[(u32, u32, &str)] = &[
    (25, 8, "a watch can go back in time after a partition (etcd#15271)"),
    (31, 13, "a watch can lose events when its stream is starved (etcd#17529)"),
    (32, 14, "the revision can go down after a crash during compaction (etcd#17780)"),
    (34, 16, "a watch can lose an event during compaction (etcd#18089)"),
    (36, 18, "a watch can miss a removal (etcd#19179)"),
    (42, 28, "a read can be stale after the process was paused (etcd#20418)"),
];

/// Reads `3.4.23` or `3.6.0-rc.1`.
pub(super) fn parse(text: &str) -> Option<Version> {
    let mut parts = text.split(['.', '-', '+']).map(str::parse::<u32>);
    let mut next = || parts.next()?.ok();
    Some((next()?, next()?, next()?))
}

/// What to tell the operator about a version; nothing if all is well.
pub(super) fn warning(text: &str) -> Option<String> {
    let advice = "flagd notices and mends this, but run 3.5.28 or later";
    let Some(version) = parse(text) else {
        return Some(format!("etcd says its version is `{text}`, which cannot be read; run 3.5.28 or later"));
    };
    if version >= FIRST_GOOD {
        return None;
    }
    let (major, minor, patch) = version;
    let is_there = |(mended_34, mended_35, _): &&(u32, u32, &str)| match (major, minor) {
        (3, 5) => patch < *mended_35,
        (3, 4) => patch < *mended_34,
        _ => true,
    };
    let faults: Vec<_> = FAULTS.iter().filter(is_there).map(|(_, _, fault)| *fault).collect();
    if faults.is_empty() {
        return Some(format!("etcd {text} is of a line that is no longer maintained; run 3.5.28 or later"));
    }
    Some(format!("etcd {text} has faults: {}; {advice}", faults.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_are_warned_of_with_their_faults() {
        let cases: &[(&str, Option<&[&str]>)] = &[
            ("3.4.23", Some(&["etcd 3.4.23", "etcd#15271", "etcd#17529", "etcd#18089", "etcd#20418"])),
            ("3.4.44", Some(&["no longer maintained"])),
            ("3.5.27", Some(&["etcd#20418"])),
            ("3.3.10", Some(&["etcd#15271"])),
            ("3.5.28", None),
            ("3.6.0-rc.1", None),
            ("4.0.0", None),
            ("latest", Some(&["`latest`", "cannot be read"])),
        ];
        for (version, wanted) in cases {
            match (warning(version), wanted) {
                (None, None) => {}
                (Some(text), Some(words)) => {
                    for word in *words {
                        assert!(text.contains(word), "{version}: {text}");
                    }
                }
                (found, _) => panic!("{version}: {found:?}"),
            }
        }
        let mended = warning("3.5.27").unwrap();
        assert!(!mended.contains("etcd#18089"), "{mended}");
    }
}
