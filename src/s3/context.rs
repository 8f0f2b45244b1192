//! One request, understood: who asks what of which object.

use std::borrow::Cow;

use super::address::Address;
use super::error::{Code, S3Error};
use super::operation::Route;
use super::service::Core;
use crate::auth;
use crate::base::principal::Principal;
use crate::http::Request;

/// What a verb knows of its request.
pub(super) struct Context<'a> {
    pub(super) core: &'a Core,
    /// What the operator allows.
    pub(super) bounds: Bounds,
    /// Who owns what is made here.
    pub(super) owner: &'a Principal,
    pub(super) request: Request<'a>,
    pub(super) query: &'a Query<'a>,
    pub(super) address: &'a Address,
    pub(super) route: &'static Route,
    pub(super) payload: auth::Payload,
    /// It is a pre-signed URL: SDKs move `x-amz-*` headers into its query.
    pub(super) is_presigned: bool,
}

/// Sizes that the operator may set.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) put_size_max: u64,
    pub(super) xml_size_max: usize,
}

/// The decoded query.
#[derive(Default)]
pub(super) struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl Context<'_> {
    /// The bucket; every route of the levels Bucket and Object has one.
    pub(super) fn bucket(&self) -> &str {
        self.address.bucket.as_deref().unwrap_or_default()
    }

    /// The key; every route of the level Object has one.
    pub(super) fn key(&self) -> &str {
        self.address.key.as_deref().unwrap_or_default()
    }

    /// A header that must come at most once and in UTF-8.
    pub(super) fn header(&self, name: &'static str) -> Result<Option<&str>, S3Error> {
        match self.request.header_bytes(name) {
            None => Ok(None),
            Some(value) => std::str::from_utf8(value)
                .map(Some)
                .map_err(|_| S3Error::invalid_argument(name, &String::from_utf8_lossy(value), "The header is not UTF-8")),
        }
    }

    /// A header of S3's own, or the parameter in its place in a pre-signed URL. Given more than once it must say one thing.
    pub(super) fn amz_header(&self, name: &'static str) -> Result<Option<&str>, S3Error> {
        let linked = self.linked().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        let mut values = self.header(name)?.into_iter().chain(linked);
        let first = values.next();
        match values.find(|value| Some(*value) != first) {
            Some(other) => Err(S3Error::invalid_argument(name, other, "The value contradicts another one of the same name")),
            None => Ok(first),
        }
    }

    /// What stands in the query of a pre-signed URL, and nothing for any other request.
    pub(super) fn linked(&self) -> impl Iterator<Item = (&str, &str)> {
        self.query.pairs().filter(|_| self.is_presigned)
    }

    /// `versionId`: there are no versions yet, so the only one is `null`.
    pub(super) fn check_version(&self) -> Result<(), S3Error> {
        match self.query.value("versionId") {
            None | Some("null") => Ok(()),
            Some(version) => Err(S3Error::no_such_version(self.key(), version)),
        }
    }
}

impl<'a> Query<'a> {
    /// Decodes `raw`, what follows the `?`. The parameters of a signature are `auth`'s, and left out: a pre-signed URL has
    /// little else.
    pub(super) fn parse(raw: Option<&'a [u8]>) -> Result<Self, S3Error> {
        let mut pairs = Vec::new();
        for (name, value) in crate::http::query_pairs(raw.unwrap_or_default()) {
            if is_of_signature(name) {
                continue;
            }
            pairs.push((text(name)?, text(value.unwrap_or_default())?));
        }
        Ok(Self { pairs })
    }

    /// The first value of `name`.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_ref())
    }

    /// Names and values.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

const SIGNATURE_PARAMETERS: [&[u8]; 8] = [
    b"x-amz-algorithm",
    b"x-amz-content-sha256",
    b"x-amz-credential",
    b"x-amz-date",
    b"x-amz-expires",
    b"x-amz-security-token",
    b"x-amz-signature",
    b"x-amz-signedheaders",
];

fn is_of_signature(name: &[u8]) -> bool {
    let is_amz = name.len() > 6 && name[..6].eq_ignore_ascii_case(b"x-amz-");
    is_amz && SIGNATURE_PARAMETERS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn text(raw: &[u8]) -> Result<Cow<'_, str>, S3Error> {
    let invalid = || S3Error::new(Code::InvalidURI);
    match crate::http::decode_query(raw).ok_or_else(invalid)? {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| invalid()),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_not_among_what_a_verb_is_asked() {
        let raw = b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2Fb&X-Amz-Date=1&X-Amz-Expires=60&X-Amz-SignedHeaders=host\
            &x-amz-signature=0&X-Amz-Security-Token=t&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD&partNumber=1&X-Amz-Acl=a%20b&versionId";
        let query = Query::parse(Some(raw)).unwrap();
        let pairs: Vec<_> = query.pairs().collect();
        assert_eq!(pairs, [("partNumber", "1"), ("X-Amz-Acl", "a b"), ("versionId", "")]);
        assert!(Query::parse(Some(b"prefix=%ff")).is_err() && Query::parse(Some(b"prefix=%")).is_err());
    }
}
