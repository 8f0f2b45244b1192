//! Who is it? Signature Version 4 in every form that S3 clients send: header, pre-signed URL, and the chunk and trailer
//! signatures of streaming uploads. <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html>
//! Where the operator wants it, also Version 2 (`version_2`).
//!
//! The story: [`Verifier::authenticate`] notes the few headers it needs, reads the query, decides by which one mechanism the
//! request is authenticated, reads the claim (`claim`), looks the secret up, writes the canonical request (`canonical`,
//! `query`), signs it with a remembered key (`keys`) and compares. What comes back says who it is and how the body must be
//! verified; a streaming upload gets a [`ChunkVerifier`] (`chunk`). Why not is `error`, in S3's words.
//!
//! Fails closed: a request is anonymous only if neither header nor query names a credential or a signature; every header
//! that S3 acts upon (`host`, `x-amz-*`) must be covered by the signature; nothing authenticates in two ways at once.
//!
//! Imports `base` and `limits`. No I/O, no clock: time, region and credentials are passed in. Limits: the size of a head
//! bounds the buffers (`HEAD_SIZE_MAX`), `SIGNING_KEYS_MAX` the keys. One [`Verifier`] per data core, never shared.

mod canonical;
mod chunk;
mod claim;
mod error;
mod fields;
mod keys;
mod query;
mod signer;
mod version_2;

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod version_2_tests;

use std::borrow::Cow;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use self::canonical::{Coverage, Parsed};
use self::claim::{ALGORITHM, Claim, Field, Noted};
use self::fields::{Fields, SignedNames};
use self::keys::{KeyCache, SigningKey, same_signature};
use self::query::Query;
use crate::base::hex;
use crate::base::principal::{ANONYMOUS, Account, Principal, PrincipalKind};
use crate::base::secret::Secret;
use crate::base::time::Timestamp;

pub use self::chunk::{ChunkSigner, ChunkVerifier, SignatureMismatch};
pub use self::claim::region_signed_for;
pub use self::error::{AuthError, CredentialFault, HeaderFault, Mismatch, QueryFault};
pub use self::keys::Service;
pub use self::signer::{Signed, Signer};
pub use self::version_2::SIGNED_PARAMETERS;

/// What of a request is signed, as it came over the wire.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a, H: ?Sized> {
    pub method: &'a str,
    /// The path of the target, still percent-encoded.
    pub path: &'a [u8],
    /// What follows `?`, still percent-encoded; empty without one.
    pub query: &'a [u8],
    /// The authority that *routes* this request: of an absolute-form target, else the `Host` header.
    pub host: &'a [u8],
    /// The bucket that the host names, where it names one. Only Version 2 reads it: it signs the bucket and not the host.
    pub host_bucket: Option<&'a str>,
    pub headers: &'a H,
}

/// The header fields, in the order of the request, names in any case. A trait, so that the HTTP parser's offsets can be
/// read where they are.
pub trait Headers {
    fn count(&self) -> usize;
    /// Name and value of field `index`, which is below `count`.
    fn field(&self, index: usize) -> (&[u8], &[u8]);
}

impl Headers for [(&[u8], &[u8])] {
    fn count(&self) -> usize {
        self.len()
    }

    fn field(&self, index: usize) -> (&[u8], &[u8]) {
        self.get(index).copied().unwrap_or_default()
    }
}

/// What every credential must be scoped to, the time, and what is accepted.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// `None`: to any. Programs with a region of their own cannot all be told another.
    pub region: Option<&'a str>,
    pub service: Service,
    pub now: Timestamp,
    /// Signature Version 2, too.
    pub accepts_version_2: bool,
}

/// Who owns an access key. Users will be looked up behind this.
pub trait CredentialLookup {
    /// `session_token` is what came with it. A key of a session is none without its token, and any other none with one.
    fn find(&self, access_key: &str, session_token: Option<&[u8]>) -> Result<Identity<'_>, NotFound>;
}

/// Why nobody owns an access key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// It is not known.
    AccessKey,
    /// The token is not that of the key's session, or it has none.
    SessionToken,
}

/// The owner of an access key, and the secret that proves it.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    pub secret: &'a Secret,
    pub principal: &'a Principal,
}

/// The one identity of today: the owner of the server.
#[derive(Debug)]
pub struct RootCredentials {
    secret: Secret,
    principal: Principal,
}

impl RootCredentials {
    /// Root's keys, and the account that is its own.
    pub fn new(access_key: String, secret: Secret, account: Arc<Account>) -> Self {
        let arn = format!("arn:aws:iam::{}:root", account.id);
        let (kind, access_key) = (PrincipalKind::Root, access_key.into());
        Self { secret, principal: Principal { kind, access_key, arn: arn.into(), account } }
    }

    /// The account whose root it is, and to which buckets and objects belong.
    pub fn account(&self) -> &Account {
        &self.principal.account
    }
}

/// The account of a server that starts for the first time, made of root's access key: two servers that are set up alike agree, and the
/// builds that kept no account had these ids.
pub fn first_account(access_key: &str) -> Account {
    let digest = Sha256::digest(access_key.as_bytes());
    let number = digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    let id = format!("{:012}", number % 1_000_000_000_000);
    Account { id: id.into(), canonical_id: hex::encode(&digest).into(), display_name: "root".into() }
}

impl CredentialLookup for RootCredentials {
    fn find(&self, access_key: &str, session_token: Option<&[u8]>) -> Result<Identity<'_>, NotFound> {
        if *self.principal.access_key != *access_key {
            return Err(NotFound::AccessKey);
        }
        // No session token was ever issued, so that any is a wrong one.
        if session_token.is_some() {
            return Err(NotFound::SessionToken);
        }
        Ok(Identity { secret: &self.secret, principal: &self.principal })
    }
}

/// A request that is what it says.
#[derive(Clone, Debug)]
pub struct Authenticated<'a> {
    pub principal: &'a Principal,
    pub kind: Kind,
    pub payload: Payload,
}

impl Authenticated<'static> {
    /// A request whose head says nothing of who sent it.
    pub fn anonymous() -> Self {
        Self { principal: &ANONYMOUS, kind: Kind::Anonymous, payload: Payload::Unsigned }
    }
}

/// Where the credentials were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Header,
    Presigned,
    Anonymous,
}

/// How the body must be verified: the signed part of `x-amz-content-sha256`.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Bytes as they are.
    Unsigned,
    /// Bytes as they are, with this SHA-256; anything else is `XAmzContentSHA256Mismatch`.
    Sha256([u8; 32]),
    /// aws-chunked, each chunk signed.
    StreamingSigned(Box<ChunkVerifier>),
    /// aws-chunked, each chunk and the trailer signed.
    StreamingSignedTrailer(Box<ChunkVerifier>),
    /// aws-chunked with a trailer, nothing of it signed.
    StreamingUnsignedTrailer,
}

/// Verifies requests. Holds what is worth keeping between them: derived keys and buffers.
#[derive(Debug, Default)]
pub struct Verifier {
    keys: KeyCache,
    query: Query,
    fields: Fields,
    canonical: Vec<u8>,
    scratch: Vec<u8>,
}

impl Verifier {
    /// Says who sent `request`, or why nobody believes it. Without any credentials it is [`Kind::Anonymous`]: what such a
    /// request may do is for `policy` to say.
    pub fn authenticate<'c, H: Headers + ?Sized>(
        &mut self,
        request: &SignedRequest<H>,
        credentials: &'c impl CredentialLookup,
        scope: &Scope,
    ) -> Result<Authenticated<'c>, AuthError> {
        let noted = Noted::read(request.headers);
        self.query.read(request.query).map_err(|_| AuthError::InvalidUri)?;
        self.query.sort();
        self.fields.read(request.headers);
        let claim = match mechanism(&noted, &self.query, scope.accepts_version_2)? {
            Mechanism::None => {
                let payload = unsigned_payload(&noted)?;
                return Ok(Authenticated { principal: &ANONYMOUS, kind: Kind::Anonymous, payload });
            }
            Mechanism::Header(authorization) => Claim::from_header(authorization, &noted, scope)?,
            Mechanism::Query => Claim::from_query(&self.query, &noted, scope)?,
            Mechanism::HeaderVersion2(authorization) => {
                let claim = version_2::Claim::from_header(authorization, &noted, scope)?;
                return self.authenticate_version_2(request, credentials, &noted, &claim);
            }
            Mechanism::QueryVersion2 => {
                let claim = version_2::Claim::from_query(&self.query, scope)?;
                return self.authenticate_version_2(request, credentials, &noted, &claim);
            }
        };
        check_coverage(request.headers, claim.signed_headers)?;
        let payload = PayloadKind::read(claim.payload)?;
        let access_key = claim.credential.access_key;
        let identity = self.identify(credentials, access_key, &noted)?;
        self.canonical.clear();
        let (signed_headers, digest_line) = (claim.signed_headers, claim.payload);
        let (out, scratch) = (&mut self.canonical, &mut self.scratch);
        let parsed = Parsed { query: &self.query, fields: &self.fields };
        let coverage = canonical::write_request(out, scratch, request, parsed, signed_headers, digest_line)
            .map_err(|_| AuthError::InvalidUri)?;
        let key = self.keys.key(access_key, identity.secret, claim.credential.scope);
        let seed = verify(&key, &claim, &self.canonical, coverage)?;
        let payload = payload.verifier(&key, &claim, seed);
        // Not before: whoever knows an access key could empty the memory with regions and days of his own.
        if let Cow::Owned(key) = key {
            self.keys.remember(access_key, identity.secret, claim.credential.scope, key);
        }
        Ok(Authenticated { principal: identity.principal, kind: claim.kind, payload })
    }

    fn authenticate_version_2<'c, H: Headers + ?Sized>(
        &self,
        request: &SignedRequest<H>,
        credentials: &'c impl CredentialLookup,
        noted: &Noted,
        claim: &version_2::Claim,
    ) -> Result<Authenticated<'c>, AuthError> {
        let payload = unsigned_payload(noted)?;
        let identity = self.identify(credentials, claim.access_key, noted)?;
        claim.verify(request, Parsed { query: &self.query, fields: &self.fields }, &identity)?;
        Ok(Authenticated { principal: identity.principal, kind: claim.kind, payload })
    }

    fn identify<'c>(
        &self,
        credentials: &'c impl CredentialLookup,
        access_key: &str,
        noted: &Noted,
    ) -> Result<Identity<'c>, AuthError> {
        let token = session_token(noted, &self.query)?;
        credentials.find(access_key, token).map_err(|fault| match fault {
            NotFound::AccessKey => AuthError::InvalidAccessKeyId(access_key.to_owned()),
            NotFound::SessionToken => AuthError::InvalidToken,
        })
    }
}

/// The token of a temporary credential, which comes where the credential comes, or in a header that a link's signature covers. Two
/// of them could be one for the signature and one for the permissions.
fn session_token<'a>(noted: &Noted<'a>, query: &'a Query) -> Result<Option<&'a [u8]>, AuthError> {
    let in_query = query.once("X-Amz-Security-Token").map_err(|_| AuthError::InvalidToken)?;
    match (noted.security_token, in_query) {
        (Field::Absent, token) => Ok(token),
        (Field::Once(token), None) => Ok(Some(token)),
        _ => Err(AuthError::InvalidToken),
    }
}

/// The one way in which a request is authenticated.
enum Mechanism<'a> {
    None,
    Header(&'a [u8]),
    Query,
    HeaderVersion2(&'a [u8]),
    QueryVersion2,
}

/// Decided by presence alone, never by what would verify: a gate that looks at the header while the permissions come from
/// the query is CVE-2026-41145.
fn mechanism<'a>(noted: &Noted<'a>, query: &Query, accepts_version_2: bool) -> Result<Mechanism<'a>, AuthError> {
    let version_4 = ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature"].into_iter().any(|name| query.has(name));
    let version_2 = ["AWSAccessKeyId", "Signature"].into_iter().any(|name| query.has(name));
    match (noted.authorization, version_4, version_2) {
        (Field::Absent, false, false) => Ok(Mechanism::None),
        (Field::Once(authorization), false, false) if accepts_version_2 && version_2::is_scheme_of(authorization) => {
            Ok(Mechanism::HeaderVersion2(authorization))
        }
        (Field::Once(authorization), false, false) => Ok(Mechanism::Header(authorization)),
        (Field::Absent, true, false) => Ok(Mechanism::Query),
        (Field::Absent, false, true) if accepts_version_2 => Ok(Mechanism::QueryVersion2),
        (Field::Absent, false, true) => Err(AuthError::UnsupportedMechanism),
        _ => Err(AuthError::SeveralMechanisms),
    }
}

/// A request without credentials or of Version 2 may say how its body is framed, but has no signature from which chunks could
/// go on.
fn unsigned_payload(noted: &Noted) -> Result<Payload, AuthError> {
    let kind = match noted.content_sha256 {
        Field::Absent => PayloadKind::Unsigned,
        Field::Once(value) => PayloadKind::read(value)?,
        Field::Repeated => return Err(AuthError::InvalidContentSha256(String::new())),
    };
    match kind {
        PayloadKind::Unsigned => Ok(Payload::Unsigned),
        PayloadKind::Sha256(digest) => Ok(Payload::Sha256(digest)),
        PayloadKind::StreamingUnsignedTrailer => Ok(Payload::StreamingUnsignedTrailer),
        PayloadKind::StreamingSigned | PayloadKind::StreamingSignedTrailer => Err(AuthError::UnsupportedMechanism),
    }
}

/// Every `x-amz-*` header changes what a request means, so that one outside the signature could be added by anybody who
/// sees the request, or who was given the pre-signed URL.
fn check_coverage<H: Headers + ?Sized>(headers: &H, signed_headers: &str) -> Result<(), AuthError> {
    let signed = SignedNames::read(signed_headers);
    let acts = |name: &[u8]| name.get(..6).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"x-amz-"));
    let fields = (0..headers.count()).map(|index| headers.field(index).0);
    let mut unsigned = fields.filter(|name| acts(name) && !signed.has(name)).peekable();
    let host_is_signed = signed.has(b"host");
    if host_is_signed && unsigned.peek().is_none() {
        return Ok(());
    }
    let mut names: Vec<String> = unsigned.map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()).collect();
    if !host_is_signed {
        names.insert(0, "host".to_owned());
    }
    Err(AuthError::HeadersNotSigned(names.join(", ")))
}

/// Compares the signature that was given with the one that this canonical request has, and returns it: it seeds the chain
/// of chunk signatures.
fn verify(key: &SigningKey, claim: &Claim, canonical: &[u8], coverage: Coverage) -> Result<[u8; 64], AuthError> {
    let digest = hex::encode_32(&Sha256::digest(canonical).into());
    let string_to_sign = string_to_sign(claim, &digest);
    let expected = key.sign(string_to_sign.clone());
    if same_signature(&expected, claim.signature) && coverage == Coverage::Whole {
        return Ok(expected);
    }
    Err(AuthError::SignatureDoesNotMatch(Box::new(Mismatch {
        access_key: claim.credential.access_key.to_owned(),
        string_to_sign: string_to_sign.collect::<Vec<_>>().concat(),
        signature_provided: claim.signature.to_vec(),
        canonical_request: Some(canonical.to_vec()),
    })))
}

fn string_to_sign<'a>(claim: &'a Claim, digest: &'a [u8; 64]) -> impl Iterator<Item = &'a [u8]> + Clone {
    let head: [&[u8]; 4] = [ALGORITHM.as_bytes(), b"\n", &claim.timestamp, b"\n"];
    let tail: [&[u8]; 2] = [b"\n", digest];
    head.into_iter().chain(scope_of(claim)).chain(tail)
}

fn scope_of<'a>(claim: &Claim<'a>) -> [&'a [u8]; 7] {
    claim.credential.scope.parts()
}

/// The values of `x-amz-content-sha256`.
#[derive(Clone, Copy)]
enum PayloadKind {
    Unsigned,
    Sha256([u8; 32]),
    StreamingSigned,
    StreamingSignedTrailer,
    StreamingUnsignedTrailer,
}

impl PayloadKind {
    /// A value that is not known is refused, not taken for unsigned (CVE-2025-31489 and its kin).
    fn read(value: &[u8]) -> Result<Self, AuthError> {
        match value {
            b"UNSIGNED-PAYLOAD" => Ok(Self::Unsigned),
            b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Ok(Self::StreamingSigned),
            b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Ok(Self::StreamingSignedTrailer),
            b"STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(Self::StreamingUnsignedTrailer),
            _ => match hex::decode(value) {
                Some(digest) => Ok(Self::Sha256(digest)),
                None => Err(AuthError::InvalidContentSha256(String::from_utf8_lossy(value).into_owned())),
            },
        }
    }

    fn verifier(self, key: &SigningKey, claim: &Claim, seed: [u8; 64]) -> Payload {
        let chunks = || Box::new(ChunkVerifier::new(key.clone(), &claim.timestamp, &scope_of(claim), seed));
        match self {
            Self::Unsigned => Payload::Unsigned,
            Self::Sha256(digest) => Payload::Sha256(digest),
            Self::StreamingSigned => Payload::StreamingSigned(chunks()),
            Self::StreamingSignedTrailer => Payload::StreamingSignedTrailer(chunks()),
            Self::StreamingUnsignedTrailer => Payload::StreamingUnsignedTrailer,
        }
    }
}

#[cfg(test)]
mod tests {
    /// A user writes it into scripts: it must never become another one.
    #[test]
    fn an_account_id_is_twelve_digits_and_stays() {
        assert_eq!(&*super::first_account("AKIAIOSFODNN7EXAMPLE").id, "084097185385");
        let all_are_ids = |id: &str| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_digit());
        assert!((0..2000).all(|number| all_are_ids(&super::first_account(&format!("key{number}")).id)));
    }
}
