//! Full states: encoded once for all who ask, and compressed once for those who take that.
//!
//! Only the newest one is kept. Its work is done by one task at a time, off the threads that carry everybody's streams;
//! whoever asks meanwhile waits for it and finds it done. How many are on their way at a time is not decided here.

use std::sync::Arc;

use flagd_core::revision::Position;
use flagd_core::state::State;
use flagd_proto::frame::Frame;
use tokio::sync::Mutex;

use super::frames;

/// What a client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Messages as they are.
    Plain,
    /// Messages that say of themselves that they are compressed with gzip, where that makes them smaller.
    Gzip,
}

/// A full state, encoded.
#[derive(Clone, Debug)]
pub(crate) struct Full {
    /// Where it stands.
    pub(crate) position: Position,
    /// Its parts.
    pub(crate) frames: Arc<[Frame]>,
}

/// The newest full state, in every encoding that was asked for.
#[derive(Debug, Default)]
pub(crate) struct Fulls(Mutex<Option<Encoded>>);

#[derive(Debug)]
struct Encoded {
    plain: Full,
    gzip: Option<Arc<[Frame]>>,
}

impl Fulls {
    /// The state that `newest` tells when its turn has come, encoded.
    pub(crate) async fn encode(&self, newest: impl FnOnce() -> Arc<State>, encoding: Encoding) -> Full {
        let mut kept = self.0.lock().await;
        let state = newest();
        let position = state.position();
        let encoded = match kept.take() {
            Some(encoded) if encoded.plain.position == position => encoded,
            _ => {
                let frames = off_the_threads(move || frames::full(&state)).await;
                Encoded { plain: Full { position, frames }, gzip: None }
            }
        };
        let encoded = kept.insert(encoded);
        if encoding == Encoding::Plain {
            return encoded.plain.clone();
        }
        let frames = if let Some(frames) = &encoded.gzip {
            Arc::clone(frames)
        } else {
            let plain = Arc::clone(&encoded.plain.frames);
            let frames = off_the_threads(move || frames::compressed(&plain)).await;
            Arc::clone(encoded.gzip.insert(frames))
        };
        Full { position, frames }
    }
}

/// Megabytes of work stay off the threads that carry everybody's streams.
async fn off_the_threads<T: Send + 'static>(work: impl Fn() -> T + Clone + Send + 'static) -> T {
    // It fails when it panics or the runtime ends: who asks is about to end as well, or finds out why.
    match tokio::task::spawn_blocking(work.clone()).await {
        Ok(done) => done,
        Err(_) => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flagd_core::entry::{EntryId, EntryKind, EntryWrite};
    use flagd_core::key::EnvironmentName;
    use flagd_core::revision::Epoch;

    fn state(revisions: u64) -> Arc<State> {
        let epoch = Epoch { minted_ms: 1, random: 2 };
        let mut state = State::empty(EnvironmentName::new("default").unwrap(), epoch);
        for revision in 0..revisions {
            let id = EntryId::new(EntryKind::FLAG, &format!("f{revision}"));
            let delta = state.delta(vec![EntryWrite::set(id, vec![b'x'; 2_000])]);
            state.apply(&delta).unwrap();
        }
        Arc::new(state)
    }

    #[tokio::test]
    async fn each_encoding_of_a_state_is_made_once() {
        let fulls = Fulls::default();
        let newest = state(3);
        let encode = |state: &Arc<State>, encoding| {
            let (fulls, state) = (&fulls, Arc::clone(state));
            async move { fulls.encode(move || state, encoding).await }
        };
        let plain = encode(&newest, Encoding::Plain).await;
        let gzip = encode(&newest, Encoding::Gzip).await;
        assert_eq!((plain.position, gzip.position), (newest.position(), newest.position()));
        let bytes = |full: &Full| full.frames.iter().map(Frame::len).sum::<usize>();
        assert!(bytes(&gzip) * 10 < bytes(&plain), "{} of {} bytes", bytes(&gzip), bytes(&plain));
        for (encoding, full) in [(Encoding::Plain, &plain), (Encoding::Gzip, &gzip)] {
            let again = encode(&newest, encoding).await;
            assert!(Arc::ptr_eq(&again.frames, &full.frames), "{encoding:?}");
        }
        let next = encode(&state(4), Encoding::Gzip).await;
        assert_eq!(next.position, state(4).position());
        assert_ne!(next.frames, gzip.frames);
    }
}
