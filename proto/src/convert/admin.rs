//! What a planned change does, in the words of the admin protocol.
//!
//! Only data on its way to the wire, where nothing can fail, and the few enums of a request. Names and files
//! in a request are checked by whoever acts on it.

use flagd_core::edit::{
    Consequence, Direction, Effect, FieldDifference, FieldDrift, Flow, Movement, Note, PutMode, Severity,
    Take,
};
use flagd_core::problem::Problem;

use super::entry_id_to_wire;
use crate::admin;

/// What a change does to units, for the wire.
#[must_use]
pub fn movement_to_wire(movement: Movement) -> admin::Movement {
    match movement {
        Movement::Nothing => admin::Movement::Nothing,
        Movement::OnlyAdds => admin::Movement::OnlyAdds,
        Movement::OnlyRemoves => admin::Movement::OnlyRemoves,
        Movement::Moves => admin::Movement::Moves,
        Movement::CallersDefault => admin::Movement::CallersDefault,
        Movement::Unknown => admin::Movement::Unknown,
    }
}

/// What a change does to one flag's units, for the wire.
#[must_use]
pub fn effect_to_wire(effect: &Effect) -> admin::Effect {
    admin::Effect {
        flag: effect.flag.to_string(),
        movement: movement_to_wire(effect.movement).into(),
        summary: effect.summary.clone(),
        flows: effect.flows.iter().map(flow_to_wire).collect(),
    }
}

fn flow_to_wire(flow: &Flow) -> admin::Flow {
    admin::Flow {
        place: flow.place.clone(),
        from: flow.from.to_string(),
        to: flow.to.to_string(),
        share_ppm: flow.share.0,
    }
}

/// A sentence for the operator, for the wire.
#[must_use]
pub fn note_to_wire(note: &Note) -> admin::Note {
    let severity = match note.severity {
        Severity::Info => admin::Severity::Info,
        Severity::Warning => admin::Severity::Warning,
        Severity::Missing => admin::Severity::Missing,
    };
    admin::Note {
        severity: severity.into(),
        about: note.about.as_ref().map(entry_id_to_wire),
        text: note.text.clone(),
    }
}

/// A field whose live value differs from the file's, for the wire.
#[must_use]
pub fn drift_to_wire(drift: &FieldDrift) -> admin::FieldDrift {
    admin::FieldDrift {
        id: Some(entry_id_to_wire(&drift.id)),
        field: drift.field.clone(),
        base: drift.base.clone(),
        file: drift.file.clone(),
        live: drift.live.clone(),
    }
}

/// What follows for a flag that requires a changed one, for the wire.
#[must_use]
pub fn consequence_to_wire(consequence: &Consequence) -> admin::Consequence {
    let direction = match consequence.direction {
        Direction::GoesOff => admin::Direction::GoesOff,
        Direction::ComesOn => admin::Direction::ComesOn,
        Direction::Stays => admin::Direction::Stays,
        Direction::Depends => admin::Direction::Depends,
    };
    admin::Consequence {
        flag: consequence.flag.to_string(),
        because: consequence.because.to_string(),
        direction: direction.into(),
    }
}

/// A field that differs, for the wire.
#[must_use]
pub fn difference_to_wire(difference: &FieldDifference) -> admin::FieldDifference {
    admin::FieldDifference {
        field: difference.field.clone(),
        before: difference.before.clone(),
        after: difference.after.clone(),
    }
}

/// Something that is wrong with what was written, for the wire. Line and column 0: the text is not at hand.
#[must_use]
pub fn problem_to_wire(problem: &Problem) -> admin::Problem {
    let (line, column) = problem.position.map_or((0, 0), |position| (position.line, position.column));
    admin::Problem {
        path: problem.path.clone(),
        line,
        column,
        message: problem.message.clone(),
        hint: problem.hint.clone().unwrap_or_default(),
    }
}

/// Whether definitions may exist already, from the wire; `None` when the request does not say.
#[must_use]
pub fn put_mode_from_wire(mode: admin::PutMode) -> Option<PutMode> {
    match mode {
        admin::PutMode::Unspecified => None,
        admin::PutMode::Create => Some(PutMode::Create),
        admin::PutMode::Replace => Some(PutMode::Replace),
        admin::PutMode::CreateOrReplace => Some(PutMode::CreateOrReplace),
    }
}

/// What `apply` does where both sides changed a field, from the wire; whoever does not say is asked.
#[must_use]
pub fn take_from_wire(take: admin::Take) -> Take {
    match take {
        admin::Take::Unspecified | admin::Take::Ask => Take::Ask,
        admin::Take::File => Take::File,
        admin::Take::Live => Take::Live,
    }
}
