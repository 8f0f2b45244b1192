//! Which buckets are there?

pub mod bucket;
