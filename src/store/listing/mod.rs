//! Which keys are there, in S3's order? One page of a bucket (`list`), whether anything is below (`walk`), a directory's names
//! (`read`, `snapshot`), remembered while they are true (`cache`).
//!
//! Imports `disk`, `names`. Limits: snapshots of directories up to a bound in bytes; one that is too large for one is read in windows.

pub mod cache;
pub mod list;
mod read;
pub(in crate::store) mod snapshot;
pub mod walk;
