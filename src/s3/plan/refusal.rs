//! What the lower rooms refuse, in S3's words: one table from their small enums to codes.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::answer::{DELETE_MARKER, VERSION_ID};
use crate::auth::AuthError;
use crate::base::hex;
use crate::base::time::Timestamp;
use crate::base::version_id::Version;
use crate::body::BodyError;
use crate::digest::Algorithm;
use crate::documents::DocumentError;
use crate::flow::{Mismatch, TransferError};
use crate::io::HelperPanicked;
use crate::limits::PART_SIZE_MIN;
use crate::orders::Refused;
use crate::s3::ask::error::{Code, S3Error};
use crate::store::disk::barrier::VolumeFailed;
use crate::store::error::{Marker, StoreError, UploadError};
use crate::store::names::key::KeyError;
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
            TransferError::Ended => Self::new(Code::IncompleteBody),
            TransferError::TimedOut => Self::new(Code::RequestTimeout),
            TransferError::Body(error) => error.into(),
            TransferError::Mismatch(mismatch) => mismatch.into(),
            TransferError::TooLarge => Self::new(Code::EntityTooLarge),
            TransferError::Disk(errno) => kernel(errno),
            TransferError::Closed => Self::new(Code::NoSuchUpload),
            TransferError::NoRoom => Self::new(Code::SlowDown),
        }
    }
}

/// S3's documentation says what `aws-chunked` is, and not what anything else is answered. So do Amazon's servers: a framing that does
/// not hold, or ends elsewhere than it says, is a body that ended too early.
impl From<BodyError> for S3Error {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::MalformedChunk | BodyError::ChunkLineTooLong | BodyError::ChunkTooLarge | BodyError::EndsEarly => {
                Self::new(Code::IncompleteBody).message("The request body terminated unexpectedly")
            }
            BodyError::LengthMismatch => {
                Self::new(Code::IncompleteBody).message("The request body is not as long as x-amz-decoded-content-length says")
            }
            BodyError::MalformedSignature => Self::new(Code::SignatureDoesNotMatch),
            BodyError::MalformedTrailer | BodyError::TrailerTooLarge => Self::new(Code::MalformedTrailerError),
        }
    }
}

impl From<Mismatch> for S3Error {
    fn from(mismatch: Mismatch) -> Self {
        match mismatch {
            Mismatch::Md5 { expected, computed } => Self::new(Code::BadDigest)
                .message("The Content-MD5 you specified did not match what we received.")
                .with("ExpectedDigest", hex::encode(&expected))
                .with("CalculatedDigest", BASE64_STANDARD.encode(computed)),
            Mismatch::Sha256 { expected, computed } => Self::new(Code::XAmzContentSHA256Mismatch)
                .with("ClientComputedContentSHA256", hex::encode(&expected))
                .with("S3ComputedContentSHA256", hex::encode(&computed)),
            Mismatch::Signature => Self::new(Code::SignatureDoesNotMatch),
            Mismatch::Checksum(algorithm) => Self::new(Code::BadDigest)
                .message(format!("The {} you specified did not match the calculated checksum.", algorithm.name())),
            Mismatch::Trailer => Self::new(Code::MalformedTrailerError),
            Mismatch::TrailerValue(algorithm) => {
                Self::invalid_request(format!("Value for {} trailing header is invalid.", algorithm.header()))
            }
        }
    }
}

/// A store's refusal, about `bucket` and `key`.
pub fn store(error: StoreError, bucket: &str, key: &str) -> S3Error {
    match error {
        StoreError::NoBucket => S3Error::no_such_bucket(bucket),
        StoreError::NoObject => S3Error::no_such_key(key),
        StoreError::NoVersion => S3Error::new(Code::NoSuchVersion).with("Key", key),
        StoreError::DeleteMarker(marker) if marker.is_current => S3Error::no_such_key(key),
        StoreError::DeleteMarker(_) => S3Error::new(Code::MethodNotAllowed),
        StoreError::HistoryApart => S3Error::new(Code::InvalidBucketState)
            .message("A directory on the way to this key is a subvolume or has a quota of its own: no version can be kept there")
            .with("Key", key),
        StoreError::BucketExists => S3Error::new(Code::BucketAlreadyOwnedByYou).with("BucketName", bucket),
        StoreError::BucketNotEmpty => S3Error::new(Code::BucketNotEmpty).with("BucketName", bucket),
        StoreError::PreconditionFailed { .. } => S3Error::new(Code::PreconditionFailed),
        StoreError::Key(KeyError::TooLong) => S3Error::new(Code::KeyTooLongError),
        StoreError::Key(_) => S3Error::new(Code::InvalidURI),
        StoreError::Foreign => S3Error::new(Code::AccessDenied)
            .message("A name on the way to this key is a symbolic link, a special file or another filesystem")
            .with("Key", key),
        StoreError::Contended | StoreError::BeingRead => S3Error::new(Code::SlowDown),
        StoreError::MetadataTooLarge => S3Error::new(Code::MetadataTooLarge),
        StoreError::AccessNotKept => S3Error::new(Code::AccessDenied)
            .message("The owner, group, ACL or label of the file that is there cannot be kept by the server's user or filesystem")
            .with("Key", key),
        StoreError::VolumeFailed => volume_failed(),
        StoreError::Upload(_) => S3Error::no_such_upload(""),
        StoreError::Kernel(errno) => kernel(errno),
    }
}

/// The refusal of something about upload `id`.
pub fn upload(error: StoreError, bucket: &str, key: &str, id: &str) -> S3Error {
    let StoreError::Upload(error) = error else { return store(error, bucket, key) };
    match error {
        UploadError::NotFound => S3Error::no_such_upload(id),
        // The last two are answered to Complete alone, which goes on then.
        UploadError::Busy | UploadError::Written | UploadError::Long => S3Error::new(Code::SlowDown)
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
        UploadError::OtherChecksum { announced, sent } => {
            let lower = |algorithm: Algorithm| algorithm.name().to_ascii_lowercase();
            S3Error::invalid_request(format!(
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                lower(announced),
                sent.map_or_else(|| "null".to_owned(), lower)
            ))
        }
        // What the page of CompleteMultipartUpload says of `x-amz-checksum-type`.
        UploadError::OtherChecksumType { announced } => S3Error::new(Code::BadDigest).message(format!(
            "The upload was created using the {} checksum mode. The complete request must use the same checksum mode.",
            announced.name()
        )),
        UploadError::PartChecksumMissing { announced, number } => S3Error::invalid_request(format!(
            "The upload was created using a {} checksum. The complete request must include the checksum for each part. It was \
             missing for part {number} in the request.",
            announced.name().to_ascii_lowercase()
        )),
        UploadError::PartOtherChecksum { given, number } => S3Error::new(Code::BadDigest).message(format!(
            "The {} you specified for part {number} did not match what we received.",
            given.name().to_ascii_lowercase()
        )),
    }
}

/// Why a version of an object, or what it is now, cannot be had. Of a marker, S3 says which it is
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeleteMarker.html>).
pub fn version(error: StoreError, bucket: &str, key: &str, method: &str, wanted: Option<Version>) -> S3Error {
    let marked =
        |error: S3Error, marker: &Marker| error.header(DELETE_MARKER, "true").header(VERSION_ID, marker.version.to_string());
    match (error, wanted) {
        (StoreError::NoVersion, Some(wanted)) => S3Error::no_such_version(key, &wanted.to_string()),
        (StoreError::DeleteMarker(marker), None) => marked(S3Error::no_such_key(key), &marker),
        (StoreError::DeleteMarker(marker), Some(_)) => {
            let error = marked(S3Error::method_not_allowed(method, "DELETEMARKER"), &marker).header("Allow", "DELETE");
            error.header("Last-Modified", Timestamp::from_nanoseconds(marker.mtime_ns).http_date())
        }
        (error, _) => store(error, bucket, key),
    }
}

/// What became of an order to change what is configured. S3 calls it a conflicting operation when others are at the same bucket
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>, OperationAborted).
pub fn order(refused: Refused, bucket: &str) -> S3Error {
    let aborted = || S3Error::new(Code::OperationAborted).with("BucketName", bucket);
    let unavailable = |message| S3Error::new(Code::ServiceUnavailable).message(message);
    match refused {
        Refused::TooMany | Refused::Document(DocumentError::Busy) => S3Error::new(Code::SlowDown),
        Refused::NobodyThere => unavailable("The server is about to end".into()),
        Refused::Store(StoreError::Contended) | Refused::Document(DocumentError::Changed) => aborted(),
        Refused::Store(error) => store(error, bucket, ""),
        Refused::Damaged | Refused::Document(DocumentError::Damaged | DocumentError::Newer) => damaged(bucket),
        Refused::Document(DocumentError::Io(errno)) => match errno::cause(errno) {
            Cause::NoSpace | Cause::NoQuota => kernel(errno),
            _ => unavailable(format!("The server's configuration cannot be written ({errno}): the operator must see to it")),
        },
        Refused::AnotherConfiguration => {
            unavailable("The server's configuration is not there, or is another one: the operator must see to it".into())
        }
        Refused::OtherDirectory => S3Error::new(Code::InvalidBucketState)
            .message("The bucket's directory is not the one that its settings were made for: the server's log says why")
            .with("BucketName", bucket),
    }
}

/// Of a bucket of which nobody knows what it is set to.
pub fn damaged(bucket: &str) -> S3Error {
    let message =
        "The bucket's settings are damaged, and nothing is deleted from it until they are put back: the server's log says more";
    S3Error::new(Code::InvalidBucketState).message(message).with("BucketName", bucket)
}

fn volume_failed() -> S3Error {
    S3Error::new(Code::ServiceUnavailable)
        .message("The volume does not take this request at the moment: the server's log says why")
}

/// Disk full, quota, read-only and broken device stay apart: operators look for what the code says.
fn kernel(errno: Errno) -> S3Error {
    match errno::cause(errno) {
        Cause::NoSpace => S3Error::new(Code::InsufficientStorage),
        Cause::NoQuota => S3Error::new(Code::QuotaExceeded),
        Cause::TooLarge => S3Error::new(Code::EntityTooLarge)
            .message("The filesystem, or the server's own limit (ulimit -f), does not take a file of this size"),
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
