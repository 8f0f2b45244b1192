//! What stands in a document's file? Two lines: what is said of it, and itself.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::DocumentError;
use crate::base::hex;
use crate::digest::Algorithm;
use crate::digest::checksum::Hasher;
use crate::limits::DOCUMENT_SIZE_MAX;

const FORMAT: u32 = 1;

/// Which state of a document it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generation {
    /// Random: one of the same name that is made after this was removed is another.
    pub incarnation: u64,
    /// How often it was written since.
    pub number: u64,
}

/// What is said of a document, in front of it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    /// Which life of the document it is, random, and how often it was written in it.
    incarnation: String,
    number: u64,
    /// CRC-32C of the line that follows.
    crc32c: String,
}

/// The file of a document; `None` for what is no JSON, or larger than one may be.
pub(super) fn encode<T: Serialize>(content: &T, generation: Generation) -> Option<Vec<u8>> {
    let body = serde_json::to_string(content).ok()?;
    let incarnation = format!("{:016x}", generation.incarnation);
    let head = Head { format: FORMAT, incarnation, number: generation.number, crc32c: crc_of(body.as_bytes()) };
    let bytes = format!("{}\n{body}\n", serde_json::to_string(&head).ok()?).into_bytes();
    (bytes.len() as u64 <= DOCUMENT_SIZE_MAX).then_some(bytes)
}

/// What is in the file, and which state of it that is.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, Generation), DocumentError> {
    if bytes.len() as u64 > DOCUMENT_SIZE_MAX {
        return Err(DocumentError::Damaged);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| DocumentError::Damaged)?;
    let (head, body) = text.split_once('\n').ok_or(DocumentError::Damaged)?;
    let body = body.strip_suffix('\n').ok_or(DocumentError::Damaged)?;
    // Before anything else of it: a later format may have other fields.
    let format = serde_json::from_str::<serde_json::Value>(head).ok().and_then(|head| head.get("format")?.as_u64());
    if format.ok_or(DocumentError::Damaged)? > u64::from(FORMAT) {
        return Err(DocumentError::Newer);
    }
    let head: Head = serde_json::from_str(head).map_err(|_| DocumentError::Damaged)?;
    if head.crc32c != crc_of(body.as_bytes()) {
        return Err(DocumentError::Damaged);
    }
    let incarnation = hex::decode(head.incarnation.as_bytes()).map(u64::from_be_bytes).ok_or(DocumentError::Damaged)?;
    let content = serde_json::from_str(body).map_err(|_| DocumentError::Damaged)?;
    Ok((content, Generation { incarnation, number: head.number }))
}

/// CRC-32C in hexadecimal digits.
pub(super) fn crc_of(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(Algorithm::Crc32c);
    hasher.update(bytes);
    hex::encode(hasher.finish().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Content {
        name: String,
        number: u32,
    }

    const GENERATION: Generation = Generation { incarnation: 9, number: 3 };

    fn content() -> Content {
        Content { name: "a\n\u{fc}\"b".into(), number: 7 }
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_damage() {
        let bytes = encode(&content(), GENERATION).unwrap();
        assert_eq!(decode(&bytes), Ok((content(), GENERATION)));
        for at in 0..bytes.len() {
            assert!(decode::<Content>(&bytes[..at]).is_err(), "cut at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let read = decode::<Content>(&changed);
            // Who it is, and how often it was written, is not of its content.
            let is_head = at < bytes.iter().position(|byte| *byte == b'\n').unwrap();
            let is_content = read.as_ref().is_ok_and(|(read, _)| *read == content());
            assert!(read.is_err() || (is_head && is_content), "{}", String::from_utf8_lossy(&changed));
        }
        for text in ["", "\n", "{}\n{}\n", "{\"format\":1}\n{}\n", "[]\n[]\n"] {
            assert_eq!(decode::<Content>(text.as_bytes()), Err(DocumentError::Damaged), "{text:?}");
        }
        assert_eq!(decode::<Content>(b"{\"format\":2,\"x\":[]}\nbinary"), Err(DocumentError::Damaged));
        assert_eq!(decode::<Content>(b"{\"format\":2,\"x\":[]}\nbinary\n"), Err(DocumentError::Newer));
    }

    #[test]
    fn what_is_too_large_to_be_read_is_not_written() {
        let large = Content { name: "x".repeat(DOCUMENT_SIZE_MAX as usize), number: 0 };
        assert!(encode(&large, GENERATION).is_none());
    }
}
