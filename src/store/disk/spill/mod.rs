//! Extended records that do not fit beside their inode: immutable files in `.sluice/spill`, named by the SHA-256 of what they
//! hold and shared by all objects with the same record. `cp -a` and `rsync -X` copy the pointer to one without asking us, so
//! nobody counts who points where: what is not pointed to (`pins`) is found by walks through everything that is served (`sweep`).

mod file;
mod sweep;
#[cfg(test)]
mod tests;
mod walk;

pub(in crate::store) use super::pins::Pinned;
pub(in crate::store) use file::{read, write};
pub use sweep::Sweeper;
