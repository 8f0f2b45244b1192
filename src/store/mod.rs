//! (stub)

pub mod key;
pub mod list;
pub mod record;
pub mod walk;
