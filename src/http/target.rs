//! The request target, RFC 9112 section 3.2: path and query stay percent-encoded, as signatures need them.

use super::framing::is_host;
use super::head::{HeadError, Span, Target};
use crate::base::percent;
use crate::limits;
use std::borrow::Cow;

/// Takes `target` apart: `/path?query`, `http://authority/path?query`, or `*` for OPTIONS. We are no proxy: the authority
/// form of CONNECT is refused.
pub(super) fn split(target: Span, bytes: &[u8], method: &[u8]) -> Result<Target, HeadError> {
    let text = target.of(bytes);
    let path_start = match text.first() {
        Some(b'/') => 0,
        Some(b'*') if text.len() == 1 && method == b"OPTIONS" => 0,
        _ => after_authority(text)?,
    };
    let authority_start = text[..path_start].windows(3).position(|three| three == b"://").map(|at| at + 3);
    let path_end = text[path_start..].iter().position(|&byte| byte == b'?').map_or(text.len(), |at| path_start + at);
    let query = (path_end < text.len()).then(|| target.part(path_end + 1, text.len()));
    if query.is_some_and(|query| query_pairs(query.of(bytes)).nth(limits::QUERY_COUNT_MAX).is_some()) {
        return Err(HeadError::TooManyParameters);
    }
    Ok(Target {
        path: target.part(path_start, path_end),
        query,
        authority: authority_start.map(|start| target.part(start, path_start)),
    })
}

/// Where the path of an absolute form begins. User information in an authority is refused (RFC 9110 section 4.2.4).
fn after_authority(text: &[u8]) -> Result<usize, HeadError> {
    let colon = text.iter().position(|&byte| byte == b':').ok_or(HeadError::BadTarget)?;
    let (scheme, rest) = text.split_at(colon);
    let scheme_known = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    let authority = rest.strip_prefix(b"://").filter(|_| scheme_known).ok_or(HeadError::BadTarget)?;
    let size = authority.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(authority.len());
    if !is_host(&authority[..size]) {
        return Err(HeadError::BadTarget);
    }
    Ok(colon + 3 + size)
}

/// The parameters of a raw query, in order and undecoded: the name and, when there is a `=`, the value. `?acl` gives
/// `(acl, None)`, `?acl=` gives `(acl, Some(""))`; for S3 both name the sub-resource. Empty pieces (`a&&b`) are passed over.
pub fn query_pairs(query: &[u8]) -> QueryPairs<'_> {
    QueryPairs { rest: Some(query) }
}

/// See `query_pairs`.
#[derive(Clone, Debug)]
pub struct QueryPairs<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for QueryPairs<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (piece, rest) = cut(self.rest?, b'&');
            self.rest = rest;
            if !piece.is_empty() {
                return Some(cut(piece, b'='));
            }
        }
    }
}

/// A name or value of a query as it is meant: percent-decoded, and `+` is a space, as in S3 and all its servers that use
/// their language's form decoder (a `+` itself comes as `%2B`). In a path `+` means itself. `None` for a broken escape.
pub fn decode_query(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return percent::decode(text, true).map(Cow::Owned);
    }
    Some(Cow::Borrowed(text))
}

fn cut(text: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|&byte| byte == separator) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_with_and_without_equals_sign() {
        let pairs: Vec<_> = query_pairs(b"acl&uploads=&&prefix=a%20b=c&=x&").collect();
        let expected: [(&[u8], Option<&[u8]>); 4] =
            [(b"acl", None), (b"uploads", Some(b"")), (b"prefix", Some(b"a%20b=c")), (b"", Some(b"x"))];
        assert_eq!(pairs, expected);
        assert_eq!(query_pairs(b"").count(), 0);
    }

    #[test]
    fn plus_is_a_space_only_where_it_is_not_escaped() {
        assert_eq!(decode_query(b"a+b%2Bc").as_deref(), Some(&b"a b+c"[..]));
        assert!(matches!(decode_query(b"plain"), Some(Cow::Borrowed(b"plain"))));
        assert_eq!(decode_query(b"%"), None);
        assert_eq!(decode_query(b"%G0"), None);
    }
}
