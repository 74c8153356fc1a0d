//! Lists that are stored in parts: what each edit writes of them, and that nobody who edits sees a part.

use super::*;
use crate::canonical::{Form, write_segment};
use crate::limits;
use crate::part::{self, PartName, PartNumber};

/// Enough units of 24 bytes for a list of half a megabyte.
const MANY: usize = 20_000;

fn unit(n: usize) -> String {
    format!("customer-{n:0>13}-{}", n % 2)
}

fn file(units: impl IntoIterator<Item = String>, more: &str) -> String {
    let units: Vec<String> = units.into_iter().map(|unit| format!("\"{unit}\"")).collect();
    let flag = r#""f": {"rules": [{"name": "r", "if": {"segment": "s"}, "serve": "on"}]}"#;
    format!(r#"{{"flags": {{{flag}}}, "segments": {{"s": {{"include": [{}]{more}}}}}}}"#, units.join(","))
}

fn put_file(file: String) -> Edit {
    Edit::Put { file, mode: PutMode::CreateOrReplace }
}

fn add(units: &[&str], list: SegmentList) -> Edit {
    let units = units.iter().map(|unit| (*unit).to_owned()).collect();
    Edit::SegmentAdd { segment: segment_key("s"), units, list }
}

fn remove(units: Vec<String>) -> Edit {
    Edit::SegmentRemove { segment: segment_key("s"), units, list: SegmentList::Include }
}

/// The segment as people see it.
fn whole(world: &World) -> SegmentDefinition {
    lists::whole(&view::View::of(&world.state), &segment_key("s"), &world.segment("s")).unwrap()
}

fn parts_of(world: &World) -> usize {
    SegmentList::BOTH.into_iter().map(|list| world.state.parts_of("s", list).count()).sum()
}

/// What is written, without the bytes.
fn written(plan: &Plan) -> Vec<String> {
    let sign = |write: &EntryWrite| if write.bytes.is_some() { "+" } else { "-" };
    plan.writes.iter().map(|write| format!("{} {}", sign(write), write.id)).collect()
}

#[test]
fn one_unit_more_writes_its_part_and_the_definition_again() {
    let mut world = World::file(&file((0..MANY).map(unit), r#", "exclude": ["barred"]"#));
    let id = EntryId::segment(&segment_key("s"));
    assert_eq!(world.text(&id), r#"{"includeParts":4096,"exclude":["barred"]}"#);
    let before = world.state.clone();
    let edit = add(&["u-1", "barred"], SegmentList::Include);
    let plan = world.edit(&edit);
    let part = |unit| part::id("s", SegmentList::Include, PartNumber::of(unit));
    let mut want = vec![format!("+ {}", part("u-1")), format!("+ {}", part("barred")), format!("+ {id}")];
    want.sort();
    let mut got = written(&plan);
    got.sort();
    assert_eq!(got, want);
    assert_eq!(told(&plan), ["Warning: on `exclude` too, and so out all the same: barred"]);
    assert_eq!(effects(&plan), ["f Unknown: adds 2 units to segment \"s\""]);
    assert_eq!(undo(&edit, &plan, &before).unwrap(), "flagctl segment remove s barred u-1");
    assert_eq!(before.get(&id).unwrap().bytes, world.state.get(&id).unwrap().bytes);
    assert_eq!(
        world.state.get(&id).unwrap().revision,
        world.state.revision(),
        "who saw it before has not seen this"
    );
    let bytes: usize =
        plan.writes.iter().filter_map(|write| write.bytes.as_ref()).map(|bytes| bytes.len()).sum();
    assert!(bytes < 1_000, "{bytes} bytes");

    assert_eq!(world.plan(&edit).unwrap().writes, [], "again is nothing");
    let plan = world.edit(&remove(vec!["u-1".to_owned(), "barred".to_owned(), "nobody".to_owned()]));
    assert_eq!(told(&plan), ["Info: 2 removed; not on the list: nobody"]);
    assert_eq!(effects(&plan), ["f Unknown: takes 2 units off segment \"s\""]);
    let entries =
        |state: &State| state.entries().map(|(id, e)| (id.clone(), e.bytes.clone())).collect::<Vec<_>>();
    assert_eq!(entries(&world.state), entries(&before), "equal definitions have equal bytes");
}

#[test]
fn the_last_unit_of_a_part_takes_the_entry_with_it() {
    let mut world = World::file(&file((0..MANY).map(unit), ""));
    let alone = (0..1_000_000)
        .map(|n| format!("x{n}"))
        .find(|unit| world.state.get(&part::id("s", SegmentList::Include, PartNumber::of(unit))).is_none());
    let alone = alone.unwrap();
    let id = part::id("s", SegmentList::Include, PartNumber::of(&alone));
    world.edit(&add(&[&alone], SegmentList::Include));
    assert!(world.state.get(&id).is_some());
    let plan = world.edit(&remove(vec![alone]));
    assert_eq!(written(&plan), [format!("- {id}"), "+ segment `s`".to_owned()]);
}

#[test]
fn a_list_changes_its_form_once_when_it_becomes_long_or_short() {
    let count = limits::SEGMENT_LIST_INLINE_MAX_BYTES / (unit(0).len() + 3);
    let mut world = World::file(&file((0..count).map(unit), r#", "exclude": ["x"]"#));
    assert_eq!(parts_of(&world), 0);
    let inline = world.state.clone();
    let more: Vec<String> = (count..count + 10).map(unit).collect();
    let plan = world.edit(&add(&more.iter().map(String::as_str).collect::<Vec<_>>(), SegmentList::Include));
    assert_eq!(effects(&plan), ["f Unknown: adds 10 units to segment \"s\""]);
    assert_eq!(plan.writes.len(), 1 + parts_of(&world));
    assert!(parts_of(&world) > 1_000);
    assert_eq!(whole(&world).include.listed().len(), count + 10);
    let plan = world.edit(&remove(more));
    assert_eq!(effects(&plan), ["f Unknown: takes 10 units off segment \"s\""]);
    assert_eq!(parts_of(&world), 0);
    assert_eq!(world.text(&EntryId::segment(&segment_key("s"))), {
        let bytes = &inline.get(&EntryId::segment(&segment_key("s"))).unwrap().bytes;
        String::from_utf8(bytes.to_vec()).unwrap()
    });
}

#[test]
fn a_whole_list_writes_the_parts_that_differ() {
    let mut world = World::file(&file((0..MANY).map(unit), ""));
    let other = file((1..=MANY).map(unit), "");
    let plan = world.edit(&put_file(other.clone()));
    let mut want: Vec<String> = [unit(0), unit(MANY)]
        .iter()
        .map(|unit| format!("segment part `s/include/{}`", PartNumber::of(unit)))
        .chain(["segment `s`".to_owned()])
        .collect();
    want.sort();
    let mut got: Vec<String> = plan.writes.iter().map(|write| write.id.to_string()).collect();
    got.sort();
    assert_eq!(got, want);
    assert_eq!(effects(&plan), ["f Unknown: adds 1 unit to segment \"s\", takes 1 unit off segment \"s\""]);
    assert_eq!(world.plan(&put_file(other)).unwrap().writes, []);
    // Another field alone touches no part.
    let described = file((1..=MANY).map(unit), r#", "description": "ours""#);
    assert_eq!(written(&world.edit(&put_file(described))), ["+ segment `s`"]);
    // Short again: every part goes.
    let parts = parts_of(&world);
    assert_eq!(world.edit(&put_file(file(["only".to_owned()], ""))).writes.len(), 1 + parts);
    assert_eq!((parts_of(&world), whole(&world).include.listed().len()), (0, 1));
}

#[test]
fn what_is_written_out_is_read_back_as_the_same() {
    let world = World::file(&file((0..MANY).map(unit), ""));
    let readable = write_segment(&segment_key("s"), &whole(&world), Form::Readable);
    let copy = World::file(&format!(r#"{{"segments": {{"s": {readable}}}}}"#));
    for (id, entry) in copy.state.entries() {
        assert_eq!(world.state.get(id).map(|entry| &entry.bytes), Some(&entry.bytes), "{id}");
    }
}

#[test]
fn an_archived_segment_keeps_its_parts_for_its_return() {
    let mut world = World::empty();
    world.edit(&put_file(format!(
        r#"{{"segments": {{"s": {{"include": [{}]}}}}}}"#,
        (0..MANY).map(|n| format!("\"{}\"", unit(n))).collect::<Vec<_>>().join(",")
    )));
    let before = whole(&world);
    let plan = world.edit(&Edit::ArchiveSegment(segment_key("s")));
    assert_eq!(written(&plan), ["- segment `s`", "+ segment tombstone `s`"]);
    let plan = world.edit(&Edit::UnarchiveSegment(segment_key("s")));
    assert_eq!(written(&plan), ["- segment tombstone `s`", "+ segment `s`"]);
    assert_eq!(whole(&world), before);
    // Another segment under the key of an archived one takes nothing over.
    world.edit(&Edit::ArchiveSegment(segment_key("s")));
    world.edit(&put_file(r#"{"segments": {"s": {"include": ["new"]}}}"#.to_owned()));
    assert_eq!((whole(&world).include.listed().len(), parts_of(&world)), (1, 0));
}

#[test]
fn a_segment_is_put_back_with_all_its_parts() {
    let mut world = World::file(&file((0..MANY).map(unit), ""));
    let then = world.state.clone();
    let of_segment = |state: &State| -> Vec<(EntryId, Option<Arc<[u8]>>)> {
        let whole = EntryId::segment(&segment_key("s"));
        let entries = state.entries().filter(|(id, _)| id.whole() == whole);
        entries.map(|(id, entry)| (id.clone(), Some(entry.bytes.clone()))).collect()
    };
    for change in [
        add(&["u-1", "u-2", "u-3"], SegmentList::Include),
        remove((0..10).map(unit).collect()),
        put_file(file(["only".to_owned()], "")),
        add(&[&"x".repeat(1_024)], SegmentList::Exclude),
    ] {
        world.edit(&change);
        let plan = world.edit(&Edit::Restore { entries: of_segment(&then) });
        assert!(!plan.writes.is_empty());
        assert_eq!(of_segment(&world.state), of_segment(&then));
    }
}

#[test]
fn a_source_that_applies_a_long_list_keeps_what_others_did() {
    let mut world = World::empty();
    world.apply("ci", &file((0..MANY).map(unit), ""), Take::Ask).unwrap();
    assert_eq!(world.apply("ci", &file((0..MANY).map(unit), ""), Take::Ask).unwrap().writes, []);
    world.edit(&add(&["by-hand"], SegmentList::Include));
    let plan = world.apply("ci", &file((1..MANY).map(unit), ""), Take::Ask).unwrap();
    let drift: Vec<_> = plan.drift.iter().map(|d| (d.field.as_str(), d.live.as_deref())).collect();
    assert_eq!(drift, [("include", Some("by-hand"))]);
    assert_eq!(plan.writes.len(), 2, "one part and the definition");
    let members = whole(&world).include;
    assert!(members.listed().contains(&"by-hand".into()) && !members.listed().contains(&unit(0).into()));
    // The base holds the parts, so that of the next file only what it changed is taken.
    let base = &world.bases["ci"];
    assert!(base.keys().filter(|id| PartName::of(id).is_some()).count() > 1_000);
    let plan = world.apply("ci", r#"{"segments": {"s": {"include": ["only"]}}}"#, Take::Ask).unwrap();
    assert_eq!(plan.notes.iter().filter(|note| note.text.contains("segment part")).count(), 0);
    assert_eq!(whole(&world).include.listed(), ["by-hand".into(), "only".into()]);
    assert_eq!(world.bases["ci"].len(), 2, "the flag, and the segment without parts");
}

#[test]
fn a_part_that_cannot_be_read_stops_only_what_needs_it() {
    let mut world = World::file(&file((0..MANY).map(unit), ""));
    let number = PartNumber::of("u-1");
    let broken = part::id("s", SegmentList::Include, number);
    world.write(vec![EntryWrite::set(broken.clone(), *b"[17]")]);
    let error = world.plan(&add(&["u-1"], SegmentList::Include)).unwrap_err();
    assert!(
        error.to_string().contains(&format!("part {number} of a list: it is not a list of units")),
        "{error}"
    );
    world.edit(&add(&["u-2"], SegmentList::Include));
    world.put(r#""f": {}"#);
    let error = world.plan(&Edit::Restore { entries: vec![(broken, Some((*b"[18]").into()))] }).unwrap_err();
    assert!(matches!(error, EditError::Invalid(_)), "{error}");
    // A whole list mends it.
    world.edit(&put_file(file((0..MANY).map(unit), "")));
    world.edit(&add(&["u-1"], SegmentList::Include));
}

#[test]
fn a_list_has_a_largest_number_of_units_and_one_more_costs_as_little_as_ever() {
    let mut world = World::file(&file(["first".to_owned()], ""));
    let mut segment = world.segment("s");
    let units = (0..limits::SEGMENT_UNITS_MAX - 1).map(|n| format!("{n:0>7}").into());
    segment.exclude = crate::definition::Units::Listed(units.collect());
    let entries = part::entries(&segment_key("s"), &segment);
    assert_eq!(entries.len(), 4_097);
    world.write(entries.into_iter().map(|(id, bytes)| EntryWrite::set(id, bytes)).collect());
    let plan = world.edit(&add(&["millionth"], SegmentList::Exclude));
    let part = part::id("s", SegmentList::Exclude, PartNumber::of("millionth"));
    assert_eq!(written(&plan), [format!("+ {part}"), "+ segment `s`".to_owned()]);
    let EditError::Invalid(problems) = world.plan(&add(&["one more"], SegmentList::Exclude)).unwrap_err()
    else {
        panic!("one past the limit is taken");
    };
    let text = problems[0].to_string();
    assert!(
        text.starts_with("segments.s.exclude: a list has at most 1000000 units; this makes 1000001"),
        "{text}"
    );
    world.edit(&remove(vec!["first".to_owned()]));
}

#[test]
fn a_part_and_a_change_have_a_largest_size() {
    let world = World::file(&file((0..MANY).map(unit), ""));
    let problem = |entries: Vec<(EntryId, Option<Arc<[u8]>>)>| {
        let error = world.plan(&Edit::Restore { entries }).unwrap_err();
        let EditError::Invalid(problems) = error else { panic!("{error}") };
        problems[0].to_string()
    };
    let id = part::id("s", SegmentList::Include, PartNumber::of("u-1"));
    let of_size = |bytes: usize| problem(vec![(id.clone(), Some(vec![b' '; bytes].into()))]);
    assert!(of_size(limits::DEFINITION_MAX_BYTES).contains("it is not a list of units"));
    let text = of_size(limits::DEFINITION_MAX_BYTES + 1);
    assert!(text.starts_with("segments.s.include: a part of a list has at most 524288 bytes"), "{text}");
    // Parts are entries of the change that writes them.
    let of_count = |entries: usize| {
        let ids = (0..25).flat_map(|n| PartNumber::all().map(move |number| (n, number)));
        let ids = ids.map(|(n, number)| part::id(&format!("t{n}"), SegmentList::Include, number));
        problem(ids.map(|id| (id, Some((*b"[]").into()))).take(entries).collect())
    };
    let most = limits::CHANGE_ENTRIES_MAX;
    assert!(of_count(most).contains("the segment does not keep this list in parts"));
    assert_eq!(of_count(most + 1), "one change touches at most 100000; this makes 100001");
}
