//! A good request, changed in one place: nothing but the untouched one may be believed, and each refusal is S3's own.

use super::vectors::*;
use super::*;

impl Sample {
    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(header, _)| !header.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        let before = self.headers.len();
        self.headers.retain(|(header, _)| !header.eq_ignore_ascii_case(name));
        assert!(self.headers.len() < before, "{name} was not there");
        self
    }

    fn also(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn authorization(&self) -> String {
        self.headers.iter().find(|(name, _)| name == "Authorization").unwrap().1.clone()
    }

    fn replaced(self, from: &str, to: &str) -> Self {
        let before = self.authorization();
        let after = before.replacen(from, to, 1);
        assert_ne!(before, after, "{from}");
        self.header("Authorization", &after)
    }

    fn query_replaced(mut self, from: &str, to: &str) -> Self {
        assert!(self.query.contains(from), "{from}");
        self.query = self.query.replacen(from, to, 1);
        self
    }

    fn at(mut self, seconds: i64) -> Self {
        self.now.seconds += seconds;
        self
    }

    fn code(&self) -> &'static str {
        self.authenticate().map(|_| "").unwrap_or_else(|error| error.code())
    }
}

fn get() -> Sample {
    documentation_headers().remove(0)
}

fn presigned() -> Sample {
    documentation_presigned()
}

/// Every bit of the method, the target and every signed header, in every sample.
#[test]
fn every_flipped_bit_of_what_is_signed_is_noticed() {
    let mut samples = documentation_headers();
    samples.extend(botocore_headers());
    samples.extend([presigned(), botocore_presigned(), documentation_streaming(false), documentation_streaming(true)]);
    for sample in samples {
        assert!(sample.authenticate().is_ok());
        let variants = flipped_lines(&sample).chain(flipped_headers(&sample));
        for variant in variants {
            assert!(!matches!(variant.authenticate(), Ok((Kind::Header | Kind::Presigned, _))), "{variant:?}");
        }
    }
}

fn flipped_lines(sample: &Sample) -> impl Iterator<Item = Sample> {
    let methods = flips(&sample.method).map(|method| Sample { method, ..sample.clone() });
    let paths = flips(&sample.path).filter(|path| !same_target(path, &sample.path));
    let queries = flips(&sample.query).filter(|query| !same_target(query, &sample.query));
    let paths = paths.map(|path| Sample { path, ..sample.clone() });
    methods.chain(paths).chain(queries.map(|query| Sample { query, ..sample.clone() }))
}

fn flipped_headers(sample: &Sample) -> impl Iterator<Item = Sample> {
    let authorization = sample.headers.iter().find(|(name, _)| name == "Authorization").map_or("", |(_, value)| value);
    let is_signed = |name: &str| {
        name == "Authorization" || name == "Host" || authorization.contains(&format!("{};", name.to_ascii_lowercase()))
    };
    let signed = sample.headers.iter().enumerate().filter(move |(_, (name, _))| is_signed(name));
    signed.flat_map(move |(index, (_, value))| {
        flips(value).filter(move |flipped| flipped.trim() != value).map(move |flipped| {
            let mut variant = sample.clone();
            variant.headers[index].1 = flipped;
            variant
        })
    })
}

/// `text` with one bit flipped, for each bit where that is still ASCII that a request line or header can hold.
pub(super) fn flips(text: &str) -> impl Iterator<Item = String> + '_ {
    (0..text.len() * 8).filter_map(move |bit| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let flipped = bytes[bit / 8];
        (flipped.is_ascii_graphic() || flipped == b' ').then(|| String::from_utf8(bytes).unwrap())
    })
}

/// Whether two targets mean the same: `%c3` and `%C3`, or another case in the *name* of the signature, the one parameter
/// that is not signed.
fn same_target(a: &str, b: &str) -> bool {
    let decode = |text: &str| crate::base::percent::decode(text.as_bytes(), false);
    let name = "X-Amz-Signature=";
    let renamed = b.find(name).is_some_and(|at| a[..at] == b[..at] && a[at + name.len()..] == b[at + name.len()..]);
    decode(a).is_some() && decode(a) == decode(b) || renamed && a.eq_ignore_ascii_case(b)
}

#[test]
fn every_part_that_is_dropped_or_doubled_is_missed() {
    for name in ["x-amz-date", "x-amz-content-sha256", "Range"] {
        assert_ne!(get().without(name).code(), "", "{name}");
        let value = get().headers.iter().find(|(header, _)| header == name).unwrap().1.clone();
        assert_ne!(get().also(name, &value).code(), "", "{name} twice");
    }
    assert_eq!(get().without("Range").code(), "SignatureDoesNotMatch");
    assert_eq!(get().without("x-amz-content-sha256").code(), "InvalidRequest");
    assert_eq!(get().without("x-amz-date").code(), "AccessDenied");
    for component in ["Credential", "SignedHeaders", "Signature"] {
        let parts = get().authorization().replace("AWS4-HMAC-SHA256 ", "");
        let (kept, dropped): (Vec<&str>, Vec<&str>) = parts.split(',').partition(|part| !part.starts_with(component));
        assert_eq!(dropped.len(), 1);
        let without = get().header("Authorization", &format!("AWS4-HMAC-SHA256 {}", kept.join(",")));
        assert_eq!(without.code(), "AuthorizationHeaderMalformed", "{component}");
        let doubled = get().header("Authorization", &format!("AWS4-HMAC-SHA256 {parts},{}", dropped[0]));
        assert_eq!(doubled.code(), "AuthorizationHeaderMalformed", "{component}");
    }
}

#[test]
fn every_parameter_of_a_pre_signed_url_that_is_dropped_or_doubled_is_missed() {
    let query = presigned().query;
    for parameter in query.split('&') {
        let kept: Vec<&str> = query.split('&').filter(|other| *other != parameter).collect();
        let without = Sample { query: kept.join("&"), ..presigned() };
        assert_eq!(without.code(), "AuthorizationQueryParametersError", "{parameter}");
        let doubled = Sample { query: format!("{query}&{parameter}"), ..presigned() };
        assert_eq!(doubled.code(), "AuthorizationQueryParametersError", "{parameter}");
        let other_case = Sample { query: format!("{query}&{}", parameter.to_ascii_lowercase()), ..presigned() };
        assert_eq!(other_case.code(), "AuthorizationQueryParametersError", "{parameter}");
    }
    let added = Sample { query: format!("{query}&versionId=1"), ..presigned() };
    assert_eq!(added.code(), "SignatureDoesNotMatch");
}

/// Header only, query only, both, neither (CVE-2026-41145).
#[test]
fn one_mechanism_or_none() {
    let query = presigned().query;
    assert_eq!(Sample { query: query.clone(), ..get() }.code(), "InvalidArgument");
    for part in query.split('&').filter(|part| ["Algorithm", "Credential", "Signature="].iter().any(|n| part.contains(n))) {
        assert_eq!(Sample { query: part.to_owned(), ..get() }.code(), "InvalidArgument", "{part}");
        let alone = Sample { query: part.to_owned(), ..get() }.without("Authorization");
        assert_eq!(alone.code(), "AuthorizationQueryParametersError", "{part}");
    }
    let again = get().authorization();
    assert_eq!(get().also("authorization", &again).authenticate().unwrap_err(), AuthError::SeveralMechanisms);
    assert!(matches!(get().without("Authorization").authenticate(), Ok((Kind::Anonymous, Payload::Sha256(_)))));
    assert_eq!(get().header("Authorization", "").code(), "AccessDenied");
}

#[test]
fn other_versions_of_the_signature_are_refused_by_name() {
    let refused = AuthError::UnsupportedMechanism;
    let message = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.";
    assert_eq!((refused.code(), &*refused.message()), ("InvalidRequest", message));
    let version_2 = get().header("Authorization", "AWS AKIAIOSFODNN7EXAMPLE:qgk2+6Sv9/oM7G3qLEjTH1a1l1g=");
    assert_eq!(version_2.authenticate().unwrap_err(), refused);
    let query = "AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires=1141889120&Signature=vjbyPxybdZaNmGa%2ByT272YEAiv4%3D".to_owned();
    assert_eq!(Sample { query, ..get() }.without("Authorization").authenticate().unwrap_err(), refused);
    let version_4a = get().replaced("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256");
    assert_eq!(version_4a.authenticate().unwrap_err(), refused);
    let presigned_4a = presigned().query_replaced("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256");
    assert_eq!(presigned_4a.authenticate().unwrap_err(), refused);
    assert_eq!(get().header("Authorization", "Basic YTpi").code(), "InvalidArgument");
}

#[test]
fn scopes_of_others_are_refused() {
    for (from, to) in [
        ("/20130524/", "/20130525/"),
        ("/us-east-1/", "/us-west-2/"),
        ("/s3/", "/sts/"),
        ("/s3/", "/s3tables/"),
        ("aws4_request", "aws4_response"),
    ] {
        assert_eq!(get().replaced(from, to).code(), "AuthorizationHeaderMalformed", "{to}");
        let (from, to) = (from.replace('/', "%2F"), to.replace('/', "%2F"));
        assert_eq!(presigned().query_replaced(&from, &to).code(), "AuthorizationQueryParametersError", "{to}");
    }
    assert_eq!(get().replaced("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7OTHER").code(), "InvalidAccessKeyId");
    assert_eq!(presigned().query_replaced("7EXAMPLE", "7OTHER").code(), "InvalidAccessKeyId");
}

#[test]
fn clocks_may_differ_by_a_quarter_of_an_hour() {
    for (seconds, code) in [(900, ""), (-900, ""), (901, "RequestTimeTooSkewed"), (-901, "RequestTimeTooSkewed")] {
        assert_eq!(get().at(seconds).code(), code, "{seconds}");
    }
    for (seconds, code) in [(86_400, ""), (86_401, "AccessDenied"), (-900, ""), (-901, "AccessDenied")] {
        assert_eq!(presigned().at(seconds).code(), code, "{seconds}");
    }
    assert_eq!(&*presigned().at(86_401).authenticate().unwrap_err().message(), "Request has expired");
    for date in ["", "20130524", "2013-05-24T00:00:00Z", "20130532T000000Z", "yesterday"] {
        assert_eq!(get().header("x-amz-date", date).code(), "AccessDenied", "{date}");
    }
}

#[test]
fn lifetimes_out_of_range_are_refused() {
    for expires in ["0", "-1", "604801", "x", ""] {
        let sample = presigned().query_replaced("X-Amz-Expires=86400", &format!("X-Amz-Expires={expires}"));
        assert_eq!(sample.code(), "AuthorizationQueryParametersError", "{expires}");
    }
}

/// floci#4150: an unsigned `x-amz-*` header could be added to a pre-signed URL by whoever holds it.
#[test]
fn headers_that_act_must_be_signed() {
    for sample in [get(), presigned()] {
        let added = sample.clone().also("X-Amz-Acl", "public-read").also("x-amz-meta-a", "1");
        let error = added.authenticate().unwrap_err();
        assert_eq!(error, AuthError::HeadersNotSigned("x-amz-acl, x-amz-meta-a".into()));
        assert_eq!((error.code(), error.elements()[0].0), ("AccessDenied", "HeadersNotSigned"));
        assert!(sample.also("Content-Type", "text/plain").authenticate().is_ok());
    }
    let no_host = get().replaced("SignedHeaders=host;", "SignedHeaders=");
    assert_eq!(no_host.authenticate().unwrap_err(), AuthError::HeadersNotSigned("host".into()));
    let no_host = presigned().query_replaced("SignedHeaders=host", "SignedHeaders=range");
    assert_eq!(no_host.authenticate().unwrap_err(), AuthError::HeadersNotSigned("host".into()));
}

/// CVE-2025-31489: each value of x-amz-content-sha256 beside a forged signature. None of them may skip the check.
#[test]
fn no_kind_of_payload_skips_the_signature() {
    let kinds = [
        "UNSIGNED-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
    ];
    for kind in kinds {
        assert_eq!(get().header("x-amz-content-sha256", kind).code(), "SignatureDoesNotMatch", "{kind}");
        let query = format!("{}&X-Amz-Content-Sha256={kind}", presigned().query);
        assert_eq!(Sample { query, ..presigned() }.code(), "SignatureDoesNotMatch", "{kind}");
    }
    for kind in ["", "unsigned-payload", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "e3b0", "STREAMING-"] {
        assert_eq!(get().header("x-amz-content-sha256", kind).code(), "InvalidArgument", "{kind}");
        let anonymous = get().without("Authorization").header("x-amz-content-sha256", kind);
        assert_eq!(anonymous.code(), "InvalidArgument", "{kind}");
    }
}

#[test]
fn without_credentials_nothing_is_signed() {
    let anonymous = |kind: &str| get().without("Authorization").header("x-amz-content-sha256", kind).authenticate();
    assert!(matches!(anonymous("UNSIGNED-PAYLOAD"), Ok((Kind::Anonymous, Payload::Unsigned))));
    let trailer = anonymous("STREAMING-UNSIGNED-PAYLOAD-TRAILER");
    assert!(matches!(trailer, Ok((Kind::Anonymous, Payload::StreamingUnsignedTrailer))));
    assert_eq!(anonymous("STREAMING-AWS4-HMAC-SHA256-PAYLOAD").unwrap_err(), AuthError::UnsupportedMechanism);
    let bare = Sample { headers: vec![("Host".into(), "h".into())], ..get() };
    assert!(matches!(bare.authenticate(), Ok((Kind::Anonymous, Payload::Unsigned))));
}

#[test]
fn broken_escapes_are_refused_before_anything_is_compared() {
    assert_eq!(Sample { path: "/%".into(), ..get() }.code(), "InvalidURI");
    assert_eq!(Sample { query: "prefix=%zz".into(), ..get() }.code(), "InvalidURI");
}

/// The host that routes the request is the one that is signed, whatever the Host header says.
#[test]
fn the_routing_host_is_the_signed_host() {
    let sample = get();
    let headers: Vec<(&[u8], &[u8])> = sample.headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
    let root = RootCredentials::new(
        ACCESS_KEY.to_owned(),
        Secret::new(SECRET_KEY.to_owned()),
        std::sync::Arc::new(crate::auth::first_account(ACCESS_KEY)),
    );
    let scope = Scope { region: Some("us-east-1"), service: Service::S3, now: sample.now, accepts_version_2: false };
    for (host, verifies) in [("examplebucket.s3.amazonaws.com", true), ("otherbucket.s3.amazonaws.com", false)] {
        let host = host.as_bytes();
        let request =
            SignedRequest { method: "GET", path: b"/test.txt", query: b"", host, host_bucket: None, headers: &headers[..] };
        assert_eq!(Verifier::default().authenticate(&request, &root, &scope).is_ok(), verifies);
    }
}

/// One verifier serves many requests: nothing of one may leak into the next.
#[test]
fn a_verifier_can_be_used_again() {
    let root = RootCredentials::new(
        ACCESS_KEY.to_owned(),
        Secret::new(SECRET_KEY.to_owned()),
        std::sync::Arc::new(crate::auth::first_account(ACCESS_KEY)),
    );
    let mut verifier = Verifier::default();
    let mut samples = vec![presigned(), get(), botocore_presigned(), Sample { path: "/%".into(), ..get() }];
    samples.extend(botocore_headers());
    for sample in samples.iter().chain(samples.iter().rev()) {
        let headers: Vec<(&[u8], &[u8])> = sample.headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        let host = sample.headers.iter().find(|(name, _)| name == "Host").unwrap().1.as_bytes();
        let (path, query) = (sample.path.as_bytes(), sample.query.as_bytes());
        let request = SignedRequest { method: &sample.method, path, query, host, host_bucket: None, headers: &headers[..] };
        let scope = Scope { region: Some("us-east-1"), service: Service::S3, now: sample.now, accepts_version_2: false };
        assert_eq!(verifier.authenticate(&request, &root, &scope).is_ok(), sample.authenticate().is_ok());
    }
}
