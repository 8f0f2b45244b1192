//! (stub)

pub mod key;
