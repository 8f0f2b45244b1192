//! (stub)
pub mod address;
pub mod error;
pub mod operation;
