//! The signer of the AWS SDK for Rust as an oracle: whatever it signs for S3 verifies, and does not once it is changed.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use proptest::collection::vec;
use proptest::prelude::*;

use super::vectors::{ACCESS_KEY, SECRET_KEY, Sample};
use super::*;
use crate::base::percent;

#[derive(Clone, Debug)]
struct Case {
    method: &'static str,
    key: String,
    query: Vec<(String, Option<String>)>,
    /// Values of `x-amz-meta-0`, `x-amz-meta-1`, …
    metadata: Vec<String>,
    body: SignableBody<'static>,
    seconds: i64,
    expires_s: u32,
}

fn cases() -> impl Strategy<Value = Case> {
    let method = prop::sample::select(vec!["GET", "PUT", "HEAD", "POST", "DELETE"]);
    // Any text, with the characters that clients disagree on made frequent.
    let key = prop_oneof![r"[-a-z0-9()+ /.~_$&%=!'*,;:@?#\[\]]{1,40}", "[^\\p{Cc}]{1,20}"];
    let name = prop_oneof!["[a-z-]{1,12}", "[^\\p{Cc}]{1,6}"];
    let value = prop::option::of(prop_oneof!["[-a-z0-9()+ /%=&]{0,20}", "[^\\p{Cc}]{0,10}"]);
    let metadata = vec("[!-~]( {0,3}[!-~]{1,5}){0,3} {0,2}", 0..4);
    let body = prop_oneof![
        Just(SignableBody::UnsignedPayload),
        Just(SignableBody::Bytes(b"hello")),
        Just(SignableBody::StreamingUnsignedPayloadTrailer),
        Just(SignableBody::StreamingSignedPayloadTrailer),
    ];
    // Years 1971 to 2200: the date is a part of the scope, the key and the text.
    let seconds = 31_536_000i64..7_258_118_400;
    (method, key, vec((name, value), 0..5), metadata, body, seconds, 1u32..=604_800).prop_map(
        |(method, key, query, metadata, body, seconds, expires_s)| Case {
            method,
            key,
            query,
            metadata,
            body,
            seconds,
            expires_s,
        },
    )
}

impl Case {
    /// The request as a careful client puts it on the wire.
    fn unsigned(&self) -> Sample {
        let pair = |(name, value): &(String, Option<String>)| {
            let value = value.as_ref().map(|value| format!("={}", percent::encode(value.as_bytes(), false)));
            percent::encode(name.as_bytes(), false) + &value.unwrap_or_default()
        };
        let mut headers = vec![("host".to_owned(), "bkt.example.com:9000".to_owned())];
        headers.extend(self.metadata.iter().enumerate().map(|(n, value)| (format!("x-amz-meta-{n}"), value.clone())));
        Sample {
            method: self.method.to_owned(),
            path: format!("/bkt/{}", percent::encode(self.key.as_bytes(), true)),
            query: self.query.iter().map(pair).collect::<Vec<_>>().join("&"),
            headers,
            now: Timestamp::from_seconds(self.seconds),
            accepts_version_2: false,
            host_bucket: None,
        }
    }

    fn signed(&self, location: SignatureLocation) -> Sample {
        let mut sample = self.unsigned();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.signature_location = location;
        let mut body = self.body.clone();
        match location {
            SignatureLocation::Headers => settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256,
            SignatureLocation::QueryParams => {
                settings.expires_in = Some(Duration::from_secs(self.expires_s.into()));
                body = SignableBody::UnsignedPayload;
            }
            _ => unreachable!(),
        }
        let identity = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test").into();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.seconds as u64);
        let params = SigningParams::builder().identity(&identity).region("us-east-1").name("s3").time(time);
        let params = params.settings(settings).build().unwrap().into();
        let question_mark = if sample.query.is_empty() { "" } else { "?" };
        let uri = format!("http://bkt.example.com:9000{}{question_mark}{}", sample.path, sample.query);
        let headers = sample.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let request = SignableRequest::new(self.method, uri, headers, body).unwrap();
        let (instructions, _) = sign(request, &params).unwrap().into_parts();
        let (headers, parameters) = instructions.into_parts();
        sample.headers.extend(headers.iter().map(|header| (header.name().to_owned(), header.value().to_owned())));
        for (name, value) in parameters {
            let separator = if sample.query.is_empty() { "" } else { "&" };
            sample.query += &format!("{separator}{name}={}", percent::encode(value.as_bytes(), false));
        }
        sample
    }
}

proptest! {
    #[test]
    fn what_the_sdk_signs_in_the_header_verifies(case in cases()) {
        let sample = case.signed(SignatureLocation::Headers);
        let (kind, payload) = sample.authenticate().map_err(|error| TestCaseError::fail(format!("{sample:?}: {error:?}")))?;
        prop_assert_eq!(kind, Kind::Header);
        let as_signed = match case.body {
            SignableBody::Bytes(bytes) => matches!(payload, Payload::Sha256(digest) if digest[..] == Sha256::digest(bytes)[..]),
            SignableBody::StreamingUnsignedPayloadTrailer => matches!(payload, Payload::StreamingUnsignedTrailer),
            SignableBody::StreamingSignedPayloadTrailer => matches!(payload, Payload::StreamingSignedTrailer(_)),
            _ => matches!(payload, Payload::Unsigned),
        };
        prop_assert!(as_signed, "{:?}", payload);
    }

    #[test]
    fn what_the_sdk_pre_signs_verifies(case in cases(), age in 0.0..1.0f64) {
        let mut sample = case.signed(SignatureLocation::QueryParams);
        sample.now.seconds += (f64::from(case.expires_s) * age) as i64;
        let result = sample.authenticate();
        prop_assert!(matches!(result, Ok((Kind::Presigned, Payload::Unsigned))), "{sample:?}: {result:?}");
        sample.now.seconds = case.seconds + i64::from(case.expires_s) + 1;
        let expired = matches!(sample.authenticate(), Err(AuthError::Expired { .. }));
        prop_assert!(expired);
    }

    /// The signature of one request opens no other one.
    #[test]
    fn a_signature_cannot_be_moved_to_another_request(one in cases(), mut other in cases()) {
        other.seconds = one.seconds;
        other.body = one.body.clone();
        let (one, mut other) = (one.signed(SignatureLocation::Headers), other.signed(SignatureLocation::Headers));
        prop_assume!((&one.method, &one.path, &one.query, &one.headers) != (&other.method, &other.path, &other.query, &other.headers));
        let own = |sample: &Sample| sample.headers.iter().find(|(name, _)| name == "authorization").unwrap().1.clone();
        prop_assume!(own(&one) != own(&other));
        let authorization = own(&one);
        for header in other.headers.iter_mut().filter(|(name, _)| name == "authorization") {
            header.1 = authorization.clone();
        }
        prop_assert!(other.authenticate().is_err());
    }

    /// Neither a head nor a credential that anybody makes up may panic, or be believed.
    #[test]
    fn noise_is_refused_without_panic(
        path in vec(any::<u8>(), 0..40),
        query in "((X-Amz-[A-Za-z0-9-]{1,14}|AWSAccessKeyId|Expires|Signature|[ -~]{0,8})=?[ -~]{0,30}&?){0,8}",
        authorization in "((AWS4-HMAC-SHA256 )?((Credential|SignedHeaders|Signature)?=?[ -~]{0,30},? ?){0,5})|AWS [ -~]{0,60}",
        date in "[0-9TZ]{0,17}",
        now in any::<i32>(),
        accepts_version_2 in any::<bool>(),
    ) {
        let root = RootCredentials::new(ACCESS_KEY.to_owned(), Secret::new(SECRET_KEY.to_owned()), std::sync::Arc::new(crate::auth::first_account(ACCESS_KEY)));
        let headers: [(&[u8], &[u8]); 3] = [
            (b"Authorization", authorization.as_bytes()),
            (b"X-Amz-Date", date.as_bytes()),
            (b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD"),
        ];
        let scope = Scope { region: Some("us-east-1"), service: Service::S3, now: Timestamp::from_seconds(now.into()), accepts_version_2 };
        for headers in [&headers[..], &headers[1..]] {
            let request = SignedRequest { method: "GET", path: &path, query: query.as_bytes(), host: b"h", host_bucket: None, headers };
            let result = Verifier::default().authenticate(&request, &root, &scope);
            let believed = result.as_ref().is_ok_and(|authenticated| authenticated.kind != Kind::Anonymous);
            prop_assert!(!believed);
            if let Err(error) = result {
                prop_assert!(!error.message().is_empty() && error.elements().iter().all(|(name, _)| !name.is_empty()));
            }
        }
    }
}
