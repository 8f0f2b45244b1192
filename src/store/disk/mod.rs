//! What is a served directory? The disk: its root and our own directory in it (`root`, `own`), what its filesystem can do (`probe`,
//! `naming`, `grain`), whether it is still there (`presence`, `look`), how its directories are read (`reading`, `watch`), how a file
//! comes to be and to its name (`stage`, `staging`, `home`, `displace`, `inherit`, `tree`), how long until it lasts (`barrier`,
//! `unsynced`), who changes a key now and next (`locks`, `turns`), what does not fit beside an object (`spill`, `pins`).
//!
//! `bucket` is the handle by which all above reaches it. Imports `names`, `sys`, `limits`, `base`, `config`, `digest`. Everything here
//! is synchronous and may block. Threads of its own have the barrier, the lookout, the sweep of `spill`, and watched directories.
//! Limits: names on their way live in `.sluice/staging` and are settled at the next start; locks by key hash.

pub mod barrier;
pub mod bucket;
pub(in crate::store) mod displace;
pub mod error;
pub mod grain;
pub(in crate::store) mod home;
mod homes;
pub(in crate::store) mod inherit;
mod locks;
pub mod look;
#[cfg(test)]
pub(in crate::store) mod meddle;
mod naming;
pub(in crate::store) mod own;
mod pins;
pub mod presence;
pub mod probe;
pub(in crate::store) mod reading;
mod root;
pub mod rules;
#[cfg(feature = "seams")]
pub mod seams;
pub mod spill;
pub(in crate::store) mod spot;
pub mod stage;
pub(in crate::store) mod staging;
pub(in crate::store) mod summary;
pub(in crate::store) mod tree;
pub mod turns;
mod unsynced;
pub(in crate::store) mod watch;

pub use bucket::{Bucket, ListedBucket};
pub use look::Lookout;
pub use presence::Presence;
pub use root::Disk;
pub use spill::Sweeper;
