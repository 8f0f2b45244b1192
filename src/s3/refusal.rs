//! What the lower rooms refuse, in S3's words: one table from their small enums to codes.

use super::error::{Code, S3Error};
use crate::auth::AuthError;
use crate::body::BodyError;
use crate::flow::{Mismatch, TransferError};
use crate::io::HelperPanicked;
use crate::limits::PART_SIZE_MIN;
use crate::store::StoreError;
use crate::store::barrier::VolumeFailed;
use crate::store::key::KeyError;
use crate::store::multipart::UploadError;
use crate::sys::{Cause, Errno, errno};

impl From<AuthError> for S3Error {
    fn from(error: AuthError) -> Self {
        let code = Code::ALL.iter().copied().find(|code| code.as_str() == error.code()).unwrap_or(Code::AccessDenied);
        let refusal = Self::new(code).message(error.message());
        error.elements().into_iter().fold(refusal, |refusal, (name, value)| refusal.with(name, value))
    }
}

impl From<HelperPanicked> for S3Error {
    fn from(HelperPanicked: HelperPanicked) -> Self {
        Self::new(Code::InternalError)
    }
}

impl From<VolumeFailed> for S3Error {
    fn from(VolumeFailed: VolumeFailed) -> Self {
        volume_failed()
    }
}

impl From<Errno> for S3Error {
    fn from(errno: Errno) -> Self {
        kernel(errno)
    }
}

impl From<TransferError> for S3Error {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Ended | TransferError::Body(BodyError::EndsEarly) => Self::new(Code::IncompleteBody),
            TransferError::TimedOut => Self::new(Code::RequestTimeout),
            TransferError::Body(BodyError::LengthMismatch) => {
                Self::new(Code::IncompleteBody).message("The request body is not as long as x-amz-decoded-content-length says")
            }
            TransferError::Body(BodyError::MalformedTrailer | BodyError::TrailerTooLarge) => malformed_trailer(),
            TransferError::Body(_) => Self::invalid_request("The body is not encoded as the request says"),
            TransferError::Mismatch(mismatch) => mismatch.into(),
            TransferError::TooLarge => Self::new(Code::EntityTooLarge),
            TransferError::Disk(errno) => kernel(errno),
            TransferError::Closed => Self::new(Code::NoSuchUpload),
        }
    }
}

impl From<Mismatch> for S3Error {
    fn from(mismatch: Mismatch) -> Self {
        match mismatch {
            Mismatch::Md5 => Self::new(Code::BadDigest).message("The Content-MD5 you specified did not match what we received."),
            Mismatch::Sha256 => Self::new(Code::XAmzContentSHA256Mismatch),
            Mismatch::Signature => Self::new(Code::SignatureDoesNotMatch),
            Mismatch::Checksum(algorithm) => Self::new(Code::BadDigest)
                .message(format!("The {} you specified did not match the calculated checksum.", algorithm.name())),
            Mismatch::Trailer => malformed_trailer(),
        }
    }
}

/// A store's refusal, about `bucket` and `key`.
pub(super) fn store(error: StoreError, bucket: &str, key: &str) -> S3Error {
    match error {
        StoreError::NoBucket => S3Error::no_such_bucket(bucket),
        StoreError::NoObject => S3Error::no_such_key(key),
        StoreError::BucketExists => S3Error::new(Code::BucketAlreadyOwnedByYou).with("BucketName", bucket),
        StoreError::BucketNotEmpty => S3Error::new(Code::BucketNotEmpty).with("BucketName", bucket),
        StoreError::PreconditionFailed => S3Error::new(Code::PreconditionFailed),
        StoreError::Key(KeyError::TooLong) => S3Error::new(Code::KeyTooLongError),
        StoreError::Key(_) => S3Error::new(Code::InvalidURI),
        StoreError::Foreign => S3Error::new(Code::AccessDenied)
            .message("A name on the way to this key is a symbolic link, a special file or another filesystem")
            .with("Key", key),
        StoreError::Contended => S3Error::new(Code::SlowDown),
        StoreError::MetadataTooLarge => S3Error::new(Code::MetadataTooLarge),
        StoreError::VolumeFailed => volume_failed(),
        StoreError::Upload(_) => S3Error::no_such_upload(""),
        StoreError::Kernel(errno) => kernel(errno),
    }
}

/// The refusal of something about upload `id`.
pub(super) fn upload(error: StoreError, bucket: &str, key: &str, id: &str) -> S3Error {
    let StoreError::Upload(error) = error else { return store(error, bucket, key) };
    match error {
        UploadError::NotFound => S3Error::no_such_upload(id),
        UploadError::Busy => S3Error::new(Code::SlowDown)
            .message("The upload is being completed or aborted. Please try again")
            .with("UploadId", id),
        UploadError::Part { number } => S3Error::invalid_part(id, number, ""),
        UploadError::PartOrder => S3Error::new(Code::InvalidPartOrder).with("UploadId", id),
        UploadError::PartTooSmall { number, size } => S3Error::part_too_small(number, "", size, PART_SIZE_MIN),
        UploadError::TooLarge => S3Error::new(Code::EntityTooLarge),
        UploadError::Size => {
            S3Error::invalid_request("The provided 'x-amz-mp-object-size' header does not match what was computed")
        }
        UploadError::Checksum => S3Error::new(Code::BadDigest)
            .message("The checksum of the object you specified did not match what was computed, or cannot be made of its parts'"),
    }
}

fn malformed_trailer() -> S3Error {
    S3Error::invalid_request(
        "The request contained trailing data that was not well-formed or did not conform to our published schema.",
    )
}

fn volume_failed() -> S3Error {
    S3Error::new(Code::ServiceUnavailable).message("The volume has failed: reads go on, changes are not acknowledged")
}

/// Disk full, quota, read-only and broken device stay apart: operators look for what the code says.
fn kernel(errno: Errno) -> S3Error {
    match errno::cause(errno) {
        Cause::NoSpace => S3Error::new(Code::InsufficientStorage),
        Cause::NoQuota => S3Error::new(Code::QuotaExceeded),
        Cause::TooLarge => S3Error::new(Code::EntityTooLarge).message("The filesystem does not take a file of this size"),
        Cause::Denied => S3Error::new(Code::AccessDenied).message("The server's user may not do this to the file"),
        Cause::ReadOnly => S3Error::new(Code::ServiceUnavailable).message("The filesystem is read-only"),
        Cause::NameTooLong => S3Error::new(Code::KeyTooLongError),
        Cause::NotDirectory | Cause::IsDirectory | Cause::NotEmpty | Cause::Exists => {
            S3Error::new(Code::ObjectExistsAsDirectory).message("A file and a directory of this name stand in each other's way")
        }
        Cause::NoDescriptors | Cause::NoMemory | Cause::WouldBlock | Cause::Missing => S3Error::new(Code::SlowDown),
        Cause::Escapes => S3Error::new(Code::AccessDenied),
        Cause::Broken | Cause::Stale | Cause::Unsupported | Cause::Other => {
            S3Error::new(Code::InternalError).message(format!("The filesystem answered {errno}"))
        }
    }
}
