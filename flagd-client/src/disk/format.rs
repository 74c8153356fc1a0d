//! The bytes of the files on disk.
//!
//! A file is read by whoever comes later: after a crash, by another version, in the wrong folder. So it says what
//! it is, in which version, of which environment, and carries a checksum over all of that; and a state must
//! come to the digest that it claims. Numbers are little-endian; texts and bytes stand behind their length. A
//! version that is not known here is told apart from damage. Where files lie is the parent's business.

use std::collections::BTreeMap;

use flagd_core::entry::{EntryId, EntryKind, StoredEntry};
use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Digest, Epoch, Position, Revision};
use flagd_core::state::State;
use xxhash_rust::xxh3::xxh3_128;

use crate::feed::{Kills, LastGood};

#[cfg(any(test, fuzzing))]
pub(crate) mod bytes;

const STATE_MAGIC: [u8; 8] = *b"flagd-st";
const KILLS_MAGIC: [u8; 8] = *b"flagd-ki";
/// Raised whenever the bytes after the header mean something else.
const VERSION: u32 = 1;

/// A state as it is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SavedState {
    pub(crate) state: State,
    /// The versions that still served where the state's own were refused.
    pub(crate) last_good: LastGood,
    /// When a server last confirmed the state, in milliseconds since 1970.
    pub(crate) confirmed_at_ms: Option<i64>,
}

/// Why a file is not used. The next older one is tried.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    /// It ends too early. Do: nothing, it is passed over.
    #[error("the file is cut short")]
    Short,
    /// It is something else. Do: find out who writes into this folder.
    #[error("this is no such file of flagd's")]
    Foreign,
    /// A later version wrote it. Do: nothing, it is passed over.
    #[error("written in format {found}; this version reads {VERSION}")]
    OtherVersion { found: u32 },
    /// Its bytes have changed. Do: check the disk.
    #[error("the checksum does not match: the file is damaged")]
    Damaged,
    /// It is another environment's. Do: nothing, it is never used.
    #[error("it belongs to the environment `{found}`")]
    OtherEnvironment { found: String },
    /// The entries do not give the claimed digest. Do: nothing, it is passed over.
    #[error("the entries do not come to the digest that the file claims")]
    Digest,
}

pub(crate) fn write_state(saved: &SavedState) -> Vec<u8> {
    let mut body = Vec::new();
    let position = saved.state.position();
    put_bytes(&mut body, saved.state.environment().as_str().as_bytes());
    put_place(&mut body, position.epoch, position.revision);
    body.extend_from_slice(&position.digest.to_bytes());
    body.extend_from_slice(&saved.confirmed_at_ms.unwrap_or(i64::MIN).to_le_bytes());
    put_count(&mut body, saved.state.len());
    for (id, entry) in saved.state.entries() {
        put_id(&mut body, id);
        put_u64(&mut body, entry.revision.0);
        put_bytes(&mut body, &entry.bytes);
    }
    put_count(&mut body, saved.last_good.len());
    for (id, bytes) in &saved.last_good {
        put_id(&mut body, id);
        put_bytes(&mut body, bytes);
    }
    seal(STATE_MAGIC, &body)
}

pub(crate) fn read_state(bytes: &[u8], environment: &EnvironmentName) -> Result<SavedState, FormatError> {
    let mut body = open(STATE_MAGIC, bytes)?;
    check_environment(&mut body, environment)?;
    let (epoch, revision) = body.place()?;
    let digest = Digest::from_bytes(body.take(16)?).ok_or(FormatError::Short)?;
    let confirmed_at_ms = Some(i64::from_le_bytes(body.array()?)).filter(|at_ms| *at_ms != i64::MIN);
    let mut entries = Vec::new();
    for _ in 0..body.u64()? {
        let id = body.id()?;
        let revision = Revision(body.u64()?);
        entries.push((id, StoredEntry { revision, bytes: body.bytes()?.into() }));
    }
    let mut last_good = LastGood::new();
    for _ in 0..body.u64()? {
        last_good.insert(body.id()?, body.bytes()?.into());
    }
    let state = State::from_entries(environment.clone(), epoch, revision, entries);
    if state.position() != (Position { epoch, revision, digest }) {
        return Err(FormatError::Digest);
    }
    Ok(SavedState { state, last_good, confirmed_at_ms })
}

pub(crate) fn write_kills(kills: &Kills, environment: &EnvironmentName) -> Vec<u8> {
    let mut body = Vec::new();
    put_bytes(&mut body, environment.as_str().as_bytes());
    put_place(&mut body, kills.epoch, kills.revision);
    put_count(&mut body, kills.by_flag.len());
    for (key, bytes) in &kills.by_flag {
        put_bytes(&mut body, key.as_bytes());
        put_bytes(&mut body, bytes);
    }
    seal(KILLS_MAGIC, &body)
}

pub(crate) fn read_kills(bytes: &[u8], environment: &EnvironmentName) -> Result<Kills, FormatError> {
    let mut body = open(KILLS_MAGIC, bytes)?;
    check_environment(&mut body, environment)?;
    let (epoch, revision) = body.place()?;
    let mut by_flag = BTreeMap::new();
    for _ in 0..body.u64()? {
        by_flag.insert(body.text()?.into(), body.bytes()?.into());
    }
    Ok(Kills { epoch, revision, by_flag })
}

fn seal(magic: [u8; 8], body: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(body.len() + 28);
    file.extend_from_slice(&magic);
    file.extend_from_slice(&VERSION.to_le_bytes());
    file.extend_from_slice(&xxh3_128(body).to_le_bytes());
    file.extend_from_slice(body);
    file
}

fn open(magic: [u8; 8], bytes: &[u8]) -> Result<Reader<'_>, FormatError> {
    let mut file = Reader(bytes);
    if file.array()? != magic {
        return Err(FormatError::Foreign);
    }
    let found = u32::from_le_bytes(file.array()?);
    if found != VERSION {
        return Err(FormatError::OtherVersion { found });
    }
    let checksum = u128::from_le_bytes(file.array()?);
    if xxh3_128(file.0) != checksum {
        return Err(FormatError::Damaged);
    }
    Ok(file)
}

fn check_environment(body: &mut Reader<'_>, environment: &EnvironmentName) -> Result<(), FormatError> {
    let found = body.text()?;
    if found == environment.as_str() {
        Ok(())
    } else {
        Err(FormatError::OtherEnvironment { found: found.to_owned() })
    }
}

fn put_u64(body: &mut Vec<u8>, number: u64) {
    body.extend_from_slice(&number.to_le_bytes());
}

fn put_count(body: &mut Vec<u8>, count: usize) {
    put_u64(body, count as u64);
}

fn put_bytes(body: &mut Vec<u8>, bytes: &[u8]) {
    put_count(body, bytes.len());
    body.extend_from_slice(bytes);
}

fn put_place(body: &mut Vec<u8>, epoch: Epoch, revision: Revision) {
    put_u64(body, epoch.minted_ms);
    put_u64(body, epoch.random);
    put_u64(body, revision.0);
}

fn put_id(body: &mut Vec<u8>, id: &EntryId) {
    put_u64(body, id.kind.number().into());
    put_bytes(body, id.key.as_bytes());
}

/// What is left to be read; nothing in it is trusted.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8], FormatError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(FormatError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        self.take(N)?.try_into().map_err(|_| FormatError::Short)
    }

    fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Result<&'b [u8], FormatError> {
        let length = usize::try_from(self.u64()?).map_err(|_| FormatError::Short)?;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'b str, FormatError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| FormatError::Damaged)
    }

    fn place(&mut self) -> Result<(Epoch, Revision), FormatError> {
        let epoch = Epoch { minted_ms: self.u64()?, random: self.u64()? };
        Ok((epoch, Revision(self.u64()?)))
    }

    fn id(&mut self) -> Result<EntryId, FormatError> {
        let kind = u32::try_from(self.u64()?).map_err(|_| FormatError::Damaged)?;
        Ok(EntryId::new(EntryKind::from_number(kind), self.text()?))
    }
}
