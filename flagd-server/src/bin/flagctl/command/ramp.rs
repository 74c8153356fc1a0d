//! `ramp`: look first, ask if users would pass between variants, then change exactly what was looked at.
//!
//! The change carries the revisions that the preview saw. When somebody else has changed the flag between the two
//! and nobody was asked, it is looked at anew; what a person has agreed to is never replaced by something else.

use flagd_proto::admin::change_request::Operation;
use flagd_proto::admin::{ChangeResponse, ErrorCode, Expectation, Ramp, ramp::Place};

use super::Session;
use super::change::{Waiting, finish, request, send};
use crate::args::RampArgs;
use crate::confirm::{self, Agreement, Decision};
use crate::error::{Exit, Failure};
use crate::output;

/// How often to look anew when others keep changing the flag.
const LOOKS: u32 = 5;

pub(super) async fn ramp(session: &Session, args: &RampArgs) -> Result<Exit, Failure> {
    let mut change = request(session, &args.record, Operation::Ramp(operation(args)))?;
    for look in 1.. {
        let mut preview = change.clone();
        preview.dry_run = true;
        preview.request_id.clear();
        let answered = send(session, preview).await?;
        let nothing_to_do = answered.answer.touched.is_empty();
        if args.record.dry_run || nothing_to_do {
            return finish(session, answered, Waiting::new(&args.wait, &args.record)).await;
        }
        let agreement = if args.yes { Agreement::Given } else { Agreement::Open };
        let decision = confirm::decide(answered.answer.movement(), confirm::audience(), agreement);
        if decision != Decision::Go {
            let header = session.header(&answered.answer.server, &answered.server);
            output::preview(&header, &answered.answer);
            agree(decision)?;
        }
        change.expectations = expectations(&answered.answer);
        match send(session, change.clone()).await {
            Err(Failure::Refused(detail))
                if detail.code() == ErrorCode::Conflict && decision == Decision::Go && look < LOOKS => {}
            Err(failure) => return Err(failure),
            Ok(answered) => return finish(session, answered, Waiting::new(&args.wait, &args.record)).await,
        }
    }
    Ok(Exit::Refused)
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

fn expectations(preview: &ChangeResponse) -> Vec<Expectation> {
    let seen = preview.touched.iter();
    seen.map(|touched| Expectation { id: touched.id.clone(), revision: touched.previous_revision }).collect()
}
