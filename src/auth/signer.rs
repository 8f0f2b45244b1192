//! The client's side: signs requests by the `Authorization` header, from the same canonical request that a server checks.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>

use sha2::{Digest, Sha256};

use super::canonical::{self, Parsed};
use super::chunk::ChunkSigner;
use super::claim::ALGORITHM;
use super::fields::Fields;
use super::keys::{KeyScope, Service, SigningKey};
use super::query::Query;
use super::{AuthError, Headers, SignedRequest};
use crate::base::hex;
use crate::base::secret::Secret;
use crate::base::time::Timestamp;

/// Signs for one access key and region. It remembers the key of the day, and its buffers.
#[derive(Debug)]
pub struct Signer {
    access_key: String,
    secret: Secret,
    region: String,
    /// The key derived last, and its `20130524`.
    key: Option<(String, SigningKey)>,
    query: Query,
    canonical: Vec<u8>,
    scratch: Vec<u8>,
}

/// What to put into the request.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The value of `Authorization`.
    pub authorization: String,
    /// Goes on from the request's signature to those of its chunks.
    pub chunks: ChunkSigner,
}

impl Signer {
    pub fn new(access_key: String, secret: Secret, region: String) -> Self {
        let (query, canonical, scratch) = (Query::default(), Vec::new(), Vec::new());
        Self { access_key, secret, region, key: None, query, canonical, scratch }
    }

    /// Signs `request`, which has `x-amz-date: <now>` among its headers. `signed_headers` are lower-case names in order, `;`
    /// between them; `payload` is the value of `x-amz-content-sha256`.
    pub fn sign<H: Headers + ?Sized>(
        &mut self,
        request: &SignedRequest<H>,
        signed_headers: &str,
        payload: &str,
        now: Timestamp,
    ) -> Result<Signed, AuthError> {
        let timestamp = now.amz_date();
        let (date, _) = timestamp.split_at(8);
        self.query.read(request.query).map_err(|_| AuthError::InvalidUri)?;
        self.query.sort();
        self.canonical.clear();
        let (out, scratch) = (&mut self.canonical, &mut self.scratch);
        let parsed = Parsed { query: &self.query, fields: &Fields::default() };
        canonical::write_request(out, scratch, request, parsed, signed_headers, payload.as_bytes())
            .map_err(|_| AuthError::InvalidUri)?;
        let digest = hex::encode_32(&Sha256::digest(&self.canonical).into());
        if self.key.as_ref().is_none_or(|(of, _)| of != date) {
            self.key = None;
        }
        let of = KeyScope { date, region: &self.region, service: Service::S3.name() };
        let derive = || (date.to_owned(), SigningKey::derive(&self.secret, of));
        let (_, key) = self.key.get_or_insert_with(derive);
        let scope = of.parts();
        let head: [&[u8]; 4] = [ALGORITHM.as_bytes(), b"\n", timestamp.as_bytes(), b"\n"];
        let signature = key.sign(head.into_iter().chain(scope).chain([&b"\n"[..], &digest]));
        let authorization = format!(
            "{ALGORITHM} Credential={}/{}, SignedHeaders={signed_headers}, Signature={}",
            self.access_key,
            String::from_utf8_lossy(&scope.concat()),
            String::from_utf8_lossy(&signature),
        );
        Ok(Signed { authorization, chunks: ChunkSigner::new(key.clone(), timestamp.as_bytes(), &scope, signature) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned());
        Signer::new("AKIAIOSFODNN7EXAMPLE".to_owned(), secret, "us-east-1".to_owned())
    }

    fn signature_of(authorization: &str) -> &str {
        authorization.rsplit('=').next().unwrap()
    }

    /// "Example: GET Object" of the page above.
    #[test]
    fn the_documentations_get() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let headers: [(&[u8], &[u8]); 3] =
            [(b"Range", b"bytes=0-9"), (b"x-amz-content-sha256", empty.as_bytes()), (b"x-amz-date", b"20130524T000000Z")];
        let host = b"examplebucket.s3.amazonaws.com";
        let request =
            SignedRequest { method: "GET", path: b"/test.txt", query: b"", host, headers: &headers[..], host_bucket: None };
        let now = Timestamp::parse_amz_date("20130524T000000Z").unwrap();
        let signed = signer().sign(&request, "host;range;x-amz-content-sha256;x-amz-date", empty, now).unwrap();
        let expected = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
                        SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
                        Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert_eq!(signed.authorization, expected);
    }

    /// The example of <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>: 65 KiB of `a` in two chunks.
    #[test]
    fn the_documentations_chunks() {
        let mode = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
        let headers: [(&[u8], &[u8]); 6] = [
            (b"x-amz-date", b"20130524T000000Z"),
            (b"x-amz-storage-class", b"REDUCED_REDUNDANCY"),
            (b"x-amz-content-sha256", mode.as_bytes()),
            (b"Content-Encoding", b"aws-chunked"),
            (b"x-amz-decoded-content-length", b"66560"),
            (b"Content-Length", b"66824"),
        ];
        let path = b"/examplebucket/chunkObject.txt";
        let request = SignedRequest {
            method: "PUT",
            path,
            query: b"",
            host: b"s3.amazonaws.com",
            headers: &headers[..],
            host_bucket: None,
        };
        let now = Timestamp::parse_amz_date("20130524T000000Z").unwrap();
        let names = "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;\
                     x-amz-storage-class";
        let mut signed = signer().sign(&request, names, mode, now).unwrap();
        let expected = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
        assert_eq!(signature_of(&signed.authorization), expected);
        for (size, signature) in [
            (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
            (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
            (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
        ] {
            let digest = Sha256::digest("a".repeat(size)).into();
            assert_eq!(signed.chunks.chunk(&digest)[..], *signature.as_bytes());
        }
    }

    /// A new day has a new key.
    #[test]
    fn what_a_signer_signs_the_verifier_believes() {
        use crate::auth::{Kind, RootCredentials, Scope, Verifier};
        let mut signer = signer();
        let root = RootCredentials::new(
            "AKIAIOSFODNN7EXAMPLE".to_owned(),
            signer.secret.clone(),
            std::sync::Arc::new(crate::auth::first_account("AKIAIOSFODNN7EXAMPLE")),
        );
        for date in ["20260101T235959Z", "20260102T000000Z"] {
            let unsigned = [(&b"x-amz-date"[..], date.as_bytes()), (b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD")];
            let request = SignedRequest {
                method: "GET",
                path: b"/b/a%20b",
                query: b"a=1",
                host: b"h:1",
                headers: &unsigned[..],
                host_bucket: None,
            };
            let now = Timestamp::parse_amz_date(date).unwrap();
            let signed = signer.sign(&request, "host;x-amz-content-sha256;x-amz-date", "UNSIGNED-PAYLOAD", now).unwrap();
            let headers = [unsigned[0], unsigned[1], (b"authorization", signed.authorization.as_bytes())];
            let request = SignedRequest { headers: &headers[..], ..request };
            let scope = Scope { region: Some("us-east-1"), service: Service::S3, now, accepts_version_2: false };
            let authenticated = Verifier::default().authenticate(&request, &root, &scope).unwrap();
            assert_eq!(authenticated.kind, Kind::Header);
        }
    }
}
