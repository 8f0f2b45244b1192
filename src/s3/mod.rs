//! (stub)
pub mod address;
pub mod error;
