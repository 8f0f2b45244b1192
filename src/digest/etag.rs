//! What an object's ETag is, and whether a client's text names it.
//!
//! | object | ETag |
//! |---|---|
//! | one upload | MD5 of the bytes, 32 hexadecimal digits |
//! | multipart | MD5 of the parts' binary MD5s, `-`, number of parts |
//! | a file whose record is missing or void | 32 digits that stand for inode, size and times, `-0` |
//!
//! Clients take 32 bare digits for the MD5 of the content and compare it (rclone, s3cmd, the Java SDK v1); a `-` tells all of
//! them that it is opaque. `-0` because no upload has no parts: it can neither collide with a true ETag nor be taken for the
//! digest of a multipart upload and be recomputed, and still has the shape that clients' patterns expect.

use super::md5::Md5;
use crate::base::hex;
use crate::base::time::Timestamp;
use crate::limits::PART_NUMBER_MAX;
use std::io::Write;

/// An ETag of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ETag {
    /// The MD5 of the object's bytes.
    Md5([u8; 16]),
    /// Of a multipart upload.
    Multipart {
        /// MD5 of the parts' MD5s.
        md5: [u8; 16],
        /// How many parts, at least 1.
        parts: u32,
    },
    /// Of a file whose content nobody has digested.
    Synthetic([u8; 16]),
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    pub inode: u64,
    pub size: u64,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
}

/// How to compare entity tags (RFC 9110 section 8.8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// For `If-Match` and `If-Range`: a weak tag equals nothing.
    Strong,
    /// For `If-None-Match`.
    Weak,
}

/// Characters of the longest ETag, without quotes: any `u32` behind the `-`.
pub const SIZE_MAX: usize = 32 + 1 + 10;

impl ETag {
    /// The ETag of a multipart object from the MD5s of its parts. `None` without parts, or with more than S3 allows.
    pub fn multipart(parts: impl IntoIterator<Item = [u8; 16]>) -> Option<Self> {
        let mut md5 = Md5::new();
        let mut count = 0;
        for part in parts {
            md5.update(&part);
            count += 1;
        }
        (1..=PART_NUMBER_MAX).contains(&count).then(|| Self::Multipart { md5: md5.finish(), parts: count })
    }

    /// The ETag of a file by its state. While its bytes may become others without another state, give a `nonce` that was never given
    /// before.
    pub fn synthetic(state: &FileState, nonce: Option<u64>) -> Self {
        let mut md5 = Md5::new();
        md5.update(b"sluice synthetic ETag 1\0");
        for number in [state.inode, state.size] {
            md5.update(&number.to_le_bytes());
        }
        for time in [state.mtime, state.ctime] {
            md5.update(&time.seconds.to_le_bytes());
            md5.update(&time.nanoseconds.to_le_bytes());
        }
        if let Some(nonce) = nonce {
            md5.update(&nonce.to_le_bytes());
        }
        Self::Synthetic(md5.finish())
    }

    /// Reads an ETag of ours, with or without quotes and `W/`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (opaque, _) = unquote(text);
        let (digits, suffix) = opaque.split_at_checked(32)?;
        let md5 = digits.iter().all(|byte| !byte.is_ascii_uppercase()).then(|| hex::decode(digits))??;
        match suffix {
            b"" => Some(Self::Md5(md5)),
            b"-0" => Some(Self::Synthetic(md5)),
            _ => Some(Self::Multipart { md5, parts: parse_part_count(suffix.strip_prefix(b"-")?)? }),
        }
    }

    /// Whether one entity tag of a client's `If-Match`, `If-None-Match`, `If-Range`, `x-amz-copy-source-if-*` or of
    /// Complete's XML is this one. SDKs send it with and without quotes. `*` is the caller's.
    pub fn matches(&self, text: &[u8], comparison: Comparison) -> bool {
        let (_, is_weak) = unquote(text);
        (comparison == Comparison::Weak || !is_weak) && Self::parse(text).as_ref() == Some(self)
    }

    /// Appends it without quotes.
    pub fn write_into(&self, out: &mut Vec<u8>) {
        let mut text = [0; SIZE_MAX];
        out.extend_from_slice(self.text(&mut text).as_bytes());
    }

    /// Appends it in quotes, as headers and XML carry it.
    pub fn write_quoted_into(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        self.write_into(out);
        out.push(b'"');
    }

    fn text<'a>(&self, text: &'a mut [u8; SIZE_MAX]) -> &'a str {
        let (digest, parts) = match self {
            Self::Md5(digest) => (digest, None),
            Self::Multipart { md5, parts } => (md5, Some(*parts)),
            Self::Synthetic(digest) => (digest, Some(0)),
        };
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(digest) {
            *pair = [b"0123456789abcdef"[usize::from(byte >> 4)], b"0123456789abcdef"[usize::from(byte & 15)]];
        }
        let mut rest = &mut text[32..];
        if let Some(parts) = parts {
            // Any `u32` fits.
            let _ = write!(rest, "-{parts}");
        }
        let size = SIZE_MAX - rest.len();
        std::str::from_utf8(&text[..size]).unwrap_or_default()
    }
}

impl std::fmt::Display for ETag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text(&mut [0; SIZE_MAX]))
    }
}

/// The opaque part of an entity tag and whether it was marked weak.
fn unquote(text: &[u8]) -> (&[u8], bool) {
    let text = text.trim_ascii();
    let (text, is_weak) = text.strip_prefix(b"W/").map_or((text, false), |text| (text, true));
    let opaque = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
    (opaque.unwrap_or(text), is_weak)
}

/// Reads the `N` behind the `-` of a multipart ETag or composite checksum, in its one spelling.
pub(super) fn parse_part_count(digits: &[u8]) -> Option<u32> {
    if !(1..=5).contains(&digits.len()) || digits[0] == b'0' || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0, |count, digit| count * 10 + u32::from(digit - b'0'));
    (count <= PART_NUMBER_MAX).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "5d41402abc4b2a76b9719d911017c592";

    #[test]
    fn the_three_forms() {
        assert_eq!(ETag::Md5(Md5::of(b"hello")).to_string(), HELLO);
        // printf %s "$(md5 a)$(md5 b)" in binary, digested again: what S3 answers for parts `a` and `b`.
        let multipart = ETag::multipart([Md5::of(b"a"), Md5::of(b"b")]).unwrap();
        let joined = [Md5::of(b"a"), Md5::of(b"b")].concat();
        assert_eq!(multipart.to_string(), format!("{}-2", hex::encode(&Md5::of(&joined))));
        let synthetic = ETag::synthetic(&state(), None).to_string();
        assert!(synthetic.ends_with("-0") && synthetic.len() == 34);
        assert_eq!(ETag::multipart([]), None);
        assert_eq!(ETag::multipart([[0; 16]; 10_001]), None);
        assert!(ETag::multipart([[0; 16]; 10_000]).unwrap().to_string().ends_with("-10000"));
    }

    #[test]
    fn text_and_back() {
        for etag in [
            ETag::Md5([0xab; 16]),
            ETag::Synthetic([1; 16]),
            ETag::Multipart { md5: [2; 16], parts: 1 },
            ETag::Multipart { md5: [2; 16], parts: 10_000 },
        ] {
            let mut quoted = Vec::new();
            etag.write_quoted_into(&mut quoted);
            assert_eq!(ETag::parse(&quoted), Some(etag));
            assert_eq!(ETag::parse(etag.to_string().as_bytes()), Some(etag));
            assert_eq!(quoted, format!("\"{etag}\"").as_bytes());
        }
        for foreign in ["", "\"", "*", "abc", "\"5d41402abc4b2a76b9719d911017c59\"", "5d41402abc4b2a76b9719d911017c592-"] {
            assert_eq!(ETag::parse(foreign.as_bytes()), None, "{foreign}");
        }
        for suffix in ["-00", "-01", "-10001", "-99999999999", "-x", "x", "-1-1"] {
            assert_eq!(ETag::parse(format!("{HELLO}{suffix}").as_bytes()), None, "{suffix}");
        }
        assert_eq!(ETag::parse(HELLO.to_uppercase().as_bytes()), None);
    }

    #[test]
    fn comparison_of_rfc_9110_section_8_8_3_2() {
        let etag = ETag::Md5(Md5::of(b"hello"));
        for text in [HELLO.to_string(), format!("\"{HELLO}\""), format!(" \"{HELLO}\" ")] {
            assert!(etag.matches(text.as_bytes(), Comparison::Strong), "{text}");
            assert!(etag.matches(text.as_bytes(), Comparison::Weak), "{text}");
        }
        let weak = format!("W/\"{HELLO}\"");
        assert!(etag.matches(weak.as_bytes(), Comparison::Weak));
        assert!(!etag.matches(weak.as_bytes(), Comparison::Strong));
        for text in [format!("\"{HELLO}-1\""), format!("\"{HELLO}-0\""), "*".to_string(), "\"\"".to_string()] {
            assert!(!etag.matches(text.as_bytes(), Comparison::Weak), "{text}");
        }
    }

    #[test]
    fn a_synthetic_etag_changes_with_anything() {
        let base = state();
        let later = Timestamp { seconds: 1000, nanoseconds: 6 };
        let states = [
            base,
            FileState { inode: 8, ..base },
            FileState { size: 8, ..base },
            FileState { mtime: later, ..base },
            FileState { ctime: later, ..base },
        ];
        let mut etags: Vec<String> = states.iter().map(|state| ETag::synthetic(state, None).to_string()).collect();
        etags.extend([0, 1].map(|nonce| ETag::synthetic(&base, Some(nonce)).to_string()));
        let count = etags.len();
        etags.sort();
        etags.dedup();
        assert_eq!(etags.len(), count);
        assert_eq!(ETag::synthetic(&base, None), ETag::synthetic(&base.clone(), None));
    }

    fn state() -> FileState {
        let time = Timestamp { seconds: 1000, nanoseconds: 5 };
        FileState { inode: 7, size: 7, mtime: time, ctime: time }
    }
}
