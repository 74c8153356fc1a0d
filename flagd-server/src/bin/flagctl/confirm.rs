//! When to ask before a change, and how.
//!
//! A question that comes too often is answered without reading. So there is exactly one reason to ask: users
//! would pass between variants. Whatever only lowers exposure never asks, and a kill never does.

use std::io::{BufRead, IsTerminal, Write};

use flagd_proto::admin::Movement;

/// What to do about a change whose effect is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Go ahead.
    Go,
    /// Show the effect and ask.
    Ask,
    /// Nobody can be asked: refuse, and name `--yes`.
    Refuse,
}

/// Who could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// A person at a terminal.
    Person,
    /// A script or a pipeline.
    Script,
}

/// Whether agreement was given beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agreement {
    /// By `--yes`.
    Given,
    /// Not yet.
    Open,
}

/// Whether to ask.
pub(crate) fn decide(movement: Movement, audience: Audience, agreement: Agreement) -> Decision {
    match (movement, agreement, audience) {
        (Movement::Nothing | Movement::OnlyAdds | Movement::OnlyRemoves, _, _) | (_, Agreement::Given, _) => {
            Decision::Go
        }
        // A movement that a newer server tells in a word unknown here is treated like the worst that is known.
        (
            Movement::Moves | Movement::CallersDefault | Movement::Unknown | Movement::Unspecified,
            Agreement::Open,
            Audience::Person,
        ) => Decision::Ask,
        (
            Movement::Moves | Movement::CallersDefault | Movement::Unknown | Movement::Unspecified,
            Agreement::Open,
            Audience::Script,
        ) => Decision::Refuse,
    }
}

/// Who is there: a person only if they can both read the question and answer it.
pub(crate) fn audience() -> Audience {
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        Audience::Person
    } else {
        Audience::Script
    }
}

/// Asks on the terminal; anything but yes is no.
pub(crate) fn ask(question: &str) -> bool {
    let mut screen = std::io::stderr();
    if write!(screen, "{question} [y/N] ").and_then(|()| screen.flush()).is_err() {
        return false;
    }
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).is_ok() && is_yes(&answer)
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_units_that_pass_between_variants_are_a_reason_to_ask() {
        use Agreement::{Given, Open};
        use Audience::{Person, Script};
        let cases = [
            ("nothing moves", Movement::Nothing, Script, Open, Decision::Go),
            ("raising only adds", Movement::OnlyAdds, Script, Open, Decision::Go),
            ("lowering exposure never asks", Movement::OnlyRemoves, Script, Open, Decision::Go),
            ("lowering on a terminal does not ask either", Movement::OnlyRemoves, Person, Open, Decision::Go),
            ("moving units asks a person", Movement::Moves, Person, Open, Decision::Ask),
            ("moving units needs --yes in a script", Movement::Moves, Script, Open, Decision::Refuse),
            ("with --yes a script goes ahead", Movement::Moves, Script, Given, Decision::Go),
            ("with --yes a person is not asked", Movement::Moves, Person, Given, Decision::Go),
            ("unknown is treated as moving", Movement::Unknown, Person, Open, Decision::Ask),
            ("unknown in a script", Movement::Unknown, Script, Open, Decision::Refuse),
            ("a word from a newer server", Movement::Unspecified, Script, Open, Decision::Refuse),
        ];
        for (name, movement, audience, agreement, want) in cases {
            assert_eq!(decide(movement, audience, agreement), want, "{name}");
        }
    }

    #[test]
    fn only_yes_is_yes() {
        let cases = [("y\n", true), (" YES ", true), ("", false), ("n\n", false), ("yep", false)];
        for (answer, want) in cases {
            assert_eq!(is_yes(answer), want, "{answer:?}");
        }
    }
}
