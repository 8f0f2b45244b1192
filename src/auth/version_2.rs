//! Signature Version 2, which S3 had before Version 4 and some benchmarks still send: HMAC-SHA1 of a few lines of the
//! request. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html>
//!
//! Weak by design, and therefore off unless the operator asks for it: the payload, the host and most headers and parameters
//! are not signed, a key is good for every region and service, and a link may live for ever. What it can promise is kept: each
//! parameter that chooses what is done ([`SIGNED_PARAMETERS`]) and each `x-amz-*` header is covered.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::canonical::{Parsed, write_values};
use super::claim::Noted;
use super::error::{AuthError, Mismatch, QueryFault};
use super::keys::{mac_sha1, same_text};
use super::query::Query;
use super::{Headers, Identity, Kind, Scope, SignedRequest};
use crate::base::time::Timestamp;
use crate::limits::CLOCK_SKEW_MAX_S;

/// Whether an `Authorization` is of this version.
pub(super) fn is_scheme_of(authorization: &[u8]) -> bool {
    authorization.split(|byte| byte.is_ascii_whitespace()).next() == Some(b"AWS")
}

/// Parameters that are part of the resource, sorted: what the documentation lists, what signers have added since, and every
/// other one that our routes know. One that a client does not sign is refused; were it left out, whoever holds a link to an
/// object could ask with it for something else.
pub const SIGNED_PARAMETERS: [&str; 50] = [
    "abac",
    "accelerate",
    "acl",
    "analytics",
    "annotation",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "metadataAnnotationTable",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "partNumber",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "retention",
    "select",
    "select-type",
    "session",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// What a request says about its own signature.
pub(super) struct Claim<'a> {
    pub(super) kind: Kind,
    pub(super) access_key: &'a str,
    signature: &'a str,
    /// The line of the date: the `Date` header, nothing when `x-amz-date` has it, or the second at which a link expires.
    date: &'a [u8],
}

impl<'a> Claim<'a> {
    /// From `Authorization: AWS key:signature`.
    pub(super) fn from_header(authorization: &'a [u8], noted: &Noted<'a>, scope: &Scope) -> Result<Self, AuthError> {
        let invalid = || AuthError::HeaderVersion2Malformed;
        let text = std::str::from_utf8(authorization).map_err(|_| invalid())?;
        let (_, pair) = text.split_once([' ', '\t']).ok_or_else(invalid)?;
        // From the right: an access key may hold a colon, Base64 does not.
        let (access_key, signature) = pair.trim().rsplit_once(':').ok_or_else(invalid)?;
        if access_key.is_empty() || signature.is_empty() {
            return Err(invalid());
        }
        let (time, _) = noted.date_of_header(scope.now)?;
        if time.seconds.abs_diff(scope.now.seconds) > CLOCK_SKEW_MAX_S {
            return Err(AuthError::RequestTimeTooSkewed { request_time: time, server_time: scope.now });
        }
        Ok(Self { kind: Kind::Header, access_key, signature, date: noted.date_unless_amz_date() })
    }

    /// From the parameters of a link.
    pub(super) fn from_query(query: &'a Query, scope: &Scope) -> Result<Self, AuthError> {
        let (access_key, signature) = (required(query, "AWSAccessKeyId")?, required(query, "Signature")?);
        let expires = required(query, "Expires")?;
        let is_number = expires.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = is_number.then(|| expires.parse().ok()).flatten();
        let expired_at = Timestamp::from_seconds(seconds.ok_or_else(|| AuthError::ExpiresVersion2(expires.to_owned()))?);
        if scope.now.seconds > expired_at.seconds {
            return Err(AuthError::Expired { expires_s: None, expired_at, server_time: scope.now });
        }
        Ok(Self { kind: Kind::Presigned, access_key, signature, date: expires.as_bytes() })
    }

    /// Whether the signature is the one that the request has.
    pub(super) fn verify<H: Headers + ?Sized>(
        &self,
        request: &SignedRequest<H>,
        parsed: Parsed<'_>,
        identity: &Identity<'_>,
    ) -> Result<(), AuthError> {
        let mut text = Vec::new();
        for bucket_end in spellings(request) {
            text.clear();
            self.write_string_to_sign(&mut text, request, parsed, bucket_end)?;
            let expected = BASE64_STANDARD.encode(mac_sha1(identity.secret, &text));
            if same_text(expected.as_bytes(), self.signature.as_bytes()) {
                return Ok(());
            }
        }
        Err(AuthError::SignatureDoesNotMatch(Box::new(Mismatch {
            access_key: self.access_key.to_owned(),
            string_to_sign: text,
            signature_provided: self.signature.as_bytes().to_vec(),
            canonical_request: None,
        })))
    }

    fn write_string_to_sign<H: Headers + ?Sized>(
        &self,
        out: &mut Vec<u8>,
        request: &SignedRequest<H>,
        parsed: Parsed<'_>,
        bucket_end: &str,
    ) -> Result<(), AuthError> {
        out.extend_from_slice(request.method.as_bytes());
        out.push(b'\n');
        for name in ["content-md5", "content-type"] {
            write_values(out, request.headers, parsed.fields, name, push_trimmed);
            out.push(b'\n');
        }
        out.extend_from_slice(self.date);
        out.push(b'\n');
        self.write_amz_headers(out, request.headers, parsed)?;
        write_resource(out, request, parsed.query, bucket_end)
    }

    /// The `x-amz-*` headers by name, each on its line, those of a name joined. A link may carry them as parameters, as
    /// botocore makes it; beside a signed header nobody signs such a parameter.
    fn write_amz_headers<H: Headers + ?Sized>(
        &self,
        out: &mut Vec<u8>,
        headers: &H,
        parsed: Parsed<'_>,
    ) -> Result<(), AuthError> {
        let Parsed { query, fields: by_name } = parsed;
        let fields = (0..headers.count()).map(|index| headers.field(index).0);
        let mut names: Vec<String> = fields.filter(|name| is_amz(name)).map(lower_case).collect();
        let moved: Vec<String> = query.names().filter(|name| is_amz(name)).map(lower_case).collect();
        if self.kind == Kind::Header && !moved.is_empty() {
            return Err(AuthError::HeadersNotSigned(moved.join(", ")));
        }
        names.sort_unstable();
        names.dedup();
        if let Some(both) = moved.iter().find(|name| names.binary_search(name).is_ok()) {
            return Err(AuthError::HeadersNotSigned(both.clone()));
        }
        names.extend(moved);
        names.sort_unstable();
        for name in &names {
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            if !write_values(out, headers, by_name, name, push_trimmed) {
                let value = query.once(name).map_err(|_| AuthError::HeadersNotSigned(name.clone()))?;
                out.extend_from_slice(value.unwrap_or_default());
            }
            out.push(b'\n');
        }
        Ok(())
    }
}

/// What may follow the path. A bucket without a key is the same with and without a slash; botocore sends it without and
/// signs it with one.
fn spellings<H: Headers + ?Sized>(request: &SignedRequest<H>) -> &'static [&'static str] {
    let is_bare_bucket = request.host_bucket.is_none() && request.path.iter().filter(|byte| **byte == b'/').count() == 1;
    if is_bare_bucket && request.path.len() > 1 { &["", "/"] } else { &[""] }
}

/// `/bucket/key` as it came, still encoded, and the parameters that count, decoded.
fn write_resource<H: Headers + ?Sized>(
    out: &mut Vec<u8>,
    request: &SignedRequest<H>,
    query: &Query,
    bucket_end: &str,
) -> Result<(), AuthError> {
    if let Some(bucket) = request.host_bucket {
        out.push(b'/');
        out.extend_from_slice(bucket.as_bytes());
    }
    out.extend_from_slice(if request.path.is_empty() { b"/" } else { request.path });
    out.extend_from_slice(bucket_end.as_bytes());
    let mut separator = b'?';
    for name in SIGNED_PARAMETERS {
        let value = query.once_as_spelled(name).map_err(|_| repeated(name))?;
        let Some(value) = value else { continue };
        out.push(separator);
        out.extend_from_slice(name.as_bytes());
        // `?uploads` and `?uploads=` are the same: minio-go sends the second and signs the first.
        if !value.is_empty() {
            out.push(b'=');
            out.extend_from_slice(value);
        }
        separator = b'&';
    }
    Ok(())
}

/// Of two parameters, one could be signed and the other served.
fn repeated(name: &'static str) -> AuthError {
    AuthError::QueryMalformed(QueryFault::Repeated(name))
}

fn required<'a>(query: &'a Query, name: &'static str) -> Result<&'a str, AuthError> {
    let value = query.once(name).map_err(|_| repeated(name))?;
    let value = value.and_then(|value| std::str::from_utf8(value).ok()).filter(|value| !value.is_empty());
    value.ok_or(AuthError::QueryVersion2Malformed)
}

fn is_amz(name: &[u8]) -> bool {
    name.get(..6).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"x-amz-"))
}

fn lower_case(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_ascii_lowercase()
}

/// Without white space around it; inside, nothing is collapsed as Version 4 does.
fn push_trimmed(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(value.trim_ascii());
}
