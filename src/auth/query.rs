//! The query of a request, taken apart once: in canonical form for the signature, and searched for a pre-signed URL's
//! parameters.

use std::ops::Range;

use crate::base::hex::digit;
use crate::base::percent;

/// A `%` that two hexadecimal digits do not follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadEscape;

/// A parameter that may be given once was given more often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Repeated;

/// The parameters, in two buffers that are reused from request to request. Their size is bounded by the request target's.
#[derive(Debug, Default)]
pub(super) struct Query {
    decoded: Vec<u8>,
    encoded: Vec<u8>,
    pairs: Vec<Pair>,
}

/// Where one parameter lies. Names that we look for have no character that is ever encoded, so that they are compared in
/// their encoded form.
#[derive(Debug)]
struct Pair {
    name: Range<usize>,
    value: Range<usize>,
    value_decoded: Range<usize>,
}

impl Query {
    /// Decodes each name and value and encodes it again as S3 does, since clients differ in what they escape (opendal sends
    /// `delimiter=/`). A `+` is a space, as in the query parser above: were it signed as one thing and served as another,
    /// a signature would cover a different request. Go's and Rust's signers read it like this, too.
    pub(super) fn read(&mut self, query: &[u8]) -> Result<(), BadEscape> {
        self.decoded.clear();
        self.encoded.clear();
        self.pairs.clear();
        for text in query.split(|byte| *byte == b'&').filter(|text| !text.is_empty()) {
            // A flag without `=` has the empty value: `?uploads` is signed as `uploads=`.
            let equals = text.iter().position(|byte| *byte == b'=').unwrap_or(text.len());
            let (name, _) = self.recode(&text[..equals])?;
            let (value, value_decoded) = self.recode(text.get(equals + 1..).unwrap_or_default())?;
            self.pairs.push(Pair { name, value, value_decoded });
        }
        Ok(())
    }

    fn recode(&mut self, text: &[u8]) -> Result<(Range<usize>, Range<usize>), BadEscape> {
        let (encoded_from, decoded_from) = (self.encoded.len(), self.decoded.len());
        // Nearly all are their own canonical form.
        if percent::is_all_unreserved(text) {
            self.encoded.extend_from_slice(text);
            self.decoded.extend_from_slice(text);
            return Ok((encoded_from..self.encoded.len(), decoded_from..self.decoded.len()));
        }
        decode_into(&mut self.decoded, text, true)?;
        percent::encode_into(&mut self.encoded, &self.decoded[decoded_from..], false);
        Ok((encoded_from..self.encoded.len(), decoded_from..self.decoded.len()))
    }

    /// Whether a parameter of this name is there. The names of authentication parameters are found in any case, so that
    /// no spelling slips past the checks.
    pub(super) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|pair| self.is_named(pair, name))
    }

    /// The names, encoded.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.pairs.iter().map(|pair| &self.encoded[pair.name.clone()])
    }

    /// The decoded value of a parameter that may be given once.
    pub(super) fn once(&self, name: &str) -> Result<Option<&[u8]>, Repeated> {
        self.single(|pair| self.is_named(pair, name))
    }

    /// The same for a parameter that the verbs read, which is found only as it is spelled: what is signed under one name must
    /// not be served under another.
    pub(super) fn once_as_spelled(&self, name: &str) -> Result<Option<&[u8]>, Repeated> {
        self.single(|pair| self.encoded[pair.name.clone()] == *name.as_bytes())
    }

    fn single(&self, is_meant: impl Fn(&Pair) -> bool) -> Result<Option<&[u8]>, Repeated> {
        let mut found = self.pairs.iter().filter(|pair| is_meant(pair));
        match (found.next(), found.next()) {
            (Some(pair), None) => Ok(Some(&self.decoded[pair.value_decoded.clone()])),
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(Repeated),
        }
    }

    fn is_named(&self, pair: &Pair, name: &str) -> bool {
        self.encoded[pair.name.clone()].eq_ignore_ascii_case(name.as_bytes())
    }

    /// Puts the parameters into the order of the canonical request: by encoded name, then by encoded value.
    pub(super) fn sort(&mut self) {
        let encoded = &self.encoded;
        let texts = |pair: &Pair| (&encoded[pair.name.clone()], &encoded[pair.value.clone()]);
        self.pairs.sort_unstable_by(|a, b| texts(a).cmp(&texts(b)));
    }

    /// Appends the canonical query: all parameters but the signature itself.
    pub(super) fn write_canonical(&self, out: &mut Vec<u8>) {
        let signed = self.pairs.iter().filter(|pair| !self.is_named(pair, "X-Amz-Signature"));
        for (index, pair) in signed.enumerate() {
            if index > 0 {
                out.push(b'&');
            }
            out.extend_from_slice(&self.encoded[pair.name.clone()]);
            out.push(b'=');
            out.extend_from_slice(&self.encoded[pair.value.clone()]);
        }
    }
}

/// Appends `text` decoded. `base::percent::decode` does the same into a buffer of its own.
pub(super) fn decode_into(out: &mut Vec<u8>, text: &[u8], plus_is_space: bool) -> Result<(), BadEscape> {
    let mut rest = text;
    loop {
        let is_escape = |byte: &u8| *byte == b'%' || (plus_is_space && *byte == b'+');
        let run = rest.iter().position(is_escape).unwrap_or(rest.len());
        let (plain, tail) = rest.split_at(run);
        out.extend_from_slice(plain);
        let Some((&byte, tail)) = tail.split_first() else { return Ok(()) };
        if byte == b'+' {
            out.push(b' ');
            rest = tail;
        } else {
            let (&[high, low], tail) = tail.split_first_chunk::<2>().ok_or(BadEscape)?;
            out.push(digit(high).ok_or(BadEscape)? << 4 | digit(low).ok_or(BadEscape)?);
            rest = tail;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        let mut query = Query::default();
        query.read(text.as_bytes()).unwrap();
        query.sort();
        let mut out = Vec::new();
        query.write_canonical(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_form_for_all_spellings() {
        for (sent, signed) in [
            ("", ""),
            ("uploads", "uploads="),
            ("uploads=", "uploads="),
            ("delimiter=/&prefix=a b", "delimiter=%2F&prefix=a%20b"),
            ("prefix=a+b", "prefix=a%20b"),
            ("prefix=a%2Bb", "prefix=a%2Bb"),
            ("prefix=%c3%bc(1)", "prefix=%C3%BC%281%29"),
            ("b=2&a=1&&", "a=1&b=2"),
            // Values order repeated names, and the encoded form is what is compared: `%2B` sorts before `a`.
            ("a=b&a=%2b&a=a", "a=%2B&a=a&a=b"),
            // `-` sorts before `=` would, were the pairs compared as whole texts.
            ("a=1&a-b=0", "a=1&a-b=0"),
            ("list-type=2&X-Amz-Signature=00", "list-type=2"),
            ("x=a=b", "x=a%3Db"),
        ] {
            assert_eq!(canonical(sent), signed, "{sent}");
        }
    }

    #[test]
    fn broken_escapes_are_refused() {
        for text in ["a=%", "a=%2", "%zz=1", "a=%g0"] {
            assert_eq!(Query::default().read(text.as_bytes()), Err(BadEscape), "{text}");
        }
    }

    #[test]
    fn parameters_are_found_decoded_and_only_once() {
        let mut query = Query::default();
        query.read(b"x-amz-credential=A%2F2013&X-Amz-Date=1&X-Amz-Date=2&flag").unwrap();
        assert_eq!(query.once("X-Amz-Credential"), Ok(Some(&b"A/2013"[..])));
        assert_eq!(query.once("X-Amz-Date"), Err(Repeated));
        assert_eq!(query.once("X-Amz-Expires"), Ok(None));
        assert!(query.has("flag") && !query.has("fla"));
        query.read(b"").unwrap();
        assert!(!query.has("flag"));
    }
}
