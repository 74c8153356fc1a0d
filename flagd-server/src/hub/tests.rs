//! The hub on the memory store.
