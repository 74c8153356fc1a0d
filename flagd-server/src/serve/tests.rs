//! Stories through a real client on a real port.
