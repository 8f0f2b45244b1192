//! Where does an object live? Keys and paths, the record beside the data, staging and commit, opening, listing, multipart
//! uploads, and what a dead process left. Everything here is synchronous and may block: it runs on helper threads, except
//! `object::open_cached`, which answers only what needs no waiting. Threads of its own have the barrier, and the sweep of `spill`.
//!
//! Imports `sys`, `limits`, `base`, `config`, `model`, `digest`. Knows no HTTP, no XML, no S3 codes. Limits: names on their way live in
//! `.sluice/staging` and are settled at the next start; locks by key hash; snapshots of directories up to a bound.
//!
//! The life of an object: `stage` makes a file without a name, the caller fills it, `commit` writes the record and
//! publishes it under the key's lock, `barrier` says when it is durable; `batch` does all of that for several small objects at
//! once. `object` opens, `delete` removes, and `displace` takes a name from what has it, for both.

pub mod barrier;
pub mod batch;
pub mod bucket;
pub mod checksum;
pub mod commit;
pub mod copy;
pub mod delete;
mod displace;
pub mod grain;
mod home;
mod inherit;
pub mod key;
pub mod list;
pub mod locks;
#[cfg(test)]
mod meddle;
pub mod multipart;
mod naming;
pub mod object;
mod own;
mod presence;
mod probe;
#[cfg(test)]
mod race_tests;
mod reading;
pub mod recent;
pub mod record;
pub mod rules;
#[cfg(feature = "seams")]
pub mod seams;
mod spill;
pub mod stage;
mod staging;
mod sweep;
mod tree;
pub mod turns;
mod unsynced;
pub mod versions;
pub mod volume;
mod walk;
mod watch;

use crate::sys::{Cause, Errno, errno};

pub use presence::{Lookout, Presence};
pub use spill::Sweeper;
pub use volume::Volume;

/// Why the store refused. Small and closed; `s3::error` says what each is in S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreError {
    /// No such bucket.
    NoBucket,
    /// A bucket of that name is there already.
    BucketExists,
    /// The bucket still holds objects, or directories that are somebody's own.
    BucketNotEmpty,
    /// No such object.
    NoObject,
    /// No such version of the object.
    NoVersion,
    /// What is asked for was deleted: this marker says so.
    DeleteMarker(versions::Marker),
    /// The object could not be kept as a version where it is: another subvolume, or another project's quota, than its bucket.
    HistoryApart,
    /// The precondition does not hold for what is there now, if anything is.
    PreconditionFailed { was_there: bool },
    /// The bytes are not a key.
    Key(key::KeyError),
    /// A name on the way is a symlink, a FIFO, a device, or another filesystem: nothing of this bucket.
    Foreign,
    /// Other writers changed the same names again and again.
    Contended,
    /// The metadata does not fit beside the object on this filesystem, nor in a spill file.
    MetadataTooLarge,
    /// A multipart upload is not as the request says.
    Upload(multipart::UploadError),
    /// Another request is reading what this one needs, a large directory or the log of an upload: come again in a moment. Nobody waits
    /// for it on a helper.
    BeingRead,
    /// Owner, group, ACL or label of the file to be replaced cannot be given to the new one.
    AccessNotKept,
    /// An fsync failed earlier, or the served directory is not at its path: no change is acknowledged.
    VolumeFailed,
    /// The kernel refused.
    Kernel(Errno),
}

impl From<Errno> for StoreError {
    fn from(errno: Errno) -> Self {
        match errno::cause(errno) {
            Cause::Escapes => Self::Foreign,
            _ => Self::Kernel(errno),
        }
    }
}

impl StoreError {
    /// What the kernel said, if it was the kernel.
    fn errno(self) -> Errno {
        match self {
            Self::Kernel(errno) => errno,
            _ => Errno::IO,
        }
    }
}

impl From<key::KeyError> for StoreError {
    fn from(error: key::KeyError) -> Self {
        Self::Key(error)
    }
}

/// What the store answers.
pub type Result<T> = std::result::Result<T, StoreError>;
