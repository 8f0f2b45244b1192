//! Percent coding as S3 signs it: everything but `A-Z a-z 0-9 - . _ ~` is encoded, upper-case digits
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>, `UriEncode`).

use super::hex;

/// Appends `bytes` percent-encoded. `/` stays when `keep_slash` (a path), and is `%2F` otherwise (a query).
pub fn encode_into(out: &mut Vec<u8>, bytes: &[u8], keep_slash: bool) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.reserve(bytes.len());
    let mut rest = bytes;
    // Whole runs at once: nearly all of what is signed needs no escape.
    loop {
        let is_plain = |byte: u8| PLAIN[usize::from(byte)] || (keep_slash && byte == b'/');
        let run = rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len());
        let (plain, tail) = rest.split_at(run);
        out.extend_from_slice(plain);
        let Some((&byte, tail)) = tail.split_first() else { return };
        out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        rest = tail;
    }
}

/// `bytes` percent-encoded, as text.
pub fn encode(bytes: &[u8], keep_slash: bool) -> String {
    let mut out = Vec::with_capacity(bytes.len() + 16);
    encode_into(&mut out, bytes, keep_slash);
    out.into_iter().map(char::from).collect()
}

/// `text` decoded; `plus_is_space` as in the query of an HTML form. `None` for a `%` without two digits.
pub fn decode(text: &[u8], plus_is_space: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'%' => {
                let (&[high, low], tail) = rest.split_first_chunk::<2>()?;
                out.push(hex::digit(high)? << 4 | hex::digit(low)?);
                rest = tail;
            }
            b'+' if plus_is_space => out.push(b' '),
            _ => out.push(byte),
        }
    }
    Some(out)
}

/// Whether RFC 3986 section 2.3 calls this byte unreserved.
pub const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether no byte would be encoded, nor means another when it is decoded.
pub fn is_all_unreserved(text: &[u8]) -> bool {
    // No early end: eight or more bytes are then looked at in one step.
    text.iter().fold(true, |all, &byte| all & PLAIN[usize::from(byte)])
}

/// `is_unreserved` of each byte.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        plain[byte] = is_unreserved(byte as u8);
        byte += 1;
    }
    plain
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_real_clients() {
        assert_eq!(encode("a b/(ü)+~".as_bytes(), true), "a%20b/%28%C3%BC%29%2B~");
        assert_eq!(encode(b"a/b", false), "a%2Fb");
        assert_eq!(decode(b"a%20b+c", false), Some(b"a b+c".to_vec()));
        assert_eq!(decode(b"a%20b+c", true), Some(b"a b c".to_vec()));
        assert_eq!(decode(b"%2", false), None);
        assert_eq!(decode(b"%zz", false), None);
    }
}
