//! Which keys are there?

pub mod cache;
pub mod list;
mod read;
pub(in crate::store) mod snapshot;
pub mod walk;
