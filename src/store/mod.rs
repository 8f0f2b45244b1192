//! (stub)

pub mod key;
pub mod record;
