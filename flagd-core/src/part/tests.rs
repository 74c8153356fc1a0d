//! Names, bytes and limits of parts, and that a list comes back as it was laid.

use super::*;
use crate::definition::parse_segment;

fn number(digits: &str) -> PartNumber {
    PartNumber(u16::from_str_radix(digits, 16).unwrap())
}

fn segment(units: &[&str]) -> SegmentDefinition {
    let mut definition = parse_segment(&SegmentKey::new("s").unwrap(), "{}").unwrap();
    definition.include = units.iter().map(|unit| Box::from(*unit)).collect::<Vec<_>>().into();
    definition
}

#[test]
fn a_name_is_a_key_and_back() {
    let name = PartName {
        segment: SegmentKey::new("beta").unwrap(),
        list: SegmentList::Exclude,
        number: number("0a3"),
    };
    assert_eq!(name.id().to_string(), "segment part `beta/exclude/0a3`");
    assert_eq!(PartName::of(&name.id()), Some(name.clone()));
    assert_eq!(name.id().whole(), EntryId::segment(&name.segment));
    let wrong =
        ["beta", "beta/include", "beta/include/", "beta/include/0A3", "beta/include/a3", "beta/include/00a3"];
    let more =
        ["beta/includes/0a3", "/include/0a3", "a b/include/0a3", "beta/include/0a3/", "beta/include/+a3"];
    for key in wrong.into_iter().chain(more) {
        assert_eq!(PartName::of(&EntryId::new(EntryKind::SEGMENT_PART, key)), None, "{key}");
    }
    assert_eq!(PartName::of(&EntryId::new(EntryKind::SEGMENT, "beta/include/0a3")), None);
}

/// The seeds of the line are the hashes of salts without a seed, computed with another implementation of XXH3.
#[test]
fn hashes_are_what_the_reference_implementation_gives() {
    let file: serde_json::Value = serde_json::from_str(include_str!("../../testdata/line.json")).unwrap();
    for vector in file["vectors"].as_array().unwrap() {
        let (salt, seed) = (vector["salt"].as_str().unwrap(), vector["seed"].as_str().unwrap());
        assert_eq!(format!("{:016x}", hash(salt)), seed);
        assert_eq!(PartNumber::of(salt).to_string(), seed[..3]);
    }
}

#[test]
fn a_part_that_was_written_is_read_and_counted() {
    let odd =
        ["a\"b", "a\\n", "line\nbreak", "tab\t", "\u{1}", "\u{7f}", ",", "\",\"", "é", "😀", "\\", "\""];
    for unit in odd {
        let number = PartNumber::of(unit);
        let mut units: Vec<String> = (0..200_000)
            .map(|n| format!("u-{n}"))
            .filter(|other| PartNumber::of(other) == number)
            .chain([unit.to_owned()])
            .collect();
        units.sort();
        let bytes = write(units.iter().map(String::as_str)).unwrap();
        assert_eq!(read(number, &bytes).unwrap().iter().map(|u| &**u).collect::<Vec<_>>(), units);
        assert_eq!(count(&bytes), units.len(), "{unit:?}");
        let boxed: Vec<Box<str>> = units.iter().map(|unit| unit.as_str().into()).collect();
        assert_eq!(list_bytes(&boxed), bytes.len());
    }
    assert_eq!(write([]), None);
    assert_eq!((read(number("000"), b"[]"), count(b"[]")), (Ok(vec![]), 0));
}

#[test]
fn bytes_that_a_writer_would_not_write_are_no_part() {
    let number = PartNumber::of("u-1");
    let other =
        (0..1_000_000).map(|n| format!("u-{n}")).find(|u| PartNumber::of(u) == number && u != "u-1").unwrap();
    let stranger = (0..1_000_000).map(|n| format!("u-{n}")).find(|u| PartNumber::of(u) != number).unwrap();
    let long = (0..1_000_000).map(|n| format!("{n:0>1025}")).find(|u| PartNumber::of(u) == number).unwrap();
    let slash = (0..1_000_000).map(|n| format!("/{n}")).find(|u| PartNumber::of(u) == number).unwrap();
    let cases = [
        (String::new(), "not a list"),
        ("{}".to_owned(), "not a list"),
        ("[".to_owned(), "not a list"),
        ("[\"u-1\"".to_owned(), "not a list"),
        ("[\"u-1\",]".to_owned(), "not a list"),
        ("[\"u-1\"] ".to_owned(), "not a list"),
        ("[ \"u-1\"]".to_owned(), "not a list"),
        ("[17]".to_owned(), "not a list"),
        ("[\"u-1\\\"]".to_owned(), "not a list"),
        ("[\"\\u0075-1\"]".to_owned(), "not a list"),
        (format!("[\"\\{slash}\"]"), "not a list"),
        ("[\"u-1\n\"]".to_owned(), "not a list"),
        ("[\"\"]".to_owned(), "1 to 1024 bytes"),
        (format!("[\"{long}\"]"), "1 to 1024 bytes"),
        (format!("[\"{other}\",\"u-1\"]"), "not in byte order"),
        ("[\"u-1\",\"u-1\"]".to_owned(), "not in byte order"),
        (format!("[\"{stranger}\"]"), "belongs to part"),
    ];
    for (bytes, why) in cases {
        let error = read(number, bytes.as_bytes()).unwrap_err();
        assert!(error.contains(why), "{bytes}: {error}");
    }
    assert!(read(number, b"[\"\xff\"]").unwrap_err().contains("UTF-8"));
    let large = vec![b' '; limits::DEFINITION_MAX_BYTES + 1];
    assert!(read(number, &large).unwrap_err().contains("at most 524288 bytes"));
}

#[test]
fn a_list_is_in_parts_from_one_byte_past_the_limit_on() {
    // Each unit is eight bytes of the list, the last one as long as it must be.
    let filler = |bytes: usize| {
        let mut units: Vec<String> = (0..(bytes - 1) / 8 - 1).map(|n| format!("{n:05}")).collect();
        units.push("x".repeat(bytes - 1 - 8 * units.len() - 3));
        units
    };
    for (bytes, entries_at_least) in
        [(limits::SEGMENT_LIST_INLINE_MAX_BYTES, 1), (limits::SEGMENT_LIST_INLINE_MAX_BYTES + 1, 4_000)]
    {
        let units = filler(bytes);
        let definition = segment(&units.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(list_bytes(definition.include.listed()), bytes);
        let key = SegmentKey::new("s").unwrap();
        let stored = entries(&key, &definition);
        assert_eq!(stored.len() > 1, entries_at_least > 1, "{bytes}: {} entries", stored.len());
        assert!(stored.len() >= entries_at_least && stored.len() <= 4_097);
        let text = std::str::from_utf8(&stored[0].1).unwrap();
        assert_eq!(text == "{\"includeParts\":4096}", stored.len() > 1);
        let parts = &stored[1..];
        if !parts.is_empty() {
            assert_eq!(list_bytes_of_parts(parts.iter().map(|(_, bytes)| bytes.len())), bytes);
        }
        let read = parse_segment(&key, text).unwrap();
        let read = whole(read, |list| {
            let of_list = parts.iter().map(|(id, bytes)| (PartName::of(id).unwrap(), bytes));
            of_list
                .filter(|(name, _)| name.list == list)
                .map(|(name, bytes)| (name.number, &**bytes))
                .collect()
        });
        assert_eq!(read, Ok(definition));
    }
}
