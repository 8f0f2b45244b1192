//! What do the headers ask for? Each `x-amz-*` request header is in this table: satisfied anyway, implemented by the verb, or
//! refused with the code that S3's users know. None is ignored: an object that its writer believes encrypted, retained or
//! tagged must not be stored without that.
//!
//! S3 itself ignores `x-amz-*` headers that it does not know. We refuse them: the next one may change what is stored.

use super::error::{Code, S3Error};
use super::operation::Operation;
use super::query::is_amz;
use crate::base::storage_class::StorageClass;

/// Whose buckets these are: what `x-amz-expected-bucket-owner` is compared to.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// Twelve digits.
    pub id: &'a str,
}

/// What a row says about its header.
enum Rule {
    /// Has no meaning beyond what `auth`, `body`, `http` or the verb does with it.
    Implemented,
    /// Implemented by these operations, refused elsewhere: ignoring a condition would do what its sender forbade.
    On(&'static [Operation]),
    /// Says what is copied: of a copy alone.
    Copies(&'static [Operation]),
    /// Only these values, which describe what happens anyway; the refusal of all others.
    Satisfied(&'static [&'static str], Refusal),
    /// The same for each item of a list.
    SatisfiedList(&'static [&'static str], Refusal),
    /// One of these values, compared without case; anything else is an error of the client.
    OneOf(&'static [&'static str], Refusal),
    /// Must be the account's id.
    BucketOwner,
    /// One of S3's, kept with the object where one is made.
    StorageClassName,
    /// Names of checksum headers, separated by commas.
    Trailer,
    Refused(Refusal),
}

/// How a header is refused.
#[derive(Clone, Copy)]
enum Refusal {
    NotImplemented,
    InvalidArgument(&'static str),
    InvalidRequest(&'static str),
    InvalidStorageClass,
    /// An ACL or grant; a value that no ACL has is InvalidArgument.
    AccessControlList,
    /// Who owns a bucket's objects; a value that is none of S3's is InvalidArgument.
    ObjectOwnership,
}

use Operation::{
    CompleteMultipartUpload, CopyObject, CreateMultipartUpload, DeleteObject, GetObjectAttributes, PutObject, UploadPartCopy,
};
use Refusal::{AccessControlList, InvalidArgument, InvalidRequest, InvalidStorageClass, NotImplemented, ObjectOwnership};
use Rule::{BucketOwner, Copies, Implemented, On, OneOf, Refused, Satisfied, SatisfiedList, StorageClassName, Trailer};

const COPIES: &[Operation] = &[CopyObject, UploadPartCopy];
const CHECKSUM_ALGORITHMS: &[&str] = &["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"];
const NO_OBJECT_LOCK: Refusal = InvalidRequest("Bucket is missing Object Lock Configuration");
const UNKNOWN_CHECKSUM: Refusal = InvalidRequest(
    "Checksum algorithm provided is unsupported. Please try again with any of the valid types: \
     [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
);

/// By name, lower case. A name that ends in `*` stands for all with that prefix that have no row of their own.
static TABLE: &[(&str, Rule)] = &[
    // Every object has one owner with full control; both of these describe that.
    ("x-amz-acl", Satisfied(&["private", "bucket-owner-full-control"], AccessControlList)),
    // The AWS SDK for C++ signs it.
    ("x-amz-api-version", Implemented),
    ("x-amz-bucket-namespace", Satisfied(&["global"], NotImplemented)),
    // rclone sends `false` with every CreateBucket.
    ("x-amz-bucket-object-lock-enabled", Satisfied(&["false"], NotImplemented)),
    // Nothing is retained, so there is nothing to bypass.
    ("x-amz-bypass-governance-retention", Satisfied(&["true", "false"], NotImplemented)),
    // Added by CloudFront.
    ("x-amz-cf-id", Implemented),
    ("x-amz-checksum-algorithm", OneOf(CHECKSUM_ALGORITHMS, UNKNOWN_CHECKSUM)),
    ("x-amz-checksum-crc32", Implemented),
    ("x-amz-checksum-crc32c", Implemented),
    ("x-amz-checksum-crc64nvme", Implemented),
    ("x-amz-checksum-mode", OneOf(&["ENABLED"], InvalidArgument("Value for x-amz-checksum-mode header is invalid."))),
    ("x-amz-checksum-sha1", Implemented),
    ("x-amz-checksum-sha256", Implemented),
    (
        "x-amz-checksum-type",
        OneOf(&["COMPOSITE", "FULL_OBJECT"], InvalidRequest("Value for x-amz-checksum-type header is invalid.")),
    ),
    // SHA512, MD5, XXHASH64, XXHASH3, XXHASH128 and whatever comes: unverified, it would be a false promise.
    ("x-amz-checksum-*", Refused(UNKNOWN_CHECKSUM)),
    ("x-amz-content-sha256", Implemented),
    ("x-amz-copy-source", Copies(COPIES)),
    ("x-amz-copy-source-if-match", Copies(COPIES)),
    ("x-amz-copy-source-if-modified-since", Copies(COPIES)),
    ("x-amz-copy-source-if-none-match", Copies(COPIES)),
    ("x-amz-copy-source-if-unmodified-since", Copies(COPIES)),
    ("x-amz-copy-source-range", Copies(&[UploadPartCopy])),
    ("x-amz-copy-source-server-side-encryption-*", Refused(NotImplemented)),
    ("x-amz-date", Implemented),
    ("x-amz-decoded-content-length", Implemented),
    ("x-amz-expected-bucket-owner", BucketOwner),
    ("x-amz-grant-*", Refused(AccessControlList)),
    ("x-amz-if-match-last-modified-time", On(&[DeleteObject])),
    ("x-amz-if-match-size", On(&[DeleteObject])),
    ("x-amz-max-parts", On(&[GetObjectAttributes])),
    ("x-amz-meta-*", Implemented),
    ("x-amz-metadata-directive", OneOf(&["COPY", "REPLACE"], InvalidArgument("Unknown metadata directive."))),
    ("x-amz-mp-object-size", On(&[CompleteMultipartUpload])),
    ("x-amz-object-attributes", On(&[GetObjectAttributes])),
    ("x-amz-object-lock-*", Refused(NO_OBJECT_LOCK)),
    // ACLs are not to be had, which is what this value asks for.
    ("x-amz-object-ownership", Satisfied(&["BucketOwnerEnforced"], ObjectOwnership)),
    // Nothing is ever archived, so no listed object has a restore status.
    ("x-amz-optional-object-attributes", SatisfiedList(&["RestoreStatus"], InvalidArgument("Invalid attribute name specified."))),
    ("x-amz-part-number-marker", On(&[GetObjectAttributes])),
    // Nobody is charged.
    ("x-amz-request-payer", Satisfied(&["requester"], InvalidArgument("Value for x-amz-request-payer header is invalid."))),
    ("x-amz-sdk-checksum-algorithm", OneOf(CHECKSUM_ALGORITHMS, UNKNOWN_CHECKSUM)),
    ("x-amz-sdk-*", Implemented),
    ("x-amz-security-token", Implemented),
    ("x-amz-server-side-encryption-bucket-key-enabled", Satisfied(&["false"], NotImplemented)),
    ("x-amz-server-side-encryption-*", Refused(NotImplemented)),
    ("x-amz-source-expected-bucket-owner", BucketOwner),
    ("x-amz-storage-class", StorageClassName),
    // An empty set of tags is what an object has.
    ("x-amz-tagging", Satisfied(&[""], NotImplemented)),
    // There are no tags to copy or to replace.
    ("x-amz-tagging-directive", Satisfied(&["COPY", "REPLACE"], InvalidArgument("Unknown tagging directive."))),
    // The Java SDK offers to check an MD5 appended to the answer; the offer need not be taken.
    ("x-amz-te", Satisfied(&["append-md5"], NotImplemented)),
    ("x-amz-trailer", Trailer),
    ("x-amz-user-agent", Implemented),
    // Known names that mean something else than their neighbours' prefixes, and all unknown ones, fall to `NotImplemented`:
    // x-amz-server-side-encryption, x-amz-website-redirect-location, x-amz-write-offset-bytes, x-amz-rename-source,
    // x-amz-mfa, x-amz-object-annotation-directive, x-amz-if-match-initiated-time, x-amz-rdma-token, …
];

/// What says one thing or nothing. Of two of a kind a verb would read the first, and do what the second forbids. Lists are not among
/// them: their lines are one list (`Context::list`).
static ONCE: &[&str] = &[
    "content-md5",
    "if-modified-since",
    "if-range",
    "if-unmodified-since",
    "range",
    "x-amz-checksum-algorithm",
    "x-amz-checksum-type",
    "x-amz-copy-source",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-unmodified-since",
    "x-amz-copy-source-range",
    "x-amz-if-match-last-modified-time",
    "x-amz-if-match-size",
    "x-amz-metadata-directive",
    "x-amz-mp-object-size",
];

/// Refuses what cannot be done as asked. Names may be of any case; headers that are not S3's own are looked at where they
/// would be a condition on a write.
pub fn check<'h>(
    operation: Operation,
    account: Account<'_>,
    headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
) -> Result<(), S3Error> {
    let mut seen = 0;
    for (name, value) in headers {
        check_once(name, value, &mut seen)?;
        if is_amz(name.as_bytes()) {
            check_amz(operation, account, name, value)?;
        } else if name.len() >= 8 && name.as_bytes()[..3].eq_ignore_ascii_case(b"if-") {
            check_condition(operation, name)?;
        }
    }
    Ok(())
}

/// The same for the query of a pre-signed URL, into which SDKs move headers (`x-amz-acl`, `x-amz-storage-class`). SigV4's own
/// parameters are `auth`'s, and not among them. Checksums there are ignored, as S3 does (aws-sdk#480): aws-sdk-js pre-signs the CRC of
/// an empty body. So is `x-amz-checksum-mode` (boto3#3465, aws-sdk-java-v2#7035). What a verb would have to do, and would look for among
/// the headers only, is refused: of `x-amz-copy-source` there S3 itself makes an empty object (aws-sdk-php#1275).
pub fn check_query<'q>(
    operation: Operation,
    account: Account<'_>,
    is_presigned: bool,
    query: impl IntoIterator<Item = (&'q str, &'q str)>,
) -> Result<(), S3Error> {
    for (name, value) in query {
        if !is_amz(name.as_bytes()) {
            continue;
        }
        let lower = name.to_ascii_lowercase();
        if is_presigned && is_read_from_query(operation, &lower) {
            check_amz(operation, account, &lower, value.as_bytes())?;
            continue;
        }
        if lower.starts_with("x-amz-checksum-") {
            continue;
        }
        match rule(&lower) {
            Some(Implemented) if lower.starts_with("x-amz-meta-") => return Err(S3Error::header_not_implemented(&lower)),
            Some(On(_) | Copies(_) | Trailer) => return Err(S3Error::header_not_implemented(&lower)),
            // Says how a body is checked that is then checked by its headers.
            Some(OneOf(..)) if lower == "x-amz-sdk-checksum-algorithm" => {}
            Some(OneOf(..)) => return Err(S3Error::header_not_implemented(&lower)),
            // Nobody would look for it here, and it is what an object has to which nothing was said.
            Some(StorageClassName) if value != StorageClass::Standard.name() => {
                return Err(S3Error::header_not_implemented(&lower));
            }
            _ => check_amz(operation, account, &lower, value.as_bytes())?,
        }
    }
    Ok(())
}

/// Whether a verb reads the parameter of a pre-signed URL as it reads the header (`Context::amz_header`). Metadata there is stored by
/// S3 (aws-sdk-js-v3#4694, aws-sdk-ruby#1808).
fn is_read_from_query(operation: Operation, name: &str) -> bool {
    match name {
        "x-amz-checksum-algorithm" => matches!(operation, CreateMultipartUpload | CopyObject),
        "x-amz-checksum-type" => operation == CreateMultipartUpload,
        "x-amz-metadata-directive" => operation == CopyObject,
        "x-amz-storage-class" => matches!(operation, PutObject | CopyObject | CreateMultipartUpload),
        "x-amz-max-parts" | "x-amz-object-attributes" | "x-amz-part-number-marker" => operation == GetObjectAttributes,
        _ => name.starts_with("x-amz-meta-"),
    }
}

/// `seen` has a bit for each of `ONCE`.
fn check_once(name: &str, value: &[u8], seen: &mut u32) -> Result<(), S3Error> {
    if !name.bytes().next().is_some_and(|first| matches!(first.to_ascii_lowercase(), b'c' | b'i' | b'r' | b'x')) {
        return Ok(());
    }
    let Some(index) = ONCE.iter().position(|once| once.eq_ignore_ascii_case(name)) else { return Ok(()) };
    let bit = 1 << index;
    if *seen & bit != 0 {
        return Err(S3Error::invalid_argument(ONCE[index], &String::from_utf8_lossy(value), "The header must come once"));
    }
    *seen |= bit;
    match std::str::from_utf8(value) {
        Ok(_) => Ok(()),
        Err(_) => Err(S3Error::invalid_argument(ONCE[index], &String::from_utf8_lossy(value), "The header is not UTF-8")),
    }
}

fn check_amz(operation: Operation, account: Account<'_>, name: &str, value: &[u8]) -> Result<(), S3Error> {
    let Some(rule) = rule(name) else {
        return Err(S3Error::header_not_implemented(name));
    };
    // Every value that is compared is ASCII; one that is not UTF-8 equals none of them.
    let text = std::str::from_utf8(value).unwrap_or("\u{fffd}").trim();
    match rule {
        Implemented => Ok(()),
        On(operations) | Copies(operations) if operations.contains(&operation) => Ok(()),
        On(_) => Err(S3Error::header_not_implemented(name)),
        Copies(_) => {
            let message = "You can only specify a copy source header for copy requests.";
            Err(S3Error::invalid_argument(&name.to_ascii_lowercase(), text, message))
        }
        Satisfied(values, _) | OneOf(values, _) if values.iter().any(|known| known.eq_ignore_ascii_case(text)) => Ok(()),
        SatisfiedList(values, _)
            if text.split(',').all(|item| values.iter().any(|known| known.eq_ignore_ascii_case(item.trim()))) =>
        {
            Ok(())
        }
        Satisfied(_, refusal) | SatisfiedList(_, refusal) | OneOf(_, refusal) | Refused(refusal) => {
            Err(refuse(*refusal, name, text))
        }
        BucketOwner if text == account.id => Ok(()),
        BucketOwner if is_account_id(text) => Err(S3Error::new(Code::AccessDenied)),
        BucketOwner => Err(S3Error::new(Code::InvalidBucketOwnerAWSAccountID)
            .message(format!("The value of the expected bucket owner parameter must be an AWS Account ID... [{text}]"))),
        StorageClassName if StorageClass::parse(text).is_some() => Ok(()),
        StorageClassName => Err(refuse(InvalidStorageClass, name, text)),
        Trailer => check_trailer(text),
    }
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html>
fn is_account_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// RFC 9110 section 13.1: a condition on a write that is not looked at would let it happen against its sender's will. On reads
/// other than of objects, conditions may be left aside, and `If-Modified-Since` means nothing to a write (section 13.1.3).
fn check_condition(operation: Operation, name: &str) -> Result<(), S3Error> {
    use Operation::*;
    let if_match = name.eq_ignore_ascii_case("if-match");
    let if_none_match = name.eq_ignore_ascii_case("if-none-match");
    let if_unmodified = name.eq_ignore_ascii_case("if-unmodified-since");
    let is_implemented = match operation {
        PutObject | CompleteMultipartUpload | CopyObject => !if_unmodified,
        DeleteObject => !if_unmodified && !if_none_match,
        CreateMultipartUpload
        | UploadPart
        | UploadPartCopy
        | AbortMultipartUpload
        | DeleteObjects
        | CreateBucket
        | DeleteBucket
        | NotBuilt => !(if_match || if_none_match || if_unmodified),
        _ => true,
    };
    if is_implemented { Ok(()) } else { Err(S3Error::header_not_implemented(name)) }
}

fn check_trailer(names: &str) -> Result<(), S3Error> {
    let is_known = |name: &str| {
        let algorithm = name.to_ascii_lowercase();
        let algorithm = algorithm.strip_prefix("x-amz-checksum-").unwrap_or("");
        CHECKSUM_ALGORITHMS.iter().any(|known| known.eq_ignore_ascii_case(algorithm))
    };
    // A signed stream also announces its own signature. Empty elements of a list are none (RFC 9110 section 5.6.1).
    let mut names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    if names.all(|name| is_known(name) || name.eq_ignore_ascii_case("x-amz-trailer-signature")) {
        return Ok(());
    }
    Err(S3Error::invalid_request("The value specified in the x-amz-trailer header is not supported"))
}

/// The row for a name of any case: the exact one, or else the longest prefix.
fn rule(name: &str) -> Option<&'static Rule> {
    let exact = TABLE.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let by_prefix = || {
        let matching = TABLE.iter().filter(|(known, _)| {
            known
                .strip_suffix('*')
                .is_some_and(|prefix| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
        });
        matching.max_by_key(|(known, _)| known.len())
    };
    exact.or_else(by_prefix).map(|(_, rule)| rule)
}

fn refuse(refusal: Refusal, name: &str, value: &str) -> S3Error {
    const CANNED: [&str; 6] =
        ["public-read", "public-read-write", "authenticated-read", "aws-exec-read", "bucket-owner-read", "log-delivery-write"];
    match refusal {
        NotImplemented => S3Error::header_not_implemented(name),
        InvalidArgument(message) => S3Error::invalid_argument(name, value, message),
        InvalidRequest(message) => S3Error::invalid_request(message),
        InvalidStorageClass => S3Error::new(Code::InvalidStorageClass).with("StorageClassRequested", value),
        AccessControlList if name.eq_ignore_ascii_case("x-amz-acl") && !CANNED.contains(&value) => {
            S3Error::invalid_argument(name, value, "The canned ACL is not valid")
        }
        AccessControlList => S3Error::new(Code::AccessControlListNotSupported),
        ObjectOwnership if ["BucketOwnerPreferred", "ObjectWriter"].contains(&value) => S3Error::header_not_implemented(name),
        ObjectOwnership => S3Error::invalid_argument(name, value, format!("Invalid x-amz-object-ownership header: {value}")),
    }
}

#[cfg(test)]
mod tests;
