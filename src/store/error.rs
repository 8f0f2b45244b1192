//! Why did the store refuse? What all its rooms answer.

use super::names::key::KeyError;
use crate::base::version_id::Version;
use crate::digest::Algorithm;
use crate::digest::checksum::Kind;
use crate::sys::{Cause, Errno, errno};

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
    DeleteMarker(Marker),
    /// The object could not be kept as a version where it is: another subvolume, or another project's quota, than our own directory.
    HistoryApart,
    /// The precondition does not hold for what is there now, if anything is.
    PreconditionFailed { was_there: bool },
    /// The bytes are not a key.
    Key(KeyError),
    /// A name on the way is a symlink, a FIFO, a device, or another filesystem: nothing of this bucket.
    Foreign,
    /// Other writers changed the same names again and again.
    Contended,
    /// The metadata does not fit beside the object on this filesystem, nor in a spill file.
    MetadataTooLarge,
    /// A multipart upload is not as the request says.
    Upload(UploadError),
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
    pub(in crate::store) fn errno(self) -> Errno {
        match self {
            Self::Kernel(errno) => errno,
            _ => Errno::IO,
        }
    }
}

impl From<KeyError> for StoreError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

/// A delete marker: the version that says that the object is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub version: Version,
    /// When the object was deleted.
    pub mtime_ns: i64,
    /// It is what the key is now.
    pub is_current: bool,
}

/// What the store answers.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Why an upload was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadError {
    /// No such upload of this key: never made, completed, or aborted.
    NotFound,
    /// This part is not there, has another ETag or another checksum.
    Part {
        /// Its number.
        number: u32,
    },
    /// The list is not in ascending order.
    PartOrder,
    /// Another Complete or Abort of it is under way.
    Busy,
    /// Parts of it are still being written where this Complete would make the object: come again, with its `fence`.
    Written,
    /// More bytes would have to be moved than this Complete may.
    Long,
    /// Smaller than 5 MiB and not the last.
    PartTooSmall {
        /// Its number.
        number: u32,
        /// Its size.
        size: u64,
    },
    /// The object would be larger than S3 allows.
    TooLarge,
    /// The parts have other bytes together than the request says.
    Size,
    /// The object's checksum is not the one of the request, or cannot be made of what the parts have.
    Checksum,
    /// The upload announced one checksum, and another one was sent, or none where there must be one.
    OtherChecksum {
        /// The one that was announced.
        announced: Algorithm,
        /// The one that was sent.
        sent: Option<Algorithm>,
    },
    /// The checksum is to be made of the parts in another way than the upload announced.
    OtherChecksumType {
        /// The one that was announced.
        announced: Kind,
    },
    /// The list has a part without the checksum that the upload announced for each.
    PartChecksumMissing {
        /// The one that was announced.
        announced: Algorithm,
        /// The part's number.
        number: u32,
    },
    /// The list has a part with a checksum that it was not uploaded with.
    PartOtherChecksum {
        /// The one in the list.
        given: Algorithm,
        /// The part's number.
        number: u32,
    },
}

impl From<UploadError> for StoreError {
    fn from(error: UploadError) -> Self {
        Self::Upload(error)
    }
}
