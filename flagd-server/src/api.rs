//! placeholder: the edge
