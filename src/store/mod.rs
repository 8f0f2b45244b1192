//! Where does an object live? A hall between these rooms, each of which imports those before it, as `tests/tidy.rs` says:
//!
//! `names` (what a key and a record say), `error` (why the store refuses), `disk` (what a served directory is), `listing` (which keys are
//! there), `objects` (what becomes of one), `uploads` (multipart), `buckets`, and `volume`, which ties them together.
//!
//! Everything here is synchronous and may block: it runs on helper threads, except `Bucket::open_cached` and `objects::recent`. Knows no
//! HTTP, no XML, no S3 codes.

pub mod buckets;
pub mod disk;
pub mod error;
pub mod listing;
pub mod names;
pub mod objects;
pub mod uploads;
pub mod volume;
