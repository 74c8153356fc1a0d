//! Every mistake that a person can make, told as they need it told; and every limit, from both sides.

mod limits;
mod mistakes;
mod schema;
