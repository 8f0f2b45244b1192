//! What a request says about its own signature, read from the `Authorization` header or from the query, and checked
//! for form, scope and time. Whether it is true is decided by `mod.rs`.

use super::error::{AuthError, CredentialFault, HeaderFault, QueryFault};
use super::keys::{KeyScope, TERMINATOR};
use super::query::Query;
use super::{Headers, Kind, Scope};
use crate::base::time::Timestamp;
use crate::limits::{CLOCK_SKEW_MAX_S, PRESIGN_EXPIRES_MAX_S};

pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const UNSIGNED_PAYLOAD: &[u8] = b"UNSIGNED-PAYLOAD";

/// The headers that authentication reads, found in one pass.
#[derive(Default)]
pub(super) struct Noted<'a> {
    pub(super) authorization: Field<'a>,
    pub(super) amz_date: Field<'a>,
    pub(super) date: Field<'a>,
    pub(super) content_sha256: Field<'a>,
    pub(super) security_token: Field<'a>,
}

/// A header that may be given once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Field<'a> {
    #[default]
    Absent,
    Once(&'a [u8]),
    Repeated,
}

impl<'a> Field<'a> {
    fn note(&mut self, value: &'a [u8]) {
        *self = if *self == Self::Absent { Self::Once(value) } else { Self::Repeated };
    }
}

impl<'a> Noted<'a> {
    pub(super) fn read<H: Headers + ?Sized>(headers: &'a H) -> Self {
        let mut noted = Self::default();
        for index in 0..headers.count() {
            let (name, value) = headers.field(index);
            let field = match name.len() {
                4 if name.eq_ignore_ascii_case(b"date") => &mut noted.date,
                10 if name.eq_ignore_ascii_case(b"x-amz-date") => &mut noted.amz_date,
                13 if name.eq_ignore_ascii_case(b"authorization") => &mut noted.authorization,
                20 if name.eq_ignore_ascii_case(b"x-amz-content-sha256") => &mut noted.content_sha256,
                20 if name.eq_ignore_ascii_case(b"x-amz-security-token") => &mut noted.security_token,
                _ => continue,
            };
            field.note(value.trim_ascii());
        }
        noted
    }
}

/// Everything that is needed to compute the signature, and the signature that was given.
pub(super) struct Claim<'a> {
    pub(super) kind: Kind,
    pub(super) credential: Credential<'a>,
    /// Lower-case names, `;` between them.
    pub(super) signed_headers: &'a str,
    pub(super) signature: &'a [u8],
    /// `20130524T000000Z`.
    pub(super) timestamp: [u8; 16],
    /// The last line of the canonical request.
    pub(super) payload: &'a [u8],
}

/// A credential whose scope is ours.
pub(super) struct Credential<'a> {
    pub(super) access_key: &'a str,
    pub(super) scope: KeyScope<'a>,
}

impl<'a> Claim<'a> {
    /// From the `Authorization` header.
    pub(super) fn from_header(authorization: &'a [u8], noted: &Noted<'a>, scope: &Scope) -> Result<Self, AuthError> {
        let components = Components::read(authorization)?;
        let (time, timestamp) = noted.date_of_header(scope.now)?;
        let credential = Credential::read(components.credential, &timestamp, scope)
            .map_err(|fault| AuthError::HeaderMalformed(HeaderFault::Credential(fault)))?;
        if time.seconds.abs_diff(scope.now.seconds) > CLOCK_SKEW_MAX_S {
            return Err(AuthError::RequestTimeTooSkewed { request_time: time, server_time: scope.now });
        }
        let payload = match noted.content_sha256 {
            Field::Once(value) => value,
            Field::Absent => return Err(AuthError::MissingContentSha256),
            Field::Repeated => return Err(AuthError::InvalidContentSha256(String::new())),
        };
        let Components { signed_headers, signature, .. } = components;
        Ok(Self { kind: Kind::Header, credential, signed_headers, signature: signature.as_bytes(), timestamp, payload })
    }

    /// From the parameters of a pre-signed URL.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
    pub(super) fn from_query(query: &'a Query, noted: &Noted<'a>, scope: &Scope) -> Result<Self, AuthError> {
        if required(query, "X-Amz-Algorithm")? != ALGORITHM {
            return Err(AuthError::UnsupportedMechanism);
        }
        let credential = required(query, "X-Amz-Credential")?;
        let signature = required(query, "X-Amz-Signature")?;
        let date = required(query, "X-Amz-Date")?;
        let signed_headers = required(query, "X-Amz-SignedHeaders")?;
        let expires_s = read_expires(required(query, "X-Amz-Expires")?).map_err(AuthError::QueryMalformed)?;
        let time = Timestamp::parse_amz_date(date).ok_or(AuthError::QueryMalformed(QueryFault::Date))?;
        let timestamp = date.as_bytes().try_into().map_err(|_| AuthError::QueryMalformed(QueryFault::Date))?;
        let credential = Credential::read(credential, &timestamp, scope)
            .map_err(|fault| AuthError::QueryMalformed(QueryFault::Credential(fault)))?;
        check_lifetime(time, expires_s, scope.now)?;
        let payload = presigned_payload(query, noted)?;
        Ok(Self { kind: Kind::Presigned, credential, signed_headers, signature: signature.as_bytes(), timestamp, payload })
    }
}

impl<'a> Noted<'a> {
    /// `x-amz-date` counts before `Date`; each may have either form (s3cmd and old signers send RFC 1123 dates).
    pub(super) fn date_of_header(&self, now: Timestamp) -> Result<(Timestamp, [u8; 16]), AuthError> {
        let field = if self.amz_date == Field::Absent { self.date } else { self.amz_date };
        let Field::Once(value) = field else { return Err(AuthError::MissingDate) };
        let text = std::str::from_utf8(value).map_err(|_| AuthError::MissingDate)?;
        if let (Some(time), Ok(timestamp)) = (Timestamp::parse_amz_date(text), value.try_into()) {
            return Ok((time, timestamp));
        }
        let time = Timestamp::parse_http_date(text, now).ok_or(AuthError::MissingDate)?;
        let timestamp = time.amz_date().as_bytes().try_into().map_err(|_| AuthError::MissingDate)?;
        Ok((time, timestamp))
    }

    /// `Date`, where no `x-amz-date` takes its place.
    pub(super) fn date_unless_amz_date(&self) -> &'a [u8] {
        match (self.amz_date, self.date) {
            (Field::Absent, Field::Once(value)) => value,
            _ => b"",
        }
    }
}

/// The parts of `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`.
struct Components<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Components<'a> {
    /// minio-go's streaming signer joins the components with `,`, all others with `, `.
    fn read(authorization: &'a [u8]) -> Result<Self, AuthError> {
        let text = std::str::from_utf8(authorization).map_err(|_| AuthError::UnsupportedAuthorizationType)?;
        let (scheme, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        match scheme {
            ALGORITHM => Self::read_list(rest).map_err(AuthError::HeaderMalformed),
            "" => Err(AuthError::EmptyAuthorization),
            // Version 2 (`AWS`) where it is not accepted, versions 3 and 4A.
            _ if scheme.starts_with("AWS") => Err(AuthError::UnsupportedMechanism),
            _ => Err(AuthError::UnsupportedAuthorizationType),
        }
    }

    fn read_list(list: &'a str) -> Result<Self, HeaderFault> {
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for component in list.split(',').map(str::trim).filter(|component| !component.is_empty()) {
            let malformed = || HeaderFault::Component(component.to_owned());
            let (name, value) = component.split_once('=').ok_or_else(malformed)?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(malformed()),
            };
            if place.replace(value).is_some() {
                return Err(HeaderFault::Components);
            }
        }
        let given = |value: Option<&'a str>, fault| value.filter(|value| !value.is_empty()).ok_or(fault);
        Ok(Self {
            credential: given(credential, HeaderFault::MissingCredential)?,
            signed_headers: given(signed_headers, HeaderFault::MissingSignedHeaders)?,
            signature: given(signature, HeaderFault::MissingSignature)?,
        })
    }
}

impl<'a> Credential<'a> {
    /// Reads from the right, since an access key may hold slashes; then checks each part of the scope.
    fn read(text: &'a str, timestamp: &[u8; 16], scope: &Scope) -> Result<Self, CredentialFault> {
        let mut parts = text.rsplitn(5, '/');
        let mut part = || parts.next().ok_or(CredentialFault::Malformed);
        let (terminator, service, region, date, access_key) = (part()?, part()?, part()?, part()?, part()?);
        if access_key.is_empty() {
            return Err(CredentialFault::Malformed);
        }
        if date.len() != 8 || !date.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(CredentialFault::DateFormat(date.to_owned()));
        }
        if let Some(expected) = scope.region.filter(|expected| *expected != region) {
            return Err(CredentialFault::Region { given: region.to_owned(), expected: expected.to_owned() });
        }
        if service != scope.service.name() {
            return Err(CredentialFault::Service(service.to_owned()));
        }
        if terminator != TERMINATOR {
            return Err(CredentialFault::Terminator(terminator.to_owned()));
        }
        if !timestamp.starts_with(date.as_bytes()) {
            return Err(CredentialFault::DateMismatch);
        }
        Ok(Self { access_key, scope: KeyScope { date, region, service } })
    }
}

/// The region of the scope of a request that was believed; `None` for one without, which is anonymous or of Version 2.
pub fn region_signed_for(authorization: Option<&[u8]>, query: &[u8]) -> Option<String> {
    let mut parameters = Query::default();
    let credential = match authorization {
        Some(authorization) => Components::read(authorization).ok()?.credential,
        None => {
            parameters.read(query).ok()?;
            std::str::from_utf8(parameters.once("X-Amz-Credential").ok()??).ok()?
        }
    };
    credential.rsplit('/').nth(2).map(str::to_owned)
}

/// A parameter that a pre-signed URL must have, once and not empty.
fn required<'a>(query: &'a Query, name: &'static str) -> Result<&'a str, AuthError> {
    let value = query.once(name).map_err(|_| AuthError::QueryMalformed(QueryFault::Repeated(name)))?;
    let value = value.and_then(|value| std::str::from_utf8(value).ok()).filter(|value| !value.is_empty());
    value.ok_or(AuthError::QueryMalformed(QueryFault::MissingParameters))
}

fn read_expires(text: &str) -> Result<u32, QueryFault> {
    // A number too long for its type is a number all the same, and its sign tells which error it is.
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(QueryFault::ExpiresNotNumber);
    }
    if digits.len() < text.len() || digits.bytes().all(|byte| byte == b'0') {
        return Err(QueryFault::ExpiresNotPositive);
    }
    let within = |seconds: &u32| u64::from(*seconds) <= PRESIGN_EXPIRES_MAX_S;
    digits.parse().ok().filter(within).ok_or(QueryFault::ExpiresTooLarge)
}

fn check_lifetime(signed_at: Timestamp, expires_s: u32, now: Timestamp) -> Result<(), AuthError> {
    if signed_at.seconds.saturating_sub(now.seconds) > CLOCK_SKEW_MAX_S as i64 {
        return Err(AuthError::NotYetValid { server_time: now });
    }
    let expired_at = Timestamp::from_seconds(signed_at.seconds + i64::from(expires_s));
    if now > expired_at {
        return Err(AuthError::Expired { expires_s: Some(expires_s), expired_at, server_time: now });
    }
    Ok(())
}

/// A pre-signed URL leaves the payload unsigned unless it says otherwise: the JavaScript SDK names `UNSIGNED-PAYLOAD` in the
/// query, and a header can be signed like any other. Both together must agree, since only one of them is signed as such.
fn presigned_payload<'a>(query: &'a Query, noted: &Noted<'a>) -> Result<&'a [u8], AuthError> {
    const NAME: &str = "X-Amz-Content-Sha256";
    let in_query = query.once(NAME).map_err(|_| AuthError::QueryMalformed(QueryFault::Repeated(NAME)))?;
    match (in_query, noted.content_sha256) {
        (None, Field::Absent) => Ok(UNSIGNED_PAYLOAD),
        (Some(value), Field::Absent) | (None, Field::Once(value)) => Ok(value),
        (Some(value), Field::Once(header)) if value == header => Ok(value),
        (_, Field::Once(value)) => Err(AuthError::InvalidContentSha256(String::from_utf8_lossy(value).into_owned())),
        (_, Field::Repeated) => Err(AuthError::InvalidContentSha256(String::new())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Service;

    fn read(text: &str) -> Result<(String, String, String), AuthError> {
        let components = Components::read(text.as_bytes())?;
        Ok((components.credential.into(), components.signed_headers.into(), components.signature.into()))
    }

    #[test]
    fn components_in_every_spelling_that_clients_use() {
        let expected = ("A/1".to_owned(), "host;x-amz-date".to_owned(), "0f".to_owned());
        for text in [
            "AWS4-HMAC-SHA256 Credential=A/1, SignedHeaders=host;x-amz-date, Signature=0f",
            "AWS4-HMAC-SHA256 Credential=A/1,SignedHeaders=host;x-amz-date,Signature=0f",
            "AWS4-HMAC-SHA256   Signature=0f ,\tSignedHeaders=host;x-amz-date,  Credential=A/1,",
        ] {
            assert_eq!(read(text), Ok(expected.clone()), "{text}");
        }
    }

    #[test]
    fn components_that_are_wrong() {
        let header = |fault| Err(AuthError::HeaderMalformed(fault));
        for (text, expected) in [
            ("", Err(AuthError::EmptyAuthorization)),
            ("AWS AKID:c2ln", Err(AuthError::UnsupportedMechanism)),
            ("AWS4-ECDSA-P256-SHA256 Credential=A/1", Err(AuthError::UnsupportedMechanism)),
            ("Bearer abc", Err(AuthError::UnsupportedAuthorizationType)),
            ("aws4-hmac-sha256 Credential=A/1", Err(AuthError::UnsupportedAuthorizationType)),
            ("AWS4-HMAC-SHA256", header(HeaderFault::MissingCredential)),
            ("AWS4-HMAC-SHA256 Credential=A", header(HeaderFault::MissingSignedHeaders)),
            ("AWS4-HMAC-SHA256 Credential=A,SignedHeaders=host", header(HeaderFault::MissingSignature)),
            ("AWS4-HMAC-SHA256 Credential=A,SignedHeaders=,Signature=0", header(HeaderFault::MissingSignedHeaders)),
            ("AWS4-HMAC-SHA256 Credential=A,Credential=B", header(HeaderFault::Components)),
            ("AWS4-HMAC-SHA256 Credential", header(HeaderFault::Component("Credential".into()))),
            ("AWS4-HMAC-SHA256 Nonce=1", header(HeaderFault::Component("Nonce=1".into()))),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn each_part_of_the_scope_has_its_own_error() {
        let scope =
            Scope { region: Some("us-east-1"), service: Service::S3, now: Timestamp::default(), accepts_version_2: false };
        let fault = |text| Credential::read(text, b"20130524T000000Z", &scope).map(|_| ()).unwrap_err();
        let good = Credential::read("a/b/20130524/us-east-1/s3/aws4_request", b"20130524T000000Z", &scope);
        assert_eq!(good.map(|credential| credential.access_key.to_owned()), Ok("a/b".to_owned()));
        assert_eq!(fault("20130524/us-east-1/s3/aws4_request"), CredentialFault::Malformed);
        assert_eq!(fault("/20130524/us-east-1/s3/aws4_request"), CredentialFault::Malformed);
        assert_eq!(fault("A/2013-5-4/us-east-1/s3/aws4_request"), CredentialFault::DateFormat("2013-5-4".into()));
        assert_eq!(fault("A/20130525/us-east-1/s3/aws4_request"), CredentialFault::DateMismatch);
        let region = CredentialFault::Region { given: "eu-west-1".into(), expected: "us-east-1".into() };
        assert_eq!(fault("A/20130524/eu-west-1/s3/aws4_request"), region);
        assert_eq!(fault("A/20130524/us-east-1/s3tables/aws4_request"), CredentialFault::Service("s3tables".into()));
        assert_eq!(fault("A/20130524/us-east-1/s3/aws5_request"), CredentialFault::Terminator("aws5_request".into()));
    }

    /// Without a region of its own, the server believes any, also none; everything else of the scope is checked as ever.
    #[test]
    fn any_region_where_none_is_expected() {
        let scope = Scope { region: None, service: Service::S3, now: Timestamp::default(), accepts_version_2: false };
        let read =
            |text| Credential::read(text, b"20130524T000000Z", &scope).map(|credential| credential.scope.region.to_owned());
        for region in ["us-east-1", "eu-west-1", "", "auto", "garage", "\u{fc}"] {
            let text = format!("A/20130524/{region}/s3/aws4_request");
            assert_eq!(
                Credential::read(&text, b"20130524T000000Z", &scope).map(|it| it.scope.region.to_owned()),
                Ok(region.to_owned())
            );
        }
        assert_eq!(read("A/20130524/x/s3tables/aws4_request"), Err(CredentialFault::Service("s3tables".into())));
        assert_eq!(read("A/20130525/x/s3/aws4_request"), Err(CredentialFault::DateMismatch));
        assert_eq!(read("A/20130524/s3/aws4_request"), Err(CredentialFault::Malformed));
    }

    #[test]
    fn the_region_is_found_again() {
        let header = b"AWS4-HMAC-SHA256 Credential=a/b/20130524/eu-west-1/s3/aws4_request,SignedHeaders=host,Signature=0";
        assert_eq!(region_signed_for(Some(header), b"").as_deref(), Some("eu-west-1"));
        let query = b"a=b&x-amz-credential=A%2F20130524%2Fauto%2Fs3%2Faws4_request";
        assert_eq!(region_signed_for(None, query).as_deref(), Some("auto"));
        assert_eq!(region_signed_for(None, b"X-Amz-Credential=A%2F20130524%2F%2Fs3%2Faws4_request").as_deref(), Some(""));
        assert_eq!(region_signed_for(None, b"X-Amz-Credential=A&X-Amz-Credential=A/1/r/s3/aws4_request"), None);
        for (header, query) in [(Some(&b"AWS A:c2ln"[..]), &b""[..]), (None, b"AWSAccessKeyId=A"), (None, b"%"), (None, b"")] {
            assert_eq!(region_signed_for(header, query), None);
        }
    }

    #[test]
    fn lifetimes_of_pre_signed_urls() {
        for (text, expected) in [
            ("1", Ok(1)),
            ("604800", Ok(604_800)),
            ("0", Err(QueryFault::ExpiresNotPositive)),
            ("-1", Err(QueryFault::ExpiresNotPositive)),
            ("-99999999999999999999", Err(QueryFault::ExpiresNotPositive)),
            ("604801", Err(QueryFault::ExpiresTooLarge)),
            ("99999999999999999999", Err(QueryFault::ExpiresTooLarge)),
            ("+5", Err(QueryFault::ExpiresNotNumber)),
            ("1.5", Err(QueryFault::ExpiresNotNumber)),
            ("-", Err(QueryFault::ExpiresNotNumber)),
        ] {
            assert_eq!(read_expires(text), expected, "{text}");
        }
        let at = Timestamp::from_seconds;
        assert_eq!(check_lifetime(at(1000), 60, at(1060)), Ok(()));
        let expired = AuthError::Expired { expires_s: Some(60), expired_at: at(1060), server_time: at(1061) };
        assert_eq!(check_lifetime(at(1000), 60, at(1061)), Err(expired));
        assert_eq!(check_lifetime(at(1000), 60, at(100)), Ok(()));
        assert_eq!(check_lifetime(at(1000), 60, at(99)), Err(AuthError::NotYetValid { server_time: at(99) }));
    }
}
