//! placeholder: owned by control
