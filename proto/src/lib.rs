//! The wire of flagd: generated messages and services, and the one place that converts to core types.
//!
//! Envelopes only: definitions travel as the JSON bytes that the store keeps, so there is no second schema here.
//! Servers send `frame`s, which are encoded once for all; clients get tonic's generated clients without a transport of
//! their own.

pub mod convert;
#[cfg(feature = "server")]
pub mod frame;

/// All .proto files as one encoded `FileDescriptorSet`, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! generated {
    ($(#[$doc:meta])* $module:ident, $file:literal) => {
        $(#[$doc])*
        #[allow(
            missing_docs,
            missing_debug_implementations,
            unreachable_pub,
            rust_2018_idioms,
            clippy::all,
            clippy::pedantic,
            clippy::restriction,
            reason = "generated code; its comments stand in the .proto files"
        )]
        pub mod $module {
            include!(concat!(env!("OUT_DIR"), "/", $file));
        }
    };
}

/// The generated modules lie as prost expects them, so that one package finds another by `super`.
pub mod flagd {
    /// The stream that clients follow.
    pub mod stream {
        generated!(
            /// `flagd.stream.v1`
            v1, "flagd.stream.v1.rs"
        );
    }
    /// What operators ask.
    pub mod admin {
        generated!(
            /// `flagd.admin.v1`
            v1, "flagd.admin.v1.rs"
        );
    }
    /// What servers of a cluster ask each other.
    pub mod peer {
        generated!(
            /// `flagd.peer.v1`
            v1, "flagd.peer.v1.rs"
        );
    }
    /// What the store writes down.
    pub mod store {
        generated!(
            /// `flagd.store.v1`
            v1, "flagd.store.v1.rs"
        );
    }
}

pub use flagd::admin::v1 as admin;
pub use flagd::peer::v1 as peer;
pub use flagd::store::v1 as store;
pub use flagd::stream::v1 as stream;

pub use bytes::Bytes;
pub use prost::Message;
