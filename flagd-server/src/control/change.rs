//! From a wish to a recorded change, or to the reason why not.
//!
//! Read the head, plan on the view of it, append if the head is still that one; else all again on the newer
//! state. Two people who change different flags both succeed; of two who change one flag, one learns what the
//! other did. Kills take a lane of their own: they never wait for other writers of this process.
//!
//! After the store failed in the middle of an append nobody knows what it holds. The request id is looked up, and as
//! the id is recorded in the transaction of its change, going round again is safe: either the id is found, or the
//! append can no longer happen behind a head that has moved.

use std::sync::Arc;
use std::time::Duration;

use flagd_core::definition::{LEVEL, SegmentList};
use flagd_core::edit::Author;
use flagd_core::entry::{EntryId, EntryKind};
use flagd_core::key::SegmentKey;
use flagd_core::revision::{Position, Revision};
use flagd_proto::admin::{self, ChangeRequest, ChangeResponse};
use flagd_proto::{Message as _, convert};

use super::answer::{self, Planned};
use super::diff::differing;
use super::edit::{Wanted, touched};
use super::patience::{Lane, Patience, out_of_time};
use super::read::reaches;
use super::request::{self, Levels, Name, Recording, Wish};
use super::{Control, ControlError, clients, operation};
use crate::hub::{Environment, View};
use crate::limits;
use crate::store::StoreError;
use crate::store::log::{FirstAnswer, NewChange, Origin, Outcome};

/// How often an append is tried anew after the store failed in the middle of it.
const FAILURES_MAX: u32 = 4;
/// The first pause after such a failure; it doubles.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause after a lost race.
const LOST_PAUSE_MAX_US: u64 = 20_000;
/// How long before the end the wait for the view is given up, so that its own error is the one that is told.
const VIEW_MARGIN: Duration = Duration::from_millis(100);
/// Most conflicts told at once.
const CONFLICTS_MAX: usize = 20;

/// How one attempt ended without an error.
enum Attempt {
    /// There is an answer; recorded at this position, if it was recorded now.
    Answered(Box<ChangeResponse>),
    /// Somebody else was first.
    Lost,
    /// The store failed in the middle of the append.
    Unknown(String),
}

/// What is known before a plan.
enum Prepared {
    /// The request has its answer already.
    Answered(Box<ChangeResponse>),
    /// The state to plan on, and what is wanted of it.
    Ready(View, Box<Wanted>),
}

/// Whether an attempt looks its request id up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LookUp {
    Yes,
    /// The id was made a moment ago and nothing was appended with it.
    Needless,
}

impl Control {
    /// Makes one change, or tells why not.
    ///
    /// # Errors
    /// [`ControlError`]; nothing was changed then, except for [`ControlError::OutcomeUnknown`], which says so.
    pub async fn change(&self, request: ChangeRequest) -> Result<ChangeResponse, ControlError> {
        self.must_be_no_relay("records no changes")?;
        let mut wish = request::check(request)?;
        let mut patience = Patience::new();
        let environment = patience.ask(self.environment(&wish.environment)).await?;
        let mut look_up = LookUp::Yes;
        if wish.request_id.is_empty() {
            wish.request_id = random_id()?;
            look_up = LookUp::Needless;
        }
        if wish.recording == Recording::DryRun {
            look_up = LookUp::Needless;
        }
        let wish = Arc::new(wish);
        // Before anything else, so that a retry is answered also where nothing could be changed now.
        if look_up == LookUp::Yes
            && let Some(answer) = patience.ask(self.first_answer(&wish)).await?
        {
            return Ok(self.seen(&environment, answer).await);
        }
        let answer = if wish.operation.is_kill() {
            self.attempts(&environment, &wish, look_up, patience).await?
        } else {
            let lane = self.lane(&wish);
            let _turn = lane.turn().await?;
            let answer = self.attempts(&environment, &wish, look_up, patience).await;
            lane.ended(&answer);
            answer?
        };
        Ok(self.seen(&environment, answer).await)
    }

    /// The caller's next read, here, sees what it was just told.
    async fn seen(&self, environment: &Arc<Environment>, answer: ChangeResponse) -> ChangeResponse {
        if let (true, Some(Ok(position))) =
            (answer.recorded, answer.position.as_ref().map(convert::position_from_wire))
        {
            environment.view_at(position, limits::READ_WAIT_MAX).await;
        }
        answer
    }

    async fn attempts(
        &self,
        environment: &Arc<Environment>,
        wish: &Arc<Wish>,
        mut look_up: LookUp,
        mut patience: Patience,
    ) -> Result<ChangeResponse, ControlError> {
        let mut failures = 0;
        for attempt in 1..=limits::APPEND_ATTEMPTS_MAX {
            let why = match self.attempt(environment, wish, look_up, &mut patience).await {
                Ok(Attempt::Answered(answer)) => return Ok(*answer),
                Ok(Attempt::Lost) => {
                    pause_after_lost(attempt).await;
                    continue;
                }
                Ok(Attempt::Unknown(why)) => why,
                Err(error) if failures > 0 && may_pass(&error) => error.to_string(),
                Err(error) => return Err(error),
            };
            failures += 1;
            look_up = LookUp::Yes;
            tracing::warn!(environment = %wish.environment, request_id = %wish.request_id, why, "an append had no clear end");
            if failures > FAILURES_MAX || patience.left().is_zero() {
                return Err(ControlError::OutcomeUnknown { request_id: wish.request_id.clone(), why });
            }
            patience.wait(tokio::time::sleep(FAILURE_PAUSE * (1 << failures))).await;
        }
        Err(ControlError::Unavailable(format!(
            "`{}` changes so fast that this change lost the race {} times; nothing was changed, try again",
            wish.environment,
            limits::APPEND_ATTEMPTS_MAX
        )))
    }

    async fn attempt(
        &self,
        environment: &Arc<Environment>,
        wish: &Arc<Wish>,
        look_up: LookUp,
        patience: &mut Patience,
    ) -> Result<Attempt, ControlError> {
        let longest = patience.left();
        let (view, wanted) = match patience.ask(self.prepare(environment, wish, look_up, longest)).await? {
            Prepared::Answered(answer) => return Ok(Attempt::Answered(answer)),
            Prepared::Ready(view, wanted) => (view, wanted),
        };
        let planned = self.plan(wish, &view, *wanted).await?;
        if wish.recording == Recording::Record {
            patience.ask(self.check_quota(wish)).await?;
        }
        self.check_levels(environment, wish, &planned).await?;
        if wish.recording == Recording::DryRun {
            return Ok(Attempt::Answered(Box::new(planned.unrecorded())));
        }
        if planned.is_nothing() {
            // All of it was live already; the next `apply` of this source must know that.
            if let Some(base) = planned.news_of_source() {
                let (source, revision) = (wish.operation.source(), view.state.revision());
                let log = self.hub.log();
                let remembered = log.remember_source(&wish.environment, source, revision, base);
                patience.wait(remembered).await.unwrap_or_else(|| Err(out_of_time()))?;
            }
            let answer = planned.unrecorded();
            if look_up == LookUp::Yes {
                self.remember(wish, &answer, patience).await?;
            }
            return Ok(Attempt::Answered(Box::new(answer)));
        }
        self.append(wish, &view, planned, patience).await
    }

    /// Everything that is asked of the store before it can be planned; waits for the view `longest`.
    async fn prepare(
        &self,
        environment: &Environment,
        wish: &Arc<Wish>,
        look_up: LookUp,
        longest: Duration,
    ) -> Result<Prepared, ControlError> {
        let view = self.view_at_head(environment, longest.saturating_sub(VIEW_MARGIN)).await?;
        // After the view: what it shows was recorded before this look.
        if look_up == LookUp::Yes
            && let Some(answer) = self.first_answer(wish).await?
        {
            return Ok(Prepared::Answered(Box::new(answer)));
        }
        self.check_expectations(wish, &view).await?;
        let wanted = self.wanted(wish, &view.state).await?;
        Ok(Prepared::Ready(view, Box::new(wanted)))
    }

    /// Keeps the answer that there was nothing to change: a late retry must not undo what others did since.
    async fn remember(
        &self,
        wish: &Wish,
        answer: &ChangeResponse,
        patience: &mut Patience,
    ) -> Result<(), ControlError> {
        let first = FirstAnswer {
            revision: Revision(answer.revision),
            answer: answer.encode_to_vec(),
            fingerprint: Some(wish.fingerprint),
        };
        let now_ms = self.hub.clock().now_ms();
        let log = self.hub.log();
        let kept = log.remember_answer(&wish.environment, &wish.request_id, now_ms, first);
        match patience.wait(kept).await.unwrap_or_else(|| Err(out_of_time())) {
            // Who repeats a kill wants it killed: the answer is right with and without the record.
            Err(error) if wish.operation.is_urgent() => {
                tracing::warn!(request_id = %wish.request_id, %error, "an answer could not be kept");
                Ok(())
            }
            other => Ok(other?),
        }
    }

    async fn append(
        &self,
        wish: &Arc<Wish>,
        view: &View,
        planned: Planned,
        patience: &mut Patience,
    ) -> Result<Attempt, ControlError> {
        let (answer, plan) = planned.recorded(&view.state);
        patience
            .extend_for(plan.writes.iter().filter_map(|write| write.bytes.as_ref()).map(|b| b.len()).sum());
        let change = NewChange {
            origin: Origin {
                actor: wish.actor.clone(),
                reason: wish.reason.clone(),
                request_id: wish.request_id.clone(),
                operation: answer.operation.clone(),
                verb: operation::verb(&wish.operation).to_owned(),
                source: wish.operation.source().to_owned(),
            },
            time_ms: answer.time_ms,
            writes: plan.writes,
            answer: answer.encode_to_vec(),
            fingerprint: wish.fingerprint,
            source_base: Some(plan.base).filter(|_| !wish.operation.source().is_empty()),
        };
        let appended = patience.wait(self.hub.log().append(&wish.environment, &view.state, change)).await;
        match appended.unwrap_or_else(|| Err(out_of_time())) {
            Ok(Outcome::Recorded(delta)) => {
                self.recorded.note(&wish.environment, delta.epoch, delta.to);
                tracing::info!(
                    environment = %wish.environment, revision = %delta.to, actor = %wish.actor,
                    operation = %answer.operation, "recorded"
                );
                Ok(Attempt::Answered(Box::new(answer)))
            }
            Ok(Outcome::Lost) => Ok(Attempt::Lost),
            Err(StoreError::Full(why)) => Err(ControlError::Quota(why)),
            Err(
                error @ (StoreError::TooLarge { .. }
                | StoreError::TooMany { .. }
                | StoreError::NoEnvironment(_)),
            ) => Err(error.into()),
            Err(error) => Ok(Attempt::Unknown(error.to_string())),
        }
    }

    fn lane(&self, wish: &Wish) -> Arc<Lane> {
        Arc::clone(&self.lanes.entry(wish.environment.clone()).or_default())
    }

    /// The first answer to the request, marked as such.
    async fn first_answer(&self, wish: &Wish) -> Result<Option<ChangeResponse>, ControlError> {
        let now_ms = self.hub.clock().now_ms();
        let Some(first) = self.hub.log().first_answer(&wish.environment, &wish.request_id, now_ms).await?
        else {
            return Ok(None);
        };
        let decoded = ChangeResponse::decode(first.answer.as_slice());
        if first.fingerprint.is_some_and(|asked| asked != wish.fingerprint) {
            let asked = decoded.map(|answer| answer.operation).unwrap_or_default();
            return Err(ControlError::Request {
                message: format!(
                    "request id {} was used for `{asked}` (revision {}); nothing was changed now",
                    wish.request_id, first.revision
                ),
                hint: "use another id".to_owned(),
            });
        }
        match decoded {
            Ok(answer) => {
                Ok(Some(ChangeResponse { repeated_answer: true, server: self.server.clone(), ..answer }))
            }
            // Recorded is recorded: what cannot be read back is the wording only.
            Err(error) => {
                tracing::warn!(request_id = %wish.request_id, %error, "the first answer to a request cannot be read");
                Ok(Some(ChangeResponse {
                    revision: first.revision.0,
                    recorded: true,
                    repeated_answer: true,
                    server: self.server.clone(),
                    ..ChangeResponse::default()
                }))
            }
        }
    }

    /// The view of the head, or why nothing can be changed now.
    async fn view_at_head(&self, environment: &Environment, longest: Duration) -> Result<View, ControlError> {
        let name = environment.name();
        let head = self.hub.log().head(name).await?.ok_or_else(|| ControlError::HeadMissing(name.clone()))?;
        let view = environment.view_at(head, longest).await;
        let shown = view.state.position();
        if reaches(shown, head) {
            return Ok(view);
        }
        Err(ControlError::Unavailable(format!(
            "this server shows revision {} of `{name}`, the store is at {}; nothing was changed, try again here or at another server",
            shown.revision, head.revision
        )))
    }

    async fn plan(&self, wish: &Arc<Wish>, view: &View, wanted: Wanted) -> Result<Planned, ControlError> {
        let (wish, state, server) = (Arc::clone(wish), Arc::clone(&view.state), self.server.clone());
        let author = Author {
            actor: wish.actor.clone(),
            reason: Some(wish.reason.clone()).filter(|reason| !reason.is_empty()),
            now: self.hub.clock().now(),
        };
        // On a thread of its own: a large file takes a while, and a mistake in planning must not take more with it.
        tokio::task::spawn_blocking(move || answer::plan(&wish, &state, wanted, &author, server))
            .await
            .map_err(|error| ControlError::Internal(format!("planning failed: {error}")))?
    }

    async fn check_quota(&self, wish: &Wish) -> Result<(), ControlError> {
        if wish.operation.is_urgent() {
            return Ok(());
        }
        let quota = self.hub.log().quota().await?;
        let used_ppm = used_ppm(quota);
        if u64::from(used_ppm) < limits::QUOTA_STOP_PPM {
            return Ok(());
        }
        Err(ControlError::Quota(format!("{} of {} bytes are in use", quota.used_bytes, quota.limit_bytes)))
    }

    async fn check_expectations(&self, wish: &Wish, view: &View) -> Result<(), ControlError> {
        let mut conflicts = Vec::new();
        for (id, expected) in &wish.expectations {
            let found = view.state.get(id).map_or(Revision::ZERO, |entry| entry.revision);
            if found != *expected && conflicts.len() < CONFLICTS_MAX {
                conflicts.push(self.conflict(wish, view, id, *expected).await?);
            }
        }
        if conflicts.is_empty() { Ok(()) } else { Err(ControlError::Conflict(conflicts)) }
    }

    /// Who changed an entry since the caller saw it, and how.
    async fn conflict(
        &self,
        wish: &Wish,
        view: &View,
        id: &EntryId,
        expected: Revision,
    ) -> Result<admin::Conflict, ControlError> {
        let log = self.hub.log();
        let stored = view.state.get(id);
        let found = stored.map_or(Revision::ZERO, |entry| entry.revision);
        // An entry that is gone left its change's revision in its tombstone, if it has one.
        let latest = stored.or_else(|| view.state.get(&answer::tombstone_of(id))).map(|entry| entry.revision);
        let change = match latest {
            Some(revision) => log.change(&wish.environment, revision).await?,
            None => None,
        };
        let seen = match expected {
            Revision::ZERO => None,
            revision => log.change(&wish.environment, revision).await?,
        };
        let before =
            seen.as_ref().and_then(|change| touched(change, id)).and_then(|(write, _)| write.bytes.clone());
        let known = expected == Revision::ZERO || before.is_some();
        let after = stored.map(|entry| &*entry.bytes);
        let of_lists = self.differing_lists(wish, view, id, expected).await?;
        Ok(admin::Conflict {
            id: Some(convert::entry_id_to_wire(id)),
            expected_revision: expected.0,
            found_revision: found.0,
            changed_by: change.as_ref().map(|change| change.origin.actor.clone()).unwrap_or_default(),
            changed_ms: change.as_ref().map_or(0, |change| change.time_ms),
            operation: change.map(|change| change.origin.operation).unwrap_or_default(),
            differences: match of_lists {
                Some(differences) => differences,
                None if known => answer::differences(before.as_deref(), after, &[]),
                None => Vec::new(),
            },
        })
    }

    /// How a segment that keeps lists in parts differs from what the caller saw; `None` where that is told without
    /// looking at parts, or where the history does not reach back.
    async fn differing_lists(
        &self,
        wish: &Wish,
        view: &View,
        id: &EntryId,
        expected: Revision,
    ) -> Result<Option<Vec<admin::FieldDifference>>, ControlError> {
        let keeps_parts = |list| view.state.parts_of(&id.key, list).next().is_some();
        if id.kind != EntryKind::SEGMENT || !SegmentList::BOTH.into_iter().any(keeps_parts) {
            return Ok(None);
        }
        let (Ok(key), Some(then)) =
            (SegmentKey::new(&id.key), self.hub.log().state_at(&wish.environment, expected).await?)
        else {
            return Ok(None);
        };
        let wire = Some(convert::entry_id_to_wire(id));
        let mut entries = differing(&then, &view.state, Some(&Name::Segment(key))).into_iter();
        Ok(entries.find(|entry| entry.id == wire).map(|entry| entry.differences))
    }

    /// Clients that would refuse what is written stop it, by name.
    async fn check_levels(
        &self,
        environment: &Arc<Environment>,
        wish: &Wish,
        planned: &Planned,
    ) -> Result<(), ControlError> {
        if wish.operation.is_urgent() || wish.levels == Levels::Anyway {
            return Ok(());
        }
        // Nothing that is written is above this server's own level; mostly that is the end of it.
        if self.cluster.ask_below_level(environment, LEVEL).await.is_empty() {
            return Ok(());
        }
        let Some(level) = planned.level() else { return Ok(()) };
        let below = self.cluster.ask_below_level(environment, level).await;
        if below.is_empty() {
            return Ok(());
        }
        Err(ControlError::Level { level, clients: below.iter().map(clients::client_to_wire).collect() })
    }
}

/// Whether an error is of the moment: with an append of unknown outcome behind, it decides nothing.
fn may_pass(error: &ControlError) -> bool {
    matches!(
        error,
        ControlError::Unavailable(_)
            | ControlError::HeadMissing(_)
            | ControlError::Quota(_)
            | ControlError::Store(StoreError::Unavailable(_) | StoreError::Corrupt(_) | StoreError::Full(_))
    )
}

/// The share of the quota in use, parts per million.
pub(super) fn used_ppm(quota: crate::store::Quota) -> u32 {
    let used = u128::from(quota.used_bytes) * 1_000_000 / u128::from(quota.limit_bytes.max(1));
    u32::try_from(used).unwrap_or(u32::MAX)
}

/// The position after a change to a state.
pub(super) fn position_after(before: Position, digest: flagd_core::revision::Digest) -> Position {
    Position { revision: before.revision.next(), digest, ..before }
}

fn random_id() -> Result<String, ControlError> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| ControlError::Unavailable(format!("no random numbers: {error}")))?;
    Ok(format!("server-{:032x}", u128::from_be_bytes(bytes)))
}

async fn pause_after_lost(attempt: u32) {
    let most_us = (u64::from(attempt) * 500).min(LOST_PAUSE_MAX_US);
    // Without random numbers all writers pause alike, which costs a few more rounds.
    let random = getrandom::u64().unwrap_or(u64::MAX);
    tokio::time::sleep(Duration::from_micros(random % most_us.max(1))).await;
}
