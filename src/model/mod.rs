//! What can be configured? Plain data: documents keep these very types, XML reads and writes them, and whoever acts by them is handed them.
//!
//! Imports nothing of ours but `base`. No I/O, no clock, no chance: what is random or of now is an argument. Limits: what has no
//! fixed size has its bound where it is checked (`Bucket::is_legal`).

mod bucket;
mod cluster;

pub use bucket::{Bucket, BucketId, Carried, DirectoryIdentity, FoundDirectory, Versioning};
pub use cluster::Cluster;
