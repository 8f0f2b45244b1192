//! S3's additional checksums: their names, the values on the wire, and what a multipart upload makes of its parts' values
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>).

use super::crc::Crc;
use super::sha256::Sha256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use std::io::Write;

/// The algorithms that we compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// CRC-32/ISO-HDLC.
    Crc32,
    /// CRC-32/ISCSI, Castagnoli's.
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// Why a text names none of our algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// S3 has it since 2026 and we have not; the name is as S3 spells it, for the answer.
    Unsupported(&'static str),
    /// Nobody has it.
    Unknown,
}

/// How the checksum of a multipart object relates to its parts (`x-amz-checksum-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The checksum of the parts' checksums, written with `-` and their number.
    Composite,
    /// The checksum of all bytes, as if it had been one upload.
    FullObject,
}

const HEADER_PREFIX: &str = "x-amz-checksum-";

/// Bytes of the longest value that S3 has: that of SHA-512.
pub const VALUE_SIZE_MAX: usize = 64;
/// The same in base64.
const TEXT_SIZE_MAX: usize = VALUE_SIZE_MAX.div_ceil(3) * 4;

/// In S3's `ChecksumAlgorithm`, but not here.
const UNSUPPORTED: [&str; 5] = ["SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128"];

impl Algorithm {
    /// What an object is given that came without a checksum, as S3 does since December 2024
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>).
    pub const DEFAULT: Self = Self::Crc64Nvme;

    /// All of them.
    pub const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// As in `x-amz-checksum-algorithm` and in XML.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The header or trailer that carries its value, in lower case.
    pub const fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// The element of its value in XML.
    pub const fn element(self) -> &'static str {
        match self {
            Self::Crc32 => "ChecksumCRC32",
            Self::Crc32c => "ChecksumCRC32C",
            Self::Crc64Nvme => "ChecksumCRC64NVME",
            Self::Sha1 => "ChecksumSHA1",
            Self::Sha256 => "ChecksumSHA256",
        }
    }

    /// Reads the value of `x-amz-sdk-checksum-algorithm` or `x-amz-checksum-algorithm`. SDKs send both cases.
    pub fn parse(text: &[u8]) -> Result<Self, NameError> {
        let is = |name: &str| text.eq_ignore_ascii_case(name.as_bytes());
        if let Some(algorithm) = Self::ALL.into_iter().find(|algorithm| is(algorithm.name())) {
            return Ok(algorithm);
        }
        Err(UNSUPPORTED.into_iter().find(|name| is(name)).map_or(NameError::Unknown, NameError::Unsupported))
    }

    /// Reads the name of a header or trailer. `None` when such a header carries no checksum value: another prefix, or
    /// `x-amz-checksum-algorithm`, `-mode` and `-type`.
    pub fn from_header(name: &[u8]) -> Option<Result<Self, NameError>> {
        let (prefix, algorithm) = name.split_at_checked(HEADER_PREFIX.len())?;
        let is_other = ["algorithm", "mode", "type"].iter().any(|other| algorithm.eq_ignore_ascii_case(other.as_bytes()));
        (prefix.eq_ignore_ascii_case(HEADER_PREFIX.as_bytes()) && !is_other).then(|| Self::parse(algorithm))
    }

    /// Bytes of a value.
    pub const fn size(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Whether it costs next to nothing beside a copy of the bytes.
    pub const fn is_cheap(self) -> bool {
        self.crc().is_some()
    }

    /// Whether S3 makes this kind of multipart checksum with this algorithm.
    pub const fn allows(self, kind: Kind) -> bool {
        match (self, kind) {
            (Self::Crc32 | Self::Crc32c, _) => true,
            (Self::Crc64Nvme, Kind::FullObject) | (Self::Sha1 | Self::Sha256, Kind::Composite) => true,
            (Self::Crc64Nvme, Kind::Composite) | (Self::Sha1 | Self::Sha256, Kind::FullObject) => false,
        }
    }

    /// The kind of a multipart upload that names the algorithm and no kind. A single upload is always `FullObject`.
    pub const fn default_kind(self) -> Kind {
        match self {
            Self::Crc64Nvme => Kind::FullObject,
            Self::Crc32 | Self::Crc32c | Self::Sha1 | Self::Sha256 => Kind::Composite,
        }
    }

    const fn crc(self) -> Option<Crc> {
        match self {
            Self::Crc32 => Some(Crc::Crc32),
            Self::Crc32c => Some(Crc::Crc32c),
            Self::Crc64Nvme => Some(Crc::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }
}

impl Kind {
    /// As in `x-amz-checksum-type` and in XML.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Composite => "COMPOSITE",
            Self::FullObject => "FULL_OBJECT",
        }
    }

    /// Reads `x-amz-checksum-type`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        [Self::Composite, Self::FullObject].into_iter().find(|kind| text.eq_ignore_ascii_case(kind.name().as_bytes()))
    }
}

/// A running checksum.
#[derive(Clone, Debug)]
pub struct Hasher {
    algorithm: Algorithm,
    state: HasherState,
}

#[derive(Clone, Debug)]
enum HasherState {
    Crc(Crc, u64),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Hasher {
    /// The checksum of nothing so far.
    pub fn new(algorithm: Algorithm) -> Self {
        let state = match (algorithm, algorithm.crc()) {
            (_, Some(crc)) => HasherState::Crc(crc, crc.start()),
            (Algorithm::Sha1, None) => HasherState::Sha1(Sha1::new()),
            (_, None) => HasherState::Sha256(Sha256::new()),
        };
        Self { algorithm, state }
    }

    /// Which checksum.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            HasherState::Crc(crc, state) => *state = crc.update(*state, bytes),
            HasherState::Sha1(sha1) => sha1.update(bytes),
            HasherState::Sha256(sha256) => sha256.update(bytes),
        }
    }

    /// The running SHA-256 if it is one, so that `lanes::advance_sha256` can take it along.
    pub fn sha256_mut(&mut self) -> Option<&mut Sha256> {
        match &mut self.state {
            HasherState::Sha256(sha256) => Some(sha256),
            HasherState::Crc(..) | HasherState::Sha1(_) => None,
        }
    }

    /// The checksum of everything taken.
    pub fn finish(self) -> Value {
        match self.state {
            HasherState::Crc(crc, state) => Value::from_crc(self.algorithm, crc.finish(state)),
            HasherState::Sha1(sha1) => Value::new(self.algorithm, &sha1.finalize()),
            HasherState::Sha256(sha256) => Value::new(self.algorithm, &sha256.finish()),
        }
    }
}

/// The value of a checksum.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Value {
    algorithm: Algorithm,
    /// Zeros behind `algorithm.size()`.
    bytes: [u8; VALUE_SIZE_MAX],
}

impl Value {
    /// The value in binary, big-endian for CRCs; `None` when it is not `algorithm.size()` bytes.
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == algorithm.size()).then(|| Self::new(algorithm, bytes))
    }

    /// Reads base64 of exactly the right length, padded, as S3 wants it.
    pub fn parse(algorithm: Algorithm, text: &[u8]) -> Option<Self> {
        if text.len() != algorithm.size().div_ceil(3) * 4 {
            return None;
        }
        let mut bytes = [0; VALUE_SIZE_MAX + 2];
        let size = STANDARD.decode_slice(text, &mut bytes).ok()?;
        Self::from_bytes(algorithm, &bytes[..size])
    }

    /// Whether it is the checksum of `bytes`.
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(bytes);
        hasher.finish() == *self
    }

    /// Which checksum.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The value in binary, big-endian for CRCs.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.size()]
    }

    /// Appends the value in base64.
    pub fn write_into(&self, out: &mut Vec<u8>) {
        let mut text = [0; TEXT_SIZE_MAX];
        out.extend_from_slice(self.base64(&mut text).as_bytes());
    }

    fn new(algorithm: Algorithm, value: &[u8]) -> Self {
        let mut bytes = [0; VALUE_SIZE_MAX];
        bytes[..value.len()].copy_from_slice(value);
        Self { algorithm, bytes }
    }

    fn from_crc(algorithm: Algorithm, crc: u64) -> Self {
        Self::new(algorithm, &crc.to_be_bytes()[8 - algorithm.size()..])
    }

    fn to_crc(self) -> u64 {
        self.as_bytes().iter().fold(0, |crc, byte| crc << 8 | u64::from(*byte))
    }

    fn base64<'a>(&self, text: &'a mut [u8; TEXT_SIZE_MAX]) -> &'a str {
        // It has room for the longest value.
        let size = STANDARD.encode_slice(self.as_bytes(), text).unwrap_or(0);
        std::str::from_utf8(&text[..size]).unwrap_or_default()
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.base64(&mut [0; TEXT_SIZE_MAX]))
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {self}", self.algorithm.name())
    }
}

/// The checksum of an object: a value, and for a composite one the number of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Checksum {
    /// The value in front of `-N`.
    pub value: Value,
    /// `Some` for `Kind::Composite`.
    pub parts: Option<u32>,
}

impl Checksum {
    /// The composite checksum of a multipart upload's parts: the checksum of their binary values one after the other.
    /// `None` without parts, with values of another algorithm, or where S3 has no such kind.
    pub fn composite(algorithm: Algorithm, parts: impl IntoIterator<Item = Value>) -> Option<Self> {
        let mut hasher = Hasher::new(algorithm);
        let mut count = 0;
        for part in parts {
            if part.algorithm != algorithm {
                return None;
            }
            hasher.update(part.as_bytes());
            count += 1;
        }
        (count > 0 && algorithm.allows(Kind::Composite)).then(|| Self { value: hasher.finish(), parts: Some(count) })
    }

    /// The checksum of the parts' bytes one after the other, from their values and lengths alone. `None` without parts, with
    /// values of another algorithm, or where S3 has no such kind.
    pub fn full_object(algorithm: Algorithm, parts: impl IntoIterator<Item = (Value, u64)>) -> Option<Self> {
        let crc = algorithm.crc()?;
        let mut parts = parts.into_iter().peekable();
        parts.peek()?;
        let mut joiner = crc.joiner();
        for (part, length) in parts {
            if part.algorithm != algorithm {
                return None;
            }
            joiner.append(part.to_crc(), length);
        }
        Some(Value::from_crc(algorithm, joiner.crc()).into())
    }

    /// Reads a header or element: base64, with `-N` for a composite checksum.
    pub fn parse(algorithm: Algorithm, text: &[u8]) -> Option<Self> {
        // Standard base64 has no `-`.
        let Some(dash) = text.iter().position(|byte| *byte == b'-') else {
            return Value::parse(algorithm, text).map(Self::from);
        };
        let parts = super::etag::parse_part_count(&text[dash + 1..])?;
        Some(Self { value: Value::parse(algorithm, &text[..dash])?, parts: Some(parts) })
    }

    /// Which kind.
    pub fn kind(&self) -> Kind {
        if self.parts.is_some() { Kind::Composite } else { Kind::FullObject }
    }

    /// Appends it as headers and XML carry it.
    pub fn write_into(&self, out: &mut Vec<u8>) {
        self.value.write_into(out);
        if let Some(parts) = self.parts {
            // A `Vec` takes everything.
            let _ = write!(out, "-{parts}");
        }
    }
}

impl From<Value> for Checksum {
    fn from(value: Value) -> Self {
        Self { value, parts: None }
    }
}

impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.value.fmt(f)?;
        self.parts.map_or(Ok(()), |parts| write!(f, "-{parts}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex;
    use proptest::prelude::*;

    #[test]
    fn published_check_values() {
        // reveng's catalogue for the CRCs, FIPS 180 for the others.
        for (algorithm, text, value) in [
            (Algorithm::Crc32, "123456789", "cbf43926"),
            (Algorithm::Crc32c, "123456789", "e3069283"),
            (Algorithm::Crc64Nvme, "123456789", "ae8b14860a799888"),
            (Algorithm::Sha1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (Algorithm::Sha256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ] {
            assert_eq!(hex::encode(of(algorithm, text.as_bytes()).as_bytes()), value, "{algorithm:?}");
        }
    }

    #[test]
    fn names_and_headers() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.name().to_lowercase().as_bytes()), Ok(algorithm));
            assert_eq!(Algorithm::from_header(algorithm.header().as_bytes()), Some(Ok(algorithm)));
            assert_eq!(algorithm.header(), format!("x-amz-checksum-{}", algorithm.name().to_lowercase()));
            assert_eq!(algorithm.element(), format!("Checksum{}", algorithm.name()));
            assert!(algorithm.allows(algorithm.default_kind()));
        }
        assert_eq!(Algorithm::from_header(b"X-Amz-Checksum-SHA256"), Some(Ok(Algorithm::Sha256)));
        assert_eq!(Algorithm::from_header(b"x-amz-checksum-xxhash3"), Some(Err(NameError::Unsupported("XXHASH3"))));
        assert_eq!(Algorithm::from_header(b"x-amz-checksum-foo"), Some(Err(NameError::Unknown)));
        for other in ["x-amz-checksum-mode", "x-amz-checksum-type", "x-amz-checksum-algorithm", "x-amz-date", "host"] {
            assert_eq!(Algorithm::from_header(other.as_bytes()), None, "{other}");
        }
        assert_eq!(Algorithm::parse(b"md5"), Err(NameError::Unsupported("MD5")));
        assert_eq!(Algorithm::parse(b""), Err(NameError::Unknown));
        assert_eq!(Kind::parse(b"FULL_OBJECT"), Some(Kind::FullObject));
        assert_eq!(Kind::parse(b"PARTIAL"), None);
    }

    #[test]
    fn values_on_the_wire() {
        // As boto3 sends it for `hello`.
        let value = of(Algorithm::Crc32, b"hello");
        assert_eq!(value.to_string(), "NhCmhg==");
        assert_eq!(Value::parse(Algorithm::Crc32, b"NhCmhg=="), Some(value));
        for wrong in ["NhCmhg", "NhCmhg=", "NhCmhg==\n", "NhCmhgA=", "NhCmhh==", "", "!hCmhg==", "NhCmhg==NhCmhg=="] {
            assert_eq!(Value::parse(Algorithm::Crc32, wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(Value::parse(Algorithm::Crc64Nvme, b"NhCmhg=="), None);
        assert_eq!(Value::from_bytes(Algorithm::Sha1, &[0; 4]), None);
        let parsed = Checksum::parse(Algorithm::Crc32, b"NhCmhg==-3").unwrap();
        assert_eq!((parsed.parts, parsed.kind(), parsed.to_string().as_str()), (Some(3), Kind::Composite, "NhCmhg==-3"));
        for wrong in ["NhCmhg==-", "NhCmhg==-0", "NhCmhg==-03", "NhCmhg==-3-4", "NhCmhg==-x", "-3"] {
            assert_eq!(Checksum::parse(Algorithm::Crc32, wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn multipart_kinds() {
        let parts = [of(Algorithm::Sha256, b"one"), of(Algorithm::Sha256, b"two")];
        let composite = Checksum::composite(Algorithm::Sha256, parts).unwrap();
        let joined = [Sha256::of(b"one"), Sha256::of(b"two")].concat();
        assert_eq!(composite, Checksum { value: of(Algorithm::Sha256, &joined), parts: Some(2) });
        assert_eq!(Checksum::full_object(Algorithm::Sha256, parts.map(|part| (part, 3))), None);
        assert_eq!(Checksum::composite(Algorithm::Sha256, []), None);
        assert_eq!(Checksum::composite(Algorithm::Sha1, parts), None);
        let crcs = [of(Algorithm::Crc64Nvme, b"one"), of(Algorithm::Crc64Nvme, b"two")];
        assert_eq!(Checksum::composite(Algorithm::Crc64Nvme, crcs), None);
        assert_eq!(
            Checksum::full_object(Algorithm::Crc64Nvme, crcs.map(|part| (part, 3))),
            Some(of(Algorithm::Crc64Nvme, b"onetwo").into())
        );
        assert_eq!(Checksum::full_object(Algorithm::Crc64Nvme, []), None);
    }

    proptest! {
        #[test]
        fn full_object_is_the_checksum_of_the_whole(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6)) {
            let whole = parts.concat();
            for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
                let values = parts.iter().map(|part| (of(algorithm, part), part.len() as u64));
                prop_assert_eq!(Checksum::full_object(algorithm, values), Some(of(algorithm, &whole).into()));
            }
        }

        #[test]
        fn crc32_agrees_with_crc32fast_in_any_split(bytes in prop::collection::vec(any::<u8>(), 0..2000), cut in any::<prop::sample::Index>()) {
            let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
            let mut hasher = Hasher::new(Algorithm::Crc32);
            hasher.update(head);
            hasher.update(tail);
            prop_assert_eq!(hasher.finish().to_crc(), u64::from(crc32fast::hash(&bytes)));
        }

        #[test]
        fn base64_round_trip(bytes in any::<[u8; 32]>()) {
            for algorithm in Algorithm::ALL {
                let value = Value::from_bytes(algorithm, &bytes[..algorithm.size()]).unwrap();
                let mut text = Vec::new();
                value.write_into(&mut text);
                prop_assert_eq!(Value::parse(algorithm, &text), Some(value));
            }
        }
    }

    fn of(algorithm: Algorithm, bytes: &[u8]) -> Value {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }
}
