//! Signatures that others computed: the examples of AWS's documentation, and requests that botocore 1.44.5 signed with the
//! same credentials (captured before sending, less the headers that it does not sign).

use sha2::{Digest, Sha256};

use super::*;

pub(super) const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub(super) const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// A request as text: `METHOD target`, then `Name: value` lines.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) now: Timestamp,
    pub(super) accepts_version_2: bool,
    pub(super) host_bucket: Option<&'static str>,
}

impl Sample {
    pub(super) fn read(now: &str, head: &str) -> Self {
        let mut lines = head.lines().map(str::trim);
        let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: lines.map(header).collect(),
            now: Timestamp::parse_amz_date(now).unwrap(),
            accepts_version_2: false,
            host_bucket: None,
        }
    }

    pub(super) fn authenticate(&self) -> Result<(Kind, Payload), AuthError> {
        let root = RootCredentials::new(
            ACCESS_KEY.to_owned(),
            Secret::new(SECRET_KEY.to_owned()),
            std::sync::Arc::new(crate::auth::first_account(ACCESS_KEY)),
        );
        let headers: Vec<(&[u8], &[u8])> = self.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let host = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(b"host")).map_or(&b""[..], |(_, value)| value);
        let (path, query) = (self.path.as_bytes(), self.query.as_bytes());
        let request =
            SignedRequest { method: &self.method, path, query, host, host_bucket: self.host_bucket, headers: &headers[..] };
        let scope =
            Scope { region: Some("us-east-1"), service: Service::S3, now: self.now, accepts_version_2: self.accepts_version_2 };
        let authenticated = Verifier::default().authenticate(&request, &root, &scope)?;
        let expected = if authenticated.kind == Kind::Anonymous { &*ANONYMOUS } else { &root.principal };
        assert_eq!(authenticated.principal, expected);
        Ok((authenticated.kind, authenticated.payload))
    }
}

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const DOC_TIME: &str = "20130524T000000Z";
const DOC_CREDENTIAL: &str = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";

/// The examples of <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>: GET with a range, PUT,
/// GET ?lifecycle, list.
pub(super) fn documentation_headers() -> Vec<Sample> {
    let common = "Host: examplebucket.s3.amazonaws.com\nx-amz-date: 20130524T000000Z";
    let heads = [
        format!(
            "GET /test.txt\n{common}\nRange: bytes=0-9\nx-amz-content-sha256: {EMPTY}\n\
             Authorization: {DOC_CREDENTIAL},SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        ),
        format!(
            "PUT /test$file.text\n{common}\nDate: Fri, 24 May 2013 00:00:00 GMT\nx-amz-storage-class: REDUCED_REDUNDANCY\n\
             x-amz-content-sha256: 44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072\n\
             Authorization: {DOC_CREDENTIAL},\
             SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,\
             Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        ),
        format!(
            "GET /?lifecycle\n{common}\nx-amz-content-sha256: {EMPTY}\n\
             Authorization: {DOC_CREDENTIAL},SignedHeaders=host;x-amz-content-sha256;x-amz-date,\
             Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        ),
        format!(
            "GET /?max-keys=2&prefix=J\n{common}\nx-amz-content-sha256: {EMPTY}\n\
             Authorization: {DOC_CREDENTIAL},SignedHeaders=host;x-amz-content-sha256;x-amz-date,\
             Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        ),
    ];
    heads.iter().map(|head| Sample::read(DOC_TIME, head)).collect()
}

/// The example of <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>.
pub(super) fn documentation_presigned() -> Sample {
    Sample::read(
        DOC_TIME,
        "GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2F\
         aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=\
         aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404\n\
         Host: examplebucket.s3.amazonaws.com",
    )
}

/// The head of the chunked upload of `sigv4-streaming.html`, or with a trailer that of `sigv4-streaming-trailers.html`.
pub(super) fn documentation_streaming(trailer: bool) -> Sample {
    let common = "Host: s3.amazonaws.com\nx-amz-date: 20130524T000000Z\nx-amz-storage-class: REDUCED_REDUNDANCY\n\
                  Content-Encoding: aws-chunked\nx-amz-decoded-content-length: 66560";
    let rest = if trailer {
        format!(
            "x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER\nx-amz-trailer: x-amz-checksum-crc32c\n\
             Authorization: {DOC_CREDENTIAL},SignedHeaders=content-encoding;host;x-amz-content-sha256;x-amz-date;\
             x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer,\
             Signature=106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
        )
    } else {
        format!(
            "x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\nContent-Length: 66824\n\
             Authorization: {DOC_CREDENTIAL},SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;\
             x-amz-date;x-amz-decoded-content-length;x-amz-storage-class,\
             Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
        )
    };
    Sample::read(DOC_TIME, &format!("PUT /examplebucket/chunkObject.txt\n{common}\n{rest}"))
}

const BOTO_TIME: &str = "20261122T000000Z";

/// What boto3 sends: a key of spaces, parentheses and plus with doubled spaces in a header, a Unicode key with `//` and
/// `..`, a list with empty and encoded values, a flag without a value, an upload over https.
pub(super) fn botocore_headers() -> Vec<Sample> {
    let common = "Host: 127.0.0.1:9000\nX-Amz-Date: 20261122T000000Z";
    let credential = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261122/us-east-1/s3/aws4_request";
    let bare = "SignedHeaders=host;x-amz-content-sha256;x-amz-date";
    let heads = [
        format!(
            "PUT /bkt/a%20b/%281%29%2B~.rnd\n{common}\nx-amz-meta-two: a  b\nx-amz-checksum-crc32: NhCmhg==\n\
             x-amz-sdk-checksum-algorithm: CRC32\nContent-Length: 5\n\
             X-Amz-Content-SHA256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\n\
             Authorization: {credential}, SignedHeaders=host;x-amz-checksum-crc32;x-amz-content-sha256;x-amz-date;\
             x-amz-meta-two;x-amz-sdk-checksum-algorithm, \
             Signature=e9ef98f808bae9acf75709876a7ded97038194a54498e58038470ce8a03c604c"
        ),
        format!(
            "GET /bkt/gr%C3%BCn/%E6%97%A5%E6%9C%AC//../x\n{common}\nRange: bytes=0-9\nx-amz-checksum-mode: ENABLED\n\
             X-Amz-Content-SHA256: {EMPTY}\n\
             Authorization: {credential}, SignedHeaders=host;range;x-amz-checksum-mode;x-amz-content-sha256;x-amz-date, \
             Signature=b7081445c5da813e4e6e74323426f07c1d2276de0279cee49aa5b2d358000d58"
        ),
        format!(
            "GET /bkt?list-type=2&prefix=&delimiter=%2F&start-after=a%2Bb%20c%26d%3De&encoding-type=url\n{common}\n\
             X-Amz-Content-SHA256: {EMPTY}\nAuthorization: {credential}, {bare}, \
             Signature=1011fcfa3bd7884da753752439d337b5cc0b89ddedc1cb290ec92f4825d2a3cd"
        ),
        format!(
            "POST /bkt/k?uploads\n{common}\nX-Amz-Content-SHA256: {EMPTY}\nContent-Length: 0\n\
             Authorization: {credential}, {bare}, \
             Signature=e6b7e714435492b18e2fbbe636708b4914e355355bd85c198e3d45facfba61c3"
        ),
        format!(
            "PUT /bkt/k\nHost: s3.example.com:9443\nX-Amz-Date: 20261122T000000Z\nTransfer-Encoding: chunked\n\
             Content-Encoding: aws-chunked\nX-Amz-Trailer: x-amz-checksum-crc32\nX-Amz-Decoded-Content-Length: 5\n\
             x-amz-sdk-checksum-algorithm: CRC32\nX-Amz-Content-SHA256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\n\
             Authorization: {credential}, SignedHeaders=content-encoding;host;x-amz-content-sha256;x-amz-date;\
             x-amz-decoded-content-length;x-amz-sdk-checksum-algorithm;x-amz-trailer, \
             Signature=5006cbd65ba424bd3e0029c43e982e412cc695f9f37c85ff373688cfd0342dae"
        ),
    ];
    heads.iter().map(|head| Sample::read(BOTO_TIME, head)).collect()
}

const BOTO_PRESIGNED: &str = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20261122%2Fus-east-1%2F\
    s3%2Faws4_request&X-Amz-Date=20261122T000000Z&X-Amz-Expires=604800&X-Amz-SignedHeaders=host";

/// A pre-signed GET of `(a) ü+.txt` with a `response-content-disposition`.
pub(super) fn botocore_presigned() -> Sample {
    Sample::read(
        BOTO_TIME,
        &format!(
            "GET /bkt/%28a%29%20%C3%BC%2B.txt?response-content-disposition=attachment%3B%20filename%3D%22a%20b.txt%22&\
             {BOTO_PRESIGNED}&X-Amz-Signature=296130b7d436a5969c7cd98e63e9a70de0ebdc9a1be047d2e88e1ee64531f3dc\n\
             Host: 127.0.0.1:9000"
        ),
    )
}

#[test]
fn examples_of_the_documentation_verify() {
    for sample in documentation_headers() {
        let (kind, payload) = sample.authenticate().unwrap_or_else(|error| panic!("{sample:?}: {error:?}"));
        assert!(kind == Kind::Header && matches!(payload, Payload::Sha256(_)), "{sample:?}");
    }
    let (kind, payload) = documentation_presigned().authenticate().unwrap();
    assert!(kind == Kind::Presigned && matches!(payload, Payload::Unsigned));
}

#[test]
fn requests_of_botocore_verify() {
    for sample in botocore_headers() {
        let result = sample.authenticate();
        assert!(matches!(result, Ok((Kind::Header, _))), "{sample:?}: {result:?}");
    }
    assert!(matches!(botocore_headers()[4].authenticate(), Ok((_, Payload::StreamingUnsignedTrailer))));
    assert!(matches!(botocore_presigned().authenticate(), Ok((Kind::Presigned, Payload::Unsigned))));
}

/// Clients may leave unescaped what the signature escapes, and escape what it does not.
#[test]
fn another_spelling_of_the_same_request_verifies() {
    let mut sample = botocore_headers().remove(0);
    for path in ["/bkt/a%20b/(1)%2b~.rnd", "/bkt/a b/(1)+~.rnd", "/%62kt/a%20b/%281%29%2B%7e.rnd"] {
        sample.path = path.to_owned();
        assert!(sample.authenticate().is_ok(), "{path}");
    }
    let mut sample = botocore_headers().remove(2);
    for query in [
        "encoding-type=url&prefix&list-type=2&delimiter=/&start-after=a%2bb+c%26d=e",
        "&delimiter=%2f&&start-after=%61%2Bb%20c%26d%3De&encoding-type=url&list-type=2&prefix=&",
    ] {
        sample.query = query.to_owned();
        assert!(sample.authenticate().is_ok(), "{query}");
    }
}

/// botocore's requests of a session: this server has issued no token, so that none can be right.
#[test]
fn session_tokens_are_refused() {
    let token = "X-Amz-Security-Token=session%2Ftoken%2B%3D%3D";
    let presigned = format!(
        "GET /bkt/k?{BOTO_PRESIGNED}&{token}&X-Amz-Signature=\
         40c237c7ed80902b2b1142904d0a3476ee390df66d7ca17611620b3c90bc6dac\nHost: 127.0.0.1:9000"
    );
    let header = format!(
        "GET /bkt/k\nHost: 127.0.0.1:9000\nx-amz-checksum-mode: ENABLED\nX-Amz-Date: 20261122T000000Z\n\
         X-Amz-Security-Token: session/token+==\nX-Amz-Content-SHA256: {EMPTY}\n\
         Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261122/us-east-1/s3/aws4_request, \
         SignedHeaders=host;x-amz-checksum-mode;x-amz-content-sha256;x-amz-date;x-amz-security-token, \
         Signature=8dd01b54036e2692a92044e26aee002926dd70477e88c8da6f53f40ebb49afbb"
    );
    for head in [presigned, header] {
        assert_eq!(Sample::read(BOTO_TIME, &head).authenticate().unwrap_err(), AuthError::InvalidToken);
    }
}

const CHUNKS: [&[u8; 64]; 3] = [
    b"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    b"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    b"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
];
const CHUNKS_BEFORE_TRAILER: [&[u8; 64]; 3] = [
    b"b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
    b"1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
    b"2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
];
const TRAILER: &[u8; 64] = b"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435";

/// The example's payload: 64 KiB, then 1 KiB of `a`, then nothing.
fn payload_digests() -> [[u8; 32]; 3] {
    [65536, 1024, 0].map(|length| Sha256::digest(vec![b'a'; length]).into())
}

#[test]
fn chunks_of_the_documentation_verify() {
    let Ok((_, Payload::StreamingSigned(mut verifier))) = documentation_streaming(false).authenticate() else { panic!() };
    for (digest, signature) in payload_digests().iter().zip(CHUNKS) {
        assert_eq!(verifier.chunk(digest, signature), Ok(()));
    }
}

#[test]
fn the_trailer_of_the_documentation_verifies() {
    let sample = documentation_streaming(true);
    let Ok((_, Payload::StreamingSignedTrailer(mut verifier))) = sample.authenticate() else { panic!() };
    for (digest, signature) in payload_digests().iter().zip(CHUNKS_BEFORE_TRAILER) {
        assert_eq!(verifier.chunk(digest, signature), Ok(()));
    }
    let mut tampered = verifier.clone();
    assert_eq!(tampered.trailer(b"x-amz-checksum-crc32c:sOO8/A==\n", TRAILER), Err(SignatureMismatch));
    // The signature of a chunk is none of a trailer, and the other way round.
    assert_eq!(tampered.chunk(&payload_digests()[2], TRAILER), Err(SignatureMismatch));
    assert_eq!(verifier.trailer(b"x-amz-checksum-crc32c:sOO8/Q==\n", TRAILER), Ok(()));
}

#[test]
fn chunks_changed_swapped_left_out_or_repeated_do_not_verify() {
    let Ok((_, Payload::StreamingSigned(fresh))) = documentation_streaming(false).authenticate() else { panic!() };
    let digests = payload_digests();
    let attempt = |order: &[(usize, usize)]| {
        let mut verifier = fresh.clone();
        order.iter().try_for_each(|&(digest, signature)| verifier.chunk(&digests[digest], CHUNKS[signature]))
    };
    assert_eq!(attempt(&[(0, 0), (1, 1), (2, 2)]), Ok(()));
    for order in [&[(1, 0)][..], &[(1, 1)], &[(0, 0), (2, 2)], &[(0, 0), (0, 0)], &[(0, 0), (1, 1), (1, 1)], &[(2, 2)]] {
        assert_eq!(attempt(order), Err(SignatureMismatch), "{order:?}");
    }
    for bit in 0..512 {
        let mut signature = *CHUNKS[0];
        signature[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(fresh.clone().chunk(&digests[0], &signature), Err(SignatureMismatch), "bit {bit}");
    }
}

/// S3 shows the client's author what it computed; the text is the documentation's own.
#[test]
fn a_mismatch_carries_what_was_computed() {
    let mut sample = documentation_headers().remove(0);
    let authorization = sample.headers.pop().unwrap().1;
    sample.headers.push(("Authorization".into(), authorization.replace("f0e8", "f0e9")));
    let Err(AuthError::SignatureDoesNotMatch(mismatch)) = sample.authenticate() else { panic!() };
    let string_to_sign = "AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n\
                          7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972";
    assert_eq!(mismatch.string_to_sign, string_to_sign.as_bytes());
    assert!(mismatch.canonical_request.unwrap().starts_with(b"GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\nrange:"));
    assert_eq!(mismatch.access_key, ACCESS_KEY);
}
