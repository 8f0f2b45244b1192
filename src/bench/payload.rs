//! The bytes that uploads send: random, made once, the same for every object, and hashed before anything is measured.

use super::BenchError;
use super::settings::PayloadMode;
use crate::base::hex;
use crate::digest::Sha256;
use crate::limits::{BENCH_CHUNK_SIZE, BENCH_PAYLOAD_SIZE_MAX};

const CHUNK: u64 = BENCH_CHUNK_SIZE as u64;

/// One object's bytes. Those of a large object repeat.
pub struct Payload {
    bytes: Vec<u8>,
    size: u64,
    mode: PayloadMode,
    /// Of the whole, in hexadecimal, where the mode needs it.
    sha256: String,
    /// Of each chunk of `bytes`, and of the last chunk of the object, where the mode needs them.
    chunk_sha256: Vec<[u8; 32]>,
    last_chunk_sha256: [u8; 32],
}

impl Payload {
    pub fn new(size: u64, mode: PayloadMode) -> Result<Self, BenchError> {
        let kept = usize::try_from(size).unwrap_or(usize::MAX).min(BENCH_PAYLOAD_SIZE_MAX);
        let mut bytes = vec![0; kept];
        getrandom::fill(&mut bytes).map_err(|error| BenchError::system("making random bytes", error))?;
        Ok(Self::of(bytes, size, mode))
    }

    fn of(bytes: Vec<u8>, size: u64, mode: PayloadMode) -> Self {
        let last_chunk_sha256 = [0; 32];
        let mut payload = Self { bytes, size, mode, sha256: String::new(), chunk_sha256: Vec::new(), last_chunk_sha256 };
        match mode {
            PayloadMode::Unsigned => {}
            PayloadMode::Signed => payload.sha256 = hex::encode(&payload.hash(0, size)),
            PayloadMode::Streaming => {
                payload.chunk_sha256 = payload.bytes.chunks(BENCH_CHUNK_SIZE).map(Sha256::of).collect();
                let last = payload.chunk_count().saturating_sub(1);
                payload.last_chunk_sha256 = payload.hash(last * CHUNK, size);
            }
        }
        payload
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// The value of `x-amz-content-sha256`.
    pub fn content_sha256(&self) -> &str {
        match self.mode {
            PayloadMode::Unsigned => "UNSIGNED-PAYLOAD",
            PayloadMode::Signed => &self.sha256,
            PayloadMode::Streaming => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        }
    }

    pub fn mode(&self) -> PayloadMode {
        self.mode
    }

    /// Chunks with bytes in them.
    pub fn chunk_count(&self) -> u64 {
        self.size.div_ceil(CHUNK)
    }

    /// Bytes of chunk `number`, and their SHA-256.
    pub fn chunk(&self, number: u64) -> (u64, &[u8; 32]) {
        let size = CHUNK.min(self.size - (number * CHUNK).min(self.size));
        let kept = self.chunk_sha256.len().max(1);
        let within = usize::try_from(number % kept as u64).unwrap_or_default();
        match self.chunk_sha256.get(within) {
            Some(sha256) if number + 1 < self.chunk_count() => (size, sha256),
            _ => (size, &self.last_chunk_sha256),
        }
    }

    /// The bytes from `offset` on, up to `size_max` of them; fewer where the kept bytes end and begin again.
    pub fn slice(&self, offset: u64, size_max: u64) -> &[u8] {
        if self.bytes.is_empty() {
            return &[];
        }
        let from = usize::try_from(offset % self.bytes.len() as u64).unwrap_or_default();
        let size = size_max.min(self.size - offset.min(self.size)).min((self.bytes.len() - from) as u64);
        &self.bytes[from..from + usize::try_from(size).unwrap_or_default()]
    }

    fn hash(&self, from: u64, to: u64) -> [u8; 32] {
        let (mut sha256, mut offset) = (Sha256::new(), from);
        while offset < to {
            let slice = self.slice(offset, to - offset);
            sha256.update(slice);
            offset += slice.len() as u64;
        }
        sha256.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(payload: &Payload) -> Vec<u8> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < payload.size() {
            bytes.extend_from_slice(payload.slice(bytes.len() as u64, u64::MAX));
        }
        bytes
    }

    #[test]
    fn hashes_are_those_of_the_bytes_sent() {
        for size in [0, 1, 65_535, 65_536, 65_537, 200_000] {
            let signed = Payload::new(size, PayloadMode::Signed).unwrap();
            assert_eq!(signed.content_sha256(), hex::encode(&Sha256::of(&whole(&signed))), "{size}");
            check_chunks(&Payload::new(size, PayloadMode::Streaming).unwrap());
        }
        // An object that is larger than what is kept of it.
        check_chunks(&Payload::of(vec![7; BENCH_CHUNK_SIZE * 2], 300_000, PayloadMode::Streaming));
    }

    fn check_chunks(payload: &Payload) {
        let bytes = whole(payload);
        assert_eq!(bytes.len() as u64, payload.size());
        let chunks: Vec<&[u8]> = bytes.chunks(BENCH_CHUNK_SIZE).collect();
        assert_eq!(chunks.len() as u64, payload.chunk_count());
        for (number, chunk) in chunks.into_iter().enumerate() {
            assert_eq!(payload.chunk(number as u64), (chunk.len() as u64, &Sha256::of(chunk)), "{number}");
        }
    }
}
