//! Signature Version 2: the examples of AWS's documentation, requests that botocore 1.44.8 signed (`s3` and `s3-query`), and
//! what happens when one byte of them changes.

use super::mutations::flips;
use super::vectors::Sample;
use super::*;

/// A sample of the documentation's bucket, or of one that the host names.
fn sample(bucket: Option<&'static str>, now: &str, head: &str) -> Sample {
    Sample { accepts_version_2: true, host_bucket: bucket, ..Sample::read(now, head) }
}

/// The examples of <https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html>, in the page's older and
/// newer spelling of the bucket: object GET, PUT, list, access control list, delete, upload, list of buckets, Unicode keys.
fn documentation() -> Vec<Sample> {
    let key = "Authorization: AWS AKIAIOSFODNN7EXAMPLE";
    let upload = "User-Agent: curl/7.15.5\nDate: Tue, 27 Mar 2007 21:06:08 +0000\nx-amz-acl: public-read\n\
                  content-type: application/x-download\nContent-MD5: 4gJE4saaMU4BqNR0kLY+lw==";
    let upload_end = "X-Amz-Meta-FileChecksum: 0x02661779\nX-Amz-Meta-ChecksumAlgorithm: crc32\n\
                      Content-Disposition: attachment; filename=database.dat\nContent-Encoding: gzip\nContent-Length: 5913339";
    let mut samples = Vec::new();
    for (bucket, get, put, list, acl) in [
        (
            "johnsmith",
            "bWq2s1WEIj+Ydj0vQ697zp+IXMU=",
            "MyyxeRY7whkBe+bq8fHCL/2kKUg=",
            "htDYFYduRNen8P9ZfE/s9SuKy0U=",
            "c2WLPFtWHVgbEmeEG93a4cG37dM=",
        ),
        (
            "awsexamplebucket1",
            "qgk2+6Sv9/oM7G3qLEjTH1a1l1g=",
            "iqRzw+ileNPu1fhspnRs8nOjjIA=",
            "m0WP8eCtspQl5Ahe6L1SozdX9YA=",
            "82ZHiFIjc+WbcwFKGUVEQspPn+0=",
        ),
    ] {
        let of = |target: &str, rest: &str, date: &str, signature: &str| {
            let head = format!(
                "{target}\nHost: {bucket}.s3.amazonaws.com\n{rest}Date: Tue, 27 Mar 2007 {date} +0000\n{key}:{signature}"
            );
            sample(Some(bucket), "20070327T193700Z", &head)
        };
        let put_head = "Content-Type: image/jpeg\nContent-Length: 94328\n";
        samples.push(of("GET /photos/puppy.jpg", "", "19:36:42", get));
        samples.push(Sample { now: at("20070327T211600Z"), ..of("PUT /photos/puppy.jpg", put_head, "21:15:45", put) });
        samples.push(of("GET /?prefix=photos&max-keys=50&marker=puppy", "User-Agent: Mozilla/5.0\n", "19:42:41", list));
        samples.push(of("GET /?acl", "", "19:44:46", acl));
    }
    let plain = [
        format!(
            "DELETE /johnsmith/photos/puppy.jpg\nHost: s3.amazonaws.com\nUser-Agent: dotnet\nDate: Tue, 27 Mar 2007 21:20:27 +0000\n\
             x-amz-date: Tue, 27 Mar 2007 21:20:26 +0000\n{key}:R4dJ53KECjStyBO5iTBJZ4XVOaI="
        ),
        format!(
            "DELETE /awsexamplebucket1/photos/puppy.jpg\nHost: s3.us-west-1.amazonaws.com\n\
             Date: Tue, 27 Mar 2007 21:20:26 +0000\n{key}:XbyTlbQdu9Xw5o8P4iMwPktxQd8="
        ),
    ];
    samples.extend(plain.iter().map(|head| sample(None, "20070327T212030Z", head)));
    for (bucket, domain, signature) in [
        ("static.johnsmith.net", "johnsmith.net", "ilyl83RwaSoYIEdixDQcA4OnAnc="),
        ("static.example.com", "example.com", "jtBQa0Aq+DkULFI8qrpwIjGEx0E="),
    ] {
        let head = format!(
            "PUT /db-backup.dat.gz\nHost: {bucket}:8080\n{upload}\nX-Amz-Meta-ReviewedBy: joe@{domain}\n\
             X-Amz-Meta-ReviewedBy: jane@{domain}\n{upload_end}\n{key}:{signature}"
        );
        samples.push(sample(Some(bucket), "20070327T210700Z", &head));
    }
    let buckets =
        format!("GET /\nHost: s3.amazonaws.com\nDate: Wed, 28 Mar 2007 01:29:59 +0000\n{key}:qGdzdERIC03wnaRNKh6OqZehG9s=");
    samples.push(sample(None, "20070328T013000Z", &buckets));
    let unicode = format!(
        "GET /dictionary/fran%C3%A7ais/pr%c3%a9f%c3%a8re\nHost: s3.amazonaws.com\nDate: Wed, 28 Mar 2007 01:49:49 +0000\n\
         {key}:DNEZGsoieTZ92F3bUfSPQcbGmlM="
    );
    samples.push(sample(None, "20070328T015000Z", &unicode));
    samples
}

/// The documentation's link: a GET of `photos/puppy.jpg` of the bucket `johnsmith`.
fn documentation_link() -> Sample {
    sample(
        Some("johnsmith"),
        "20070329T031000Z",
        "GET /photos/puppy.jpg?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620\n\
         Host: johnsmith.s3.amazonaws.com",
    )
}

/// What boto3 sends with `signature_version="s3"`: metadata in several cases, response overrides with `&`, `+` and quotes, a
/// bucket whose path has no slash, sub-resources with and without value. It signs both styles of address alike.
fn botocore_headers() -> Vec<Sample> {
    let end =
        |signature: &str| format!("Date: Sun, 22 Nov 2026 00:00:00 GMT\nAuthorization: AWS AKIAIOSFODNN7EXAMPLE:{signature}");
    let put = "Content-Type: text/plain\nx-amz-meta-two: a  b\nx-amz-meta-One: x\nContent-MD5: XUFAKrxLKna5cZ2REBfFkg==\n\
               amz-sdk-request: attempt=1; max=3\nContent-Length: 5\n";
    let get = "gr%C3%BCn//../x?response-content-disposition=attachment%3B%20filename%3D%22a%26b%20%2Bc.txt%22&\
               response-cache-control=no-store&versionId=null";
    let list = "?list-type=2&prefix=a%2Bb&delimiter=%2F&encoding-type=url";
    let requests = [
        ("PUT", "/a%20b/%281%29%2B~.rnd".to_owned(), put, "5RPtfL4J5Yknp/zXWWUNXJOn0C0="),
        ("GET", format!("/{get}"), "Range: bytes=0-9\n", "OOJfCfjMPCH2YI5diXVndwam50s="),
        ("GET", list.to_owned(), "", "yxdUB/lTGNgjl21/yUzm/6ut830="),
        ("POST", "/k?uploads".to_owned(), "", "1o/7fI/CaLylqnpeYGvpqbO5z/w="),
        ("PUT", "/k?partNumber=3&uploadId=u-1".to_owned(), "", "fsaADUuMstWUP5mQ3NmUnXx3A2k="),
        ("GET", "?location".to_owned(), "", "ktbwwzS8C7rYMDy4yPSCl78fyqY="),
    ];
    let by_path = requests.iter().map(|(method, target, fields, signature)| {
        let head = format!("{method} /bkt{target}\nHost: 127.0.0.1:9000\n{fields}{}", end(signature));
        sample(None, "20261122T000000Z", &head)
    });
    let by_host = requests.iter().map(|(method, target, fields, signature)| {
        let target = if target.starts_with('/') { target.clone() } else { format!("/{target}") };
        let head = format!("{method} {target}\nHost: bkt.s3.example.com:9000\n{fields}{}", end(signature));
        sample(Some("bkt"), "20261122T000000Z", &head)
    });
    let buckets = format!("GET /\nHost: 127.0.0.1:9000\n{}", end("c8z5EaUYE34aK2KuAJczVHwR4pE="));
    by_path.chain(by_host).chain([sample(None, "20261122T000000Z", &buckets)]).collect()
}

/// What boto3 links to with `signature_version="s3-query"`; it moves `x-amz-*` headers into the query.
fn botocore_links() -> Vec<Sample> {
    let links = [
        "GET /bkt/%28a%29%20%C3%BC%2B.txt?response-content-disposition=attachment%3B%20filename%3D%22x%20y.txt%22&\
         AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=hXNs7igEZyOZLWDesfYvsgLBIG0%3D&Expires=1795309200",
        "PUT /bkt/k?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=ah5P%2FIx5E0mct6OSZhjQXmhTLH4%3D&x-amz-acl=private&\
         Expires=1795309200",
    ];
    links.iter().map(|link| sample(None, "20261122T000000Z", &format!("{link}\nHost: 127.0.0.1:9000"))).collect()
}

/// S3's Wasabi benchmark signs no `Date`, and an `x-amz-date` in the form of Version 4.
fn benchmark_get() -> Sample {
    let text = "GET\n\n\n\nx-amz-date:20261122T000000Z\n/bkt/Object-1";
    let secret = Secret::new(super::vectors::SECRET_KEY.to_owned());
    use base64::Engine;
    let signature = base64::prelude::BASE64_STANDARD.encode(keys::mac_sha1(&secret, text.as_bytes()));
    let head = format!(
        "GET /bkt/Object-1\nHost: 127.0.0.1:9000\nX-Amz-Date: 20261122T000000Z\nAuthorization: AWS AKIAIOSFODNN7EXAMPLE:{signature}"
    );
    sample(None, "20261122T000000Z", &head)
}

fn at(now: &str) -> Timestamp {
    Timestamp::parse_amz_date(now).unwrap()
}

fn all() -> Vec<Sample> {
    let mut samples = documentation();
    samples.extend(botocore_headers());
    samples.extend(botocore_links());
    samples.extend([documentation_link(), benchmark_get()]);
    samples
}

fn code(sample: &Sample) -> &'static str {
    sample.authenticate().map(|_| "").unwrap_or_else(|error| error.code())
}

#[test]
fn what_others_signed_verifies_where_it_is_accepted() {
    for sample in all() {
        let expected = if sample.query.contains("Signature=") { Kind::Presigned } else { Kind::Header };
        let result = sample.authenticate();
        assert!(matches!(result, Ok((kind, Payload::Unsigned)) if kind == expected), "{sample:?}: {result:?}");
        let refused = Sample { accepts_version_2: false, ..sample }.authenticate().unwrap_err();
        assert_eq!(refused, AuthError::UnsupportedMechanism);
        assert!(refused.message().ends_with("Please use AWS4-HMAC-SHA256."));
    }
}

/// Every bit of the method, the path, the link's parameters, and every header that is signed.
#[test]
fn every_flipped_bit_of_what_is_signed_is_noticed() {
    for sample in all() {
        let methods = flips(&sample.method).map(|method| Sample { method, ..sample.clone() });
        let paths = flips(&sample.path).map(|path| Sample { path, ..sample.clone() });
        let unsigned_query = sample.query.contains("prefix=");
        let queries = flips(&sample.query).filter(|query| !unsigned_query && !same_query(query, &sample.query));
        let queries = queries.map(|query| Sample { query, ..sample.clone() });
        for variant in methods.chain(paths).chain(queries).chain(flipped_headers(&sample)) {
            assert!(!matches!(variant.authenticate(), Ok((Kind::Header | Kind::Presigned, _))), "{variant:?}");
        }
    }
}

fn flipped_headers(sample: &Sample) -> impl Iterator<Item = Sample> {
    let has_amz_date = sample.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("x-amz-date"));
    let is_signed = move |name: &str| match name.to_ascii_lowercase().as_str() {
        "date" => !has_amz_date,
        "authorization" | "content-md5" | "content-type" => true,
        name => name.starts_with("x-amz-"),
    };
    let signed = sample.headers.iter().enumerate().filter(move |(_, (name, _))| is_signed(name));
    signed.flat_map(move |(index, (name, value))| {
        let with = move |name: String, value: String| {
            let mut variant = sample.clone();
            variant.headers[index] = (name, value);
            variant
        };
        let names = flips(name).filter(|flipped| !flipped.eq_ignore_ascii_case(name));
        let names = names.map(move |flipped| with(flipped, value.clone()));
        let values = flips(value).filter(move |flipped| flipped.trim() != value);
        names.chain(values.map(move |flipped| with(name.clone(), flipped)))
    })
}

/// Whether two queries mean the same: other digits of an escape, or another case in the name of a parameter of the link, which
/// are found in any case. The name of a moved header is a header's.
fn same_query(a: &str, b: &str) -> bool {
    let parts = |query: &str| -> Vec<(String, Option<Vec<u8>>)> {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let is_any_case = ["awsaccesskeyid", "signature", "expires", "x-amz-acl"].contains(&&*name.to_ascii_lowercase());
            (
                if is_any_case { name.to_ascii_lowercase() } else { name.to_owned() },
                crate::base::percent::decode(value.as_bytes(), true),
            )
        };
        query.split('&').map(pair).collect()
    };
    parts(a) == parts(b)
}

#[test]
fn every_part_that_is_dropped_is_missed() {
    let get = documentation().remove(0);
    let without = |name: &str| {
        let mut sample = get.clone();
        sample.headers.retain(|(header, _)| header != name);
        sample
    };
    assert_eq!(code(&without("Date")), "AccessDenied");
    assert!(matches!(without("Authorization").authenticate(), Ok((Kind::Anonymous, _))));
    let query = documentation_link().query;
    for parameter in ["AWSAccessKeyId", "Signature", "Expires"] {
        let kept: Vec<&str> = query.split('&').filter(|part| !part.starts_with(parameter)).collect();
        let error = Sample { query: kept.join("&"), ..documentation_link() }.authenticate().unwrap_err();
        assert_eq!(error, AuthError::QueryVersion2Malformed, "{parameter}");
        let again = query.split('&').find(|part| part.starts_with(parameter)).unwrap();
        let doubled = Sample { query: format!("{query}&{again}"), ..documentation_link() };
        assert_eq!(code(&doubled), "AuthorizationQueryParametersError", "{parameter}");
    }
}

#[test]
fn headers_of_a_wrong_form() {
    let with = |authorization: &str| {
        let mut sample = documentation().remove(0);
        sample.headers.last_mut().unwrap().1 = authorization.to_owned();
        sample
    };
    for authorization in ["AWS", "AWS AKIAIOSFODNN7EXAMPLE", "AWS :bWq2s1WEIj+Ydj0vQ697zp+IXMU=", "AWS AKIAIOSFODNN7EXAMPLE:"] {
        assert_eq!(with(authorization).authenticate().unwrap_err(), AuthError::HeaderVersion2Malformed, "{authorization}");
    }
    assert_eq!(code(&with("AWS NOBODY:bWq2s1WEIj+Ydj0vQ697zp+IXMU=")), "InvalidAccessKeyId");
    assert_eq!(code(&with("AWS AKIAIOSFODNN7EXAMPLE:bWq2s1WEIj+Ydj0vQ697zp+IXMU")), "SignatureDoesNotMatch");
    assert_eq!(code(&with("AWS3 AKIAIOSFODNN7EXAMPLE:bWq2s1WEIj+Ydj0vQ697zp+IXMU=")), "InvalidRequest");
}

/// What would choose another operation, other bytes or another name of the answer than the signer meant.
#[test]
fn nothing_that_acts_can_be_added() {
    for name in SIGNED_PARAMETERS {
        for sample in [documentation().remove(0), documentation_link()] {
            let separator = if sample.query.is_empty() { "" } else { "&" };
            let query = format!("{}{separator}{name}=1", sample.query);
            assert_eq!(code(&Sample { query, ..sample }), "SignatureDoesNotMatch", "{name}");
        }
    }
    for (name, value) in
        [("x-amz-acl", "public-read"), ("x-amz-copy-source", "/a/b"), ("Content-MD5", "4gJE4saaMU4BqNR0kLY+lw==")]
    {
        for mut sample in [documentation().remove(0), documentation_link()] {
            sample.headers.push((name.to_owned(), value.to_owned()));
            assert_eq!(code(&sample), "SignatureDoesNotMatch", "{name}");
        }
    }
    let moved = Sample { query: "x-amz-acl=private".to_owned(), ..documentation().remove(0) };
    assert_eq!(moved.authenticate().unwrap_err(), AuthError::HeadersNotSigned("x-amz-acl".into()));
    let mut both = botocore_links().remove(1);
    both.headers.push(("X-Amz-Acl".to_owned(), "private".to_owned()));
    assert_eq!(both.authenticate().unwrap_err(), AuthError::HeadersNotSigned("x-amz-acl".into()));
    let repeated = Sample { query: "acl&acl".to_owned(), ..documentation().remove(3) };
    assert_eq!(code(&repeated), "AuthorizationQueryParametersError");
}

#[test]
fn one_mechanism_or_none() {
    let mut both = documentation_link();
    both.headers.extend(documentation().remove(0).headers);
    assert_eq!(both.authenticate().unwrap_err(), AuthError::SeveralMechanisms);
    let mixed = Sample { query: format!("{}&X-Amz-Signature=0", documentation_link().query), ..documentation_link() };
    assert_eq!(mixed.authenticate().unwrap_err(), AuthError::SeveralMechanisms);
}

#[test]
fn clocks_and_lifetimes() {
    let moved = |sample: &Sample, seconds: i64| {
        let mut sample = sample.clone();
        sample.now.seconds += seconds;
        code(&sample)
    };
    let get = botocore_headers().remove(0);
    for (seconds, code) in [(900, ""), (-900, ""), (901, "RequestTimeTooSkewed"), (-901, "RequestTimeTooSkewed")] {
        assert_eq!(moved(&get, seconds), code, "{seconds}");
    }
    let link = botocore_links().remove(0);
    for (seconds, code) in [(3600, ""), (3601, "AccessDenied"), (-86_400, "")] {
        assert_eq!(moved(&link, seconds), code, "{seconds}");
    }
    let expired = Sample { now: at("20261122T010001Z"), ..link.clone() }.authenticate().unwrap_err();
    assert_eq!(&*expired.message(), "Request has expired");
    let elements = [("Expires", "2026-11-22T01:00:00.000Z"), ("ServerTime", "2026-11-22T01:00:01.000Z")];
    assert_eq!(expired.elements(), elements.map(|(name, value)| (name, value.to_owned())));
    for expires in ["-1", "soon", "1795309200.5", "99999999999999999999"] {
        let query = link.query.replace("1795309200", expires);
        let error = Sample { query, ..link.clone() }.authenticate().unwrap_err();
        assert_eq!(error, AuthError::ExpiresVersion2(expires.to_owned()));
        assert_eq!(&*error.message(), format!("Invalid date (should be seconds since epoch): {expires}"));
    }
}

/// A hash that the client states is verified; a stream whose chunks would be signed has nothing to go on from.
#[test]
fn payloads_that_are_stated() {
    let of = |kind: &str| {
        let secret = Secret::new(super::vectors::SECRET_KEY.to_owned());
        let text = format!("PUT\n\n\nSun, 22 Nov 2026 00:00:00 GMT\nx-amz-content-sha256:{kind}\n/bkt/k");
        use base64::Engine;
        let signature = base64::prelude::BASE64_STANDARD.encode(keys::mac_sha1(&secret, text.as_bytes()));
        let head = format!(
            "PUT /bkt/k\nHost: h\nDate: Sun, 22 Nov 2026 00:00:00 GMT\nx-amz-content-sha256: {kind}\n\
             Authorization: AWS AKIAIOSFODNN7EXAMPLE:{signature}"
        );
        sample(None, "20261122T000000Z", &head).authenticate()
    };
    assert!(matches!(of("UNSIGNED-PAYLOAD"), Ok((Kind::Header, Payload::Unsigned))));
    assert!(matches!(of("STREAMING-UNSIGNED-PAYLOAD-TRAILER"), Ok((_, Payload::StreamingUnsignedTrailer))));
    assert!(matches!(of(&"ab".repeat(32)), Ok((_, Payload::Sha256(digest))) if digest == [0xab; 32]));
    assert_eq!(of("STREAMING-AWS4-HMAC-SHA256-PAYLOAD").unwrap_err(), AuthError::UnsupportedMechanism);
    assert_eq!(of("anything").unwrap_err().code(), "InvalidArgument");
}

/// The text is signed in this order.
#[test]
fn the_signed_parameters_are_sorted() {
    assert!(SIGNED_PARAMETERS.is_sorted_by(|a, b| a < b));
}

/// S3 shows what it computed, in the documentation's own words.
#[test]
fn a_mismatch_carries_what_was_computed() {
    let mut sample = documentation().remove(8);
    let authorization = sample.headers.pop().unwrap().1;
    sample.headers.push(("Authorization".into(), authorization.replace("R4dJ", "R4dK")));
    let Err(AuthError::SignatureDoesNotMatch(mismatch)) = sample.authenticate() else { panic!() };
    let expected = "DELETE\n\n\n\nx-amz-date:Tue, 27 Mar 2007 21:20:26 +0000\n/johnsmith/photos/puppy.jpg";
    assert_eq!((&*mismatch.string_to_sign, &mismatch.canonical_request), (expected.as_bytes(), &None));
}
