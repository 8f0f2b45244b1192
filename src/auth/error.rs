//! Why a request was not believed, in S3's words. Codes and sentences are those that S3 sends; clients match on them
//! (minio-go and botocore read `Region` of a scope error and sign again).

use std::borrow::Cow;

use crate::base::hex;
use crate::base::time::Timestamp;
use crate::limits::{CLOCK_SKEW_MAX_S, PRESIGN_EXPIRES_MAX_S};

/// A refusal. Texts are made only here, off the path of requests that are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// `Authorization` beside query authentication, or twice.
    SeveralMechanisms,
    /// Signature version 4A, an older one, or version 2 where it is not accepted: recognised, and refused.
    UnsupportedMechanism,
    /// An `Authorization` of no AWS scheme (`Basic`, `Bearer`).
    UnsupportedAuthorizationType,
    /// An `Authorization` header without a value.
    EmptyAuthorization,
    HeaderMalformed(HeaderFault),
    QueryMalformed(QueryFault),
    /// Not `AWS key:signature`.
    HeaderVersion2Malformed,
    /// A link of Signature Version 2 without one of its three parameters.
    QueryVersion2Malformed,
    /// An `Expires` that is no number of seconds.
    ExpiresVersion2(String),
    /// Neither `x-amz-date` nor `Date` holds one instant.
    MissingDate,
    RequestTimeTooSkewed {
        request_time: Timestamp,
        server_time: Timestamp,
    },
    /// A pre-signed URL whose time is over.
    Expired {
        /// Its lifetime; links of version 2 tell only when it ends.
        expires_s: Option<u32>,
        expired_at: Timestamp,
        server_time: Timestamp,
    },
    /// A pre-signed URL whose time has not come.
    NotYetValid {
        server_time: Timestamp,
    },
    MissingContentSha256,
    InvalidContentSha256(String),
    /// `host` or `x-amz-*` headers that the signature does not cover, comma-separated.
    HeadersNotSigned(String),
    InvalidAccessKeyId(String),
    /// A session token, of which this server has issued none.
    InvalidToken,
    SignatureDoesNotMatch(Box<Mismatch>),
    /// The path or the query has a `%` without two hexadecimal digits.
    InvalidUri,
}

/// What is wrong with an `Authorization` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    MissingCredential,
    MissingSignedHeaders,
    MissingSignature,
    /// Not three components, or one of them twice.
    Components,
    /// A component that is none of the three.
    Component(String),
    Credential(CredentialFault),
}

/// What is wrong with the parameters of a pre-signed URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryFault {
    MissingParameters,
    /// An authentication parameter given twice.
    Repeated(&'static str),
    Date,
    ExpiresNotNumber,
    ExpiresNotPositive,
    ExpiresTooLarge,
    Credential(CredentialFault),
}

/// What is wrong with `<access key>/<date>/<region>/<service>/aws4_request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialFault {
    Malformed,
    DateFormat(String),
    DateMismatch,
    Region { given: String, expected: String },
    Service(String),
    Terminator(String),
}

/// What we computed, for the client's author to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub access_key: String,
    pub string_to_sign: Vec<u8>,
    pub signature_provided: Vec<u8>,
    /// Version 2 has none.
    pub canonical_request: Option<Vec<u8>>,
}

const UNSUPPORTED: &str = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.";
const SEVERAL: &str = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string \
                       parameter or the Authorization header should be specified";
const VERSION_2_HEADER: &str = "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature";
const VERSION_2_PARAMETERS: &str = "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters";
const NO_DATE: &str = "AWS authentication requires a valid Date or x-amz-date header";
const SKEWED: &str = "The difference between the request time and the current time is too large.";
const NOT_SIGNED: &str = "There were headers present in the request which were not signed";
const MISMATCH: &str =
    "The request signature we calculated does not match the signature you provided. Check your key and signing method.";
const NO_SUCH_KEY: &str = "The AWS Access Key Id you provided does not exist in our records.";
const BAD_SHA256: &str = "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
                          STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, or a valid sha256 value.";
const NO_PARAMETERS: &str = "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
                             X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.";

impl AuthError {
    /// The `Code` of S3's error document.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SeveralMechanisms
            | Self::UnsupportedAuthorizationType
            | Self::HeaderVersion2Malformed
            | Self::InvalidContentSha256(_) => "InvalidArgument",
            Self::UnsupportedMechanism | Self::MissingContentSha256 => "InvalidRequest",
            Self::HeaderMalformed(_) => "AuthorizationHeaderMalformed",
            Self::QueryMalformed(_) => "AuthorizationQueryParametersError",
            Self::RequestTimeTooSkewed { .. } => "RequestTimeTooSkewed",
            Self::EmptyAuthorization
            | Self::MissingDate
            | Self::QueryVersion2Malformed
            | Self::ExpiresVersion2(_)
            | Self::Expired { .. }
            | Self::NotYetValid { .. }
            | Self::HeadersNotSigned(_) => "AccessDenied",
            Self::InvalidAccessKeyId(_) => "InvalidAccessKeyId",
            Self::InvalidToken => "InvalidToken",
            Self::SignatureDoesNotMatch(_) => "SignatureDoesNotMatch",
            Self::InvalidUri => "InvalidURI",
        }
    }

    /// The `Message` of S3's error document.
    pub fn message(&self) -> Cow<'static, str> {
        match self {
            Self::SeveralMechanisms => SEVERAL.into(),
            Self::UnsupportedMechanism => UNSUPPORTED.into(),
            Self::UnsupportedAuthorizationType => "Unsupported Authorization Type".into(),
            Self::EmptyAuthorization => "Access Denied".into(),
            Self::HeaderMalformed(fault) => format!("The authorization header is malformed; {}", fault.sentence()).into(),
            Self::QueryMalformed(fault) => fault.sentence(),
            Self::HeaderVersion2Malformed => VERSION_2_HEADER.into(),
            Self::QueryVersion2Malformed => VERSION_2_PARAMETERS.into(),
            Self::ExpiresVersion2(text) => format!("Invalid date (should be seconds since epoch): {text}").into(),
            Self::MissingDate => NO_DATE.into(),
            Self::RequestTimeTooSkewed { .. } => SKEWED.into(),
            Self::Expired { .. } => "Request has expired".into(),
            Self::NotYetValid { .. } => "Request is not valid yet".into(),
            Self::MissingContentSha256 => "Missing required header for this request: x-amz-content-sha256".into(),
            Self::InvalidContentSha256(_) => BAD_SHA256.into(),
            Self::HeadersNotSigned(_) => NOT_SIGNED.into(),
            Self::InvalidAccessKeyId(_) => NO_SUCH_KEY.into(),
            Self::InvalidToken => "The provided token is malformed or otherwise invalid.".into(),
            Self::SignatureDoesNotMatch(_) => MISMATCH.into(),
            Self::InvalidUri => "Couldn't parse the specified URI.".into(),
        }
    }

    /// The further elements of S3's error document, in its order. Values are not yet escaped for XML.
    pub fn elements(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::SeveralMechanisms | Self::UnsupportedAuthorizationType | Self::HeaderVersion2Malformed => {
                vec![("ArgumentName", "Authorization".into())]
            }
            Self::InvalidContentSha256(value) => {
                vec![("ArgumentName", "x-amz-content-sha256".into()), ("ArgumentValue", value.clone())]
            }
            Self::HeaderMalformed(HeaderFault::Credential(fault)) | Self::QueryMalformed(QueryFault::Credential(fault)) => {
                fault.elements()
            }
            Self::RequestTimeTooSkewed { request_time, server_time } => vec![
                ("RequestTime", request_time.amz_date()),
                ("ServerTime", server_time.iso8601()),
                ("MaxAllowedSkewMilliseconds", (CLOCK_SKEW_MAX_S * 1000).to_string()),
            ],
            Self::Expired { expires_s, expired_at, server_time } => {
                let lifetime = expires_s.map(|seconds| ("X-Amz-Expires", seconds.to_string()));
                let times = [("Expires", expired_at.iso8601()), ("ServerTime", server_time.iso8601())];
                lifetime.into_iter().chain(times).collect()
            }
            Self::NotYetValid { server_time } => vec![("ServerTime", server_time.iso8601())],
            Self::HeadersNotSigned(names) => vec![("HeadersNotSigned", names.clone())],
            Self::InvalidAccessKeyId(access_key) => vec![("AWSAccessKeyId", access_key.clone())],
            Self::SignatureDoesNotMatch(mismatch) => mismatch.elements(),
            _ => Vec::new(),
        }
    }
}

impl HeaderFault {
    fn sentence(&self) -> String {
        match self {
            Self::MissingCredential => "missing Credential.".into(),
            Self::MissingSignedHeaders => "missing SignedHeaders.".into(),
            Self::MissingSignature => "missing Signature.".into(),
            Self::Components => {
                "the authorization header requires three components: Credential, SignedHeaders, and Signature.".into()
            }
            Self::Component(text) => format!("the authorization component \"{text}\" is malformed."),
            Self::Credential(CredentialFault::DateMismatch) => {
                "Invalid credential date. Date is not the same as X-Amz-Date.".into()
            }
            Self::Credential(fault) => fault.sentence(),
        }
    }
}

impl QueryFault {
    fn sentence(&self) -> Cow<'static, str> {
        match self {
            Self::MissingParameters => NO_PARAMETERS.into(),
            Self::Repeated(name) => format!("{name} must be given only once").into(),
            Self::Date => "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"".into(),
            Self::ExpiresNotNumber => "X-Amz-Expires should be a number".into(),
            Self::ExpiresNotPositive => "X-Amz-Expires must be greater than 0".into(),
            Self::ExpiresTooLarge => format!(
                "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than \
                 {PRESIGN_EXPIRES_MAX_S} seconds"
            )
            .into(),
            Self::Credential(CredentialFault::DateMismatch) => {
                "Invalid credential date. This date is not the same as X-Amz-Date.".into()
            }
            Self::Credential(fault) => format!("Error parsing the X-Amz-Credential parameter; {}", fault.sentence()).into(),
        }
    }
}

impl CredentialFault {
    fn sentence(&self) -> String {
        match self {
            Self::Malformed => {
                "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".".into()
            }
            Self::DateFormat(date) => {
                format!("incorrect date format \"{date}\". This date in the credential must be in the format \"yyyyMMdd\".")
            }
            Self::DateMismatch => "the date is not the same as X-Amz-Date.".into(),
            Self::Region { given, expected } => format!("the region '{given}' is wrong; expecting '{expected}'"),
            Self::Service(given) => format!("incorrect service \"{given}\". This endpoint belongs to \"s3\"."),
            Self::Terminator(given) => format!("incorrect terminal \"{given}\". This endpoint uses \"aws4_request\"."),
        }
    }

    fn elements(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Region { expected, .. } => vec![("Region", expected.clone())],
            _ => Vec::new(),
        }
    }
}

impl Mismatch {
    fn elements(&self) -> Vec<(&'static str, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut elements = vec![
            ("AWSAccessKeyId", self.access_key.clone()),
            ("StringToSign", text(&self.string_to_sign)),
            ("SignatureProvided", text(&self.signature_provided)),
            ("StringToSignBytes", spaced_hex(&self.string_to_sign)),
        ];
        if let Some(request) = &self.canonical_request {
            elements.extend([("CanonicalRequest", text(request)), ("CanonicalRequestBytes", spaced_hex(request))]);
        }
        elements
    }
}

/// `41 57 53`: S3's way of showing bytes that a terminal might hide.
fn spaced_hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| hex::encode(&[*byte])).collect();
    pairs.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sentence and element that minio-go and botocore need to find the right region by themselves.
    #[test]
    fn a_wrong_region_says_the_right_one() {
        let fault = CredentialFault::Region { given: "eu-west-1".into(), expected: "us-east-1".into() };
        let header = AuthError::HeaderMalformed(HeaderFault::Credential(fault.clone()));
        let sentence = "The authorization header is malformed; the region 'eu-west-1' is wrong; expecting 'us-east-1'";
        assert_eq!((header.code(), &*header.message()), ("AuthorizationHeaderMalformed", sentence));
        assert_eq!(header.elements(), [("Region", "us-east-1".to_owned())]);
        let query = AuthError::QueryMalformed(QueryFault::Credential(fault));
        let sentence = "Error parsing the X-Amz-Credential parameter; the region 'eu-west-1' is wrong; expecting 'us-east-1'";
        assert_eq!((query.code(), &*query.message()), ("AuthorizationQueryParametersError", sentence));
    }

    #[test]
    fn a_skewed_clock_is_told_both_times() {
        let (request_time, server_time) = (Timestamp::from_seconds(0), Timestamp::from_seconds(901));
        let error = AuthError::RequestTimeTooSkewed { request_time, server_time };
        assert_eq!(
            error.elements(),
            [
                ("RequestTime", "19700101T000000Z".to_owned()),
                ("ServerTime", "1970-01-01T00:15:01.000Z".to_owned()),
                ("MaxAllowedSkewMilliseconds", "900000".to_owned()),
            ]
        );
    }

    #[test]
    fn a_mismatch_shows_its_bytes() {
        let mismatch = Mismatch {
            access_key: "AKID".into(),
            string_to_sign: b"AWS".to_vec(),
            signature_provided: b"00".to_vec(),
            canonical_request: Some(b"GET\n".to_vec()),
        };
        let elements = AuthError::SignatureDoesNotMatch(Box::new(mismatch)).elements();
        assert!(elements.contains(&("StringToSignBytes", "41 57 53".to_owned())));
        assert!(elements.contains(&("CanonicalRequestBytes", "47 45 54 0a".to_owned())));
    }
}
