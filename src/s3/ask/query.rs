//! The query of a request, decoded.

use std::borrow::Cow;

use super::error::{Code, S3Error};

/// The decoded query.
#[derive(Default)]
pub struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    /// Decodes `raw`, what follows the `?`. The parameters of a signature are `auth`'s, and left out: a pre-signed URL has
    /// little else.
    pub fn parse(raw: Option<&'a [u8]>) -> Result<Self, S3Error> {
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
    pub fn value(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_ref())
    }

    /// Names and values.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
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
    is_amz(name) && SIGNATURE_PARAMETERS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether a header or parameter is one of S3's own.
pub fn is_amz(name: &[u8]) -> bool {
    name.len() > 6 && name[..6].eq_ignore_ascii_case(b"x-amz-")
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
