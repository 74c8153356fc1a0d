//! placeholder: the edge

pub mod admin;
pub mod status;
