//! What happens to a bucket as a whole? It is made, removed with its uploads, listed among others, and its keys are listed.
//!
//! A bucket is a directory at the top of the served one, with a legal name. Imports `uploads`, `listing`, `disk`, `names`.

mod create;
mod delete;
mod history;
mod identity;
mod list;
mod page;
pub mod versions;

#[cfg(test)]
pub use create::create;
pub use create::create_known;
pub use delete::{InTheWay, InTheWayKind, delete, in_the_way};
pub use history::can_keep_versions;
pub use identity::{carry, identify, identify_all};
pub use list::{BucketsQuery, list};
pub use page::page;
