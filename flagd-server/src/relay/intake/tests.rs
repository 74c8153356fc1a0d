//! What belongs together is put together, and nothing else is.

use flagd_core::entry::{EntryKind, EntryWrite};
use flagd_core::revision::{Digest, Epoch};

use super::*;

const EPOCH: Epoch = Epoch { minted_ms: 5, random: 1 };

fn name() -> EnvironmentName {
    EnvironmentName::new("default").unwrap()
}

fn set(key: &str, value: &str) -> EntryWrite {
    // A kind that no version knows: bytes are passed on whether they are understood or not.
    EntryWrite::set(EntryId::new(EntryKind::from_number(99), key), value.as_bytes())
}

/// The states at revisions 0 to `last`, and the changes between them.
fn history(last: usize) -> (Vec<State>, Vec<Delta>) {
    let mut states = vec![State::empty(name(), EPOCH)];
    let mut deltas = Vec::new();
    for step in 0..last {
        let mut next = states[step].clone();
        let delta = next.delta(vec![set("a", &step.to_string()), set(&format!("k{step}"), "1")]);
        next.apply(&delta).unwrap();
        states.push(next);
        deltas.push(delta);
    }
    (states, deltas)
}

fn said(message: Message) -> ServerMessage {
    ServerMessage { message: Some(message) }
}

fn delta(delta: &Delta) -> ServerMessage {
    said(Message::Delta(convert::delta_to_wire(delta)))
}

/// A state in parts of one entry each.
fn full(state: &State) -> Vec<stream::FullPart> {
    let position = Some(convert::position_to_wire(state.position()));
    let last = state.len().saturating_sub(1);
    let entries = state.entries().enumerate();
    let parts = entries.map(|(at, (id, entry))| stream::FullPart {
        position: position.clone(),
        entries: vec![convert::stored_to_wire(id, entry)],
        part: u32::try_from(at).unwrap(),
        last: at == last,
    });
    parts.collect()
}

/// What comes of messages, without the waits.
fn take(messages: Vec<ServerMessage>, shown: Option<Position>) -> Vec<Step> {
    let mut intake = Intake::new(name());
    let steps = messages.into_iter().map(|message| intake.take(message, shown));
    steps.filter(|step| *step != Step::Nothing).collect()
}

/// Name, what is said, where the relay stands, what is to be done.
type Row = (&'static str, Vec<ServerMessage>, Option<Position>, Vec<Step>);

#[test]
fn what_comes_whole_and_what_does_not() {
    let (states, deltas) = history(4);
    let at = |revision: usize| Some(states[revision].position());
    let parts = || full(&states[3]).into_iter().map(|part| said(Message::Full(part))).collect::<Vec<_>>();
    let whole = Step::Whole(Box::new(states[3].clone()));
    let without = |left_out: usize| {
        let mut parts = parts();
        parts.remove(left_out);
        parts
    };
    let forged = |digest: u128| {
        let wrong = convert::position_to_wire(Position { digest: Digest(digest), ..states[3].position() });
        let parts = full(&states[3]).into_iter();
        parts
            .map(|part| said(Message::Full(stream::FullPart { position: Some(wrong.clone()), ..part })))
            .collect::<Vec<_>>()
    };
    let catch_up = || said(Message::CatchUp(stream::CatchUp { until: 3 }));
    let rows: Vec<Row> = vec![
        ("a full state in parts", parts(), None, vec![whole.clone()]),
        ("half of one, then another", [vec![parts().remove(0)], parts()].concat(), None, vec![whole]),
        ("without its first part", without(0), None, vec![Step::NeedFull("other"); 3]),
        ("without its second part", without(1), None, vec![Step::NeedFull("other"); 2]),
        ("with a digest that does not come out", forged(1), None, vec![Step::NeedFull("digest")]),
        ("a change", vec![delta(&deltas[1])], at(1), vec![Step::Changes(vec![deltas[1].clone()])]),
        ("one of the past", vec![delta(&deltas[1])], at(2), vec![]),
        (
            "what was missed comes at once",
            vec![catch_up(), delta(&deltas[1]), delta(&deltas[2]), delta(&deltas[3])],
            at(1),
            vec![Step::Changes(deltas[1..3].to_vec()), Step::Changes(vec![deltas[3].clone()])],
        ),
        (
            "what was missed and is known",
            vec![catch_up(), delta(&deltas[1]), delta(&deltas[2])],
            at(3),
            vec![],
        ),
        ("something of a later version", vec![ServerMessage { message: None }], at(1), vec![]),
    ];
    for (name, messages, shown, want) in rows {
        assert_eq!(take(messages, shown), want, "{name}");
    }
}

#[test]
fn a_large_change_comes_in_parts_of_one_change() {
    let (states, deltas) = history(2);
    let parts = |second: &Delta| {
        let mut first = convert::delta_to_wire(&deltas[0]);
        let mut rest = convert::delta_to_wire(second);
        first.entries.truncate(1);
        first.more = true;
        rest.entries.drain(..1);
        vec![said(Message::Delta(first)), said(Message::Delta(rest))]
    };
    let shown = Some(states[0].position());
    assert_eq!(take(parts(&deltas[0]), shown), [Step::Changes(vec![deltas[0].clone()])]);
    assert_eq!(take(parts(&deltas[1]), shown), [Step::NeedFull("other")]);
}

#[test]
fn until_the_full_state_that_was_asked_for_comes_nothing_else_counts() {
    let (states, deltas) = history(3);
    let position = Some(convert::position_to_wire(states[3].position()));
    let mut messages = vec![
        delta(&deltas[2]),
        said(Message::CatchUp(stream::CatchUp { until: 3 })),
        said(Message::UpToDate(stream::UpToDate { position: position.clone() })),
        said(Message::Heartbeat(stream::Heartbeat { position, view_age_ms: 0 })),
    ];
    messages.extend(full(&states[2]).into_iter().map(|part| said(Message::Full(part))));
    let asked_for = messages.len();
    messages.push(delta(&deltas[2]));
    let shown = Some(states[1].position());
    let mut intake = Intake::after_asking(name());
    let mut steps: Vec<Step> = Vec::new();
    for (index, message) in messages.into_iter().enumerate() {
        steps.push(intake.take(message, shown));
        assert_eq!(intake.awaits_full(), index + 1 < asked_for, "the last part ends it: message {index}");
    }
    steps.retain(|step| *step != Step::Nothing);
    assert_eq!(steps, [Step::Whole(Box::new(states[2].clone())), Step::Changes(vec![deltas[2].clone()])]);
}

#[test]
fn what_a_server_says_of_itself() {
    let (states, _) = history(1);
    let position = || Some(convert::position_to_wire(states[1].position()));
    let shows = |view_age_ms| Step::Shows { position: Some(states[1].position()), view_age_ms };
    let of_tomorrow = stream::Position { digest_algorithm: 9, ..position().unwrap() };
    let rows: Vec<(&str, Message, Step)> = vec![
        ("up to date", Message::UpToDate(stream::UpToDate { position: position() }), shows(0)),
        (
            "a heartbeat",
            Message::Heartbeat(stream::Heartbeat { position: position(), view_age_ms: 70 }),
            shows(70),
        ),
        (
            "a digest of tomorrow",
            Message::UpToDate(stream::UpToDate { position: Some(of_tomorrow) }),
            Step::NeedFull("other"),
        ),
        (
            "it goes",
            Message::GoAway(stream::GoAway { retry_after_ms: 700, why: "it stops".to_owned() }),
            Step::Leave { retry_after: Duration::from_millis(700), why: "it stops".to_owned() },
        ),
    ];
    for (name, message, want) in rows {
        assert_eq!(take(vec![said(message)], None), [want], "{name}");
    }
}
