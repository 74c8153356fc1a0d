//! Control on a memory store and a real hub: what operators can do, and what they are told.

use std::sync::Arc;

use flagd_core::edit::EditError;
use flagd_core::key::EnvironmentName;
use flagd_proto::admin::change_request::Operation;
use flagd_proto::admin::{self, ChangeRequest, ChangeResponse};
use flagd_proto::stream;

use super::{Control, ControlError};
use crate::clock::Clock;
use crate::hub::Hub;
use crate::store::Store;
use crate::store::log::{Log, RosterEntry};
use crate::store::memory::Memory;

mod change;
mod fault;
mod read;
mod wait;
mod words;

const NOW: u64 = 1_795_000_000_000;
const FLAG: u32 = 1;
const SEGMENT: u32 = 2;
const KILL: u32 = 3;

/// A server without a network.
struct World {
    control: Arc<Control>,
    clock: Clock,
    log: Log,
}

impl World {
    async fn new() -> World {
        World::with_roster(&[]).await
    }

    /// A server that remembers these clients from before its restart.
    async fn with_roster(clients: &[RosterEntry]) -> World {
        World::on(Memory::new(1 << 40), clients).await
    }

    async fn on(store: impl Store, clients: &[RosterEntry]) -> World {
        let log = Log::new(Arc::new(store));
        let clock = Clock::fixed(NOW);
        log.create(&production(), NOW).await.unwrap();
        log.save_roster(&production(), clients, &[]).await.unwrap();
        let hub = Hub::start(log.clone(), clock.clone()).await.unwrap();
        World { control: Control::new(hub, "flagd-test".to_owned()).unwrap(), clock, log }
    }

    /// With `new-checkout` (on to 25 %), `dark-mode` and the segment `staff`, at revision 1.
    async fn with_flags() -> World {
        let world = World::new().await;
        world.recorded(create(FILE)).await;
        world
    }

    async fn ask(&self, operation: Operation) -> Result<ChangeResponse, ControlError> {
        self.control.change(request(operation)).await
    }

    async fn recorded(&self, operation: Operation) -> ChangeResponse {
        let answer = self.ask(operation).await.unwrap();
        assert!(answer.recorded, "{answer:?}");
        answer
    }

    async fn head(&self) -> u64 {
        self.log.head(&production()).await.unwrap().unwrap().revision.0
    }
}

const FILE: &str = r#"{
  "flags": {
    "new-checkout": { "rules": [{ "name": "staff", "if": { "segment": "staff" }, "serve": "on" }], "rollout": 25 },
    "dark-mode": { "rollout": 10, "description": "Night", "owner": "web", "tags": ["ui"] }
  },
  "segments": { "staff": { "include": ["u-1"] } }
}"#;

fn production() -> EnvironmentName {
    EnvironmentName::new("production").unwrap()
}

fn request(operation: Operation) -> ChangeRequest {
    ChangeRequest {
        environment: "production".into(),
        actor: "ada".into(),
        operation: Some(operation),
        ..ChangeRequest::default()
    }
}

fn create(file: &str) -> Operation {
    put(file, admin::PutMode::Create)
}

fn put(file: &str, mode: admin::PutMode) -> Operation {
    Operation::Put(admin::Put { file: file.as_bytes().to_vec().into(), mode: mode.into() })
}

fn apply(file: &str, take: admin::Take) -> Operation {
    Operation::Apply(admin::Apply {
        file: file.as_bytes().to_vec().into(),
        source: "git".into(),
        take: take.into(),
    })
}

fn ramp(flag: &str, percent: u32) -> Operation {
    let place = Some(admin::ramp::Place::Otherwise(true));
    Operation::Ramp(admin::Ramp {
        flag: flag.into(),
        share_ppm: percent * 10_000,
        place,
        ..admin::Ramp::default()
    })
}

fn kill(flags: &[&str]) -> Operation {
    Operation::Kill(names(flags))
}

fn revive(flags: &[&str]) -> Operation {
    Operation::Revive(names(flags))
}

fn names(flags: &[&str]) -> admin::FlagNames {
    admin::FlagNames { flags: flags.iter().map(ToString::to_string).collect() }
}

fn rollback(flag: &str, to_revision: u64) -> Operation {
    Operation::Rollback(admin::Rollback { flags: vec![flag.into()], segments: vec![], to_revision })
}

fn segment_add(segment: &str, unit: &str) -> Operation {
    Operation::SegmentAdd(admin::SegmentUnits {
        segment: segment.into(),
        units: vec![unit.into()],
        exclude: false,
    })
}

fn expect(kind: u32, key: &str, revision: u64) -> admin::Expectation {
    admin::Expectation { id: Some(id(kind, key)), revision }
}

fn id(kind: u32, key: &str) -> stream::EntryId {
    stream::EntryId { kind, key: key.into() }
}

fn entry(kind: u32, key: &str) -> admin::EntryName {
    admin::EntryName { kind, key: key.into() }
}

fn client(name: &str, level: u32) -> RosterEntry {
    RosterEntry {
        instance: u128::from(name.as_bytes()[0]),
        connect_counter: 1,
        name: name.to_owned(),
        app: "shop".to_owned(),
        app_version: "1".to_owned(),
        sdk: "test/1".to_owned(),
        level,
        last_seen_ms: NOW,
        position: None,
        via: String::new(),
    }
}

fn edit_error(error: ControlError) -> EditError {
    match error {
        ControlError::Edit(error) => error,
        other => panic!("{other:?}"),
    }
}
