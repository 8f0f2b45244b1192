//! (stub)
pub mod error;
