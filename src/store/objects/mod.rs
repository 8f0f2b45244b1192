//! What becomes of an object? It is opened, published, copied, removed.
//!
//! `Bucket::stage` (`disk`) makes a file without a name, the caller fills it, `commit` writes the record and publishes it under the
//! key's lock, the barrier says when it is durable; `batch` does all of that for several small objects at once, and `write` says what is
//! published. `Bucket::open` opens (`open`), a core remembers what it opened (`recent`), `copy` brings bytes from file to file,
//! `Bucket::delete` removes (`delete`).
//!
//! Imports `disk`, `names`, `digest`. All of it may block and runs on helpers, except `Bucket::open_cached` and `recent`, which answer only
//! what needs no waiting.

pub mod batch;
pub mod commit;
pub mod copy;
mod delete;
mod delete_version;
pub mod open;
pub mod recent;
pub(in crate::store) mod seal;
pub mod versions;
pub mod write;

pub use delete::Deleted;
