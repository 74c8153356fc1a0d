//! `ramp`: look first, ask if users would pass between variants, then change exactly what was looked at.
//!
//! How looking and changing belong together is told at `change::send_as_seen`; this file knows when to ask.

use flagd_proto::admin::change_request::Operation;
use flagd_proto::admin::{Ramp, ramp::Place};

use super::Session;
use super::change::{Decided, Waiting, finish, request, send_as_seen};
use crate::args::RampArgs;
use crate::confirm::{self, Agreement, Decision};
use crate::error::{Exit, Failure};
use crate::output;

pub(super) async fn ramp(session: &Session, args: &RampArgs) -> Result<Exit, Failure> {
    let change = request(session, &args.record, Operation::Ramp(operation(args)))?;
    let agreement = if args.yes { Agreement::Given } else { Agreement::Open };
    let answered = send_as_seen(session, &args.record, change, |seen| {
        let decision = confirm::decide(seen.answer.movement(), confirm::audience(), agreement);
        if decision == Decision::Go {
            return Ok(Decided::ByNobody);
        }
        output::preview(&session.header(&seen.answer.server, &seen.server), &seen.answer);
        agree(decision).map(|()| Decided::ByPerson)
    });
    finish(session, answered.await?, Waiting::new(&args.wait, &args.record)).await
}

fn agree(decision: Decision) -> Result<(), Failure> {
    let refused = match decision {
        Decision::Go => None,
        Decision::Ask if confirm::ask("go ahead?") => None,
        Decision::Ask => Some("not agreed; nothing was changed"),
        Decision::Refuse => {
            Some("users would pass between variants; nothing was changed\nadd --yes if that is meant")
        }
    };
    refused.map_or(Ok(()), |why| Err(Failure::NotAgreed(why.to_owned())))
}

fn operation(args: &RampArgs) -> Ramp {
    let place = match (&args.rule, args.otherwise) {
        (Some(rule), _) => Some(Place::Rule(rule.clone())),
        (None, true) => Some(Place::Otherwise(true)),
        (None, false) => None,
    };
    Ramp {
        flag: args.flag.clone(),
        variant: args.share.variant.clone().unwrap_or_default(),
        share_ppm: args.share.share_ppm,
        place,
        from: args.from.clone().unwrap_or_default(),
    }
}
