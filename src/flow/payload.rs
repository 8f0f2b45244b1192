//! Is the body what its sender says? Hears the decoder, digests what comes, and compares at the end: chunk signatures,
//! the signed hash of the whole, Content-MD5, checksums in headers and trailers. Nothing becomes visible before `finish`.

use std::collections::VecDeque;

use super::chunks::Chunks;
use crate::auth::ChunkVerifier;
use crate::body::Sink;
use crate::digest::checksum::{Algorithm, Hasher, Value};
use crate::digest::lanes::advance_sha256;
use crate::digest::{Job, Sha256};

/// What the request says of its body, decided before the first byte.
#[derive(Default)]
pub struct Expectation {
    /// `Content-MD5`.
    pub md5: Option<[u8; 16]>,
    /// `x-amz-content-sha256`, when it is a hash.
    pub sha256: Option<[u8; 32]>,
    /// Checks the signature of each chunk.
    pub chunks: Option<ChunkVerifier>,
    /// Checksums from headers.
    pub checksums: Vec<Value>,
    /// The checksum that the trailer announced in `x-amz-trailer` will bring.
    pub trailer: Option<Algorithm>,
}

/// In what the body differs from what was said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// Content-MD5.
    Md5 { expected: [u8; 16], computed: [u8; 16] },
    /// The signed hash of the whole payload.
    Sha256 { expected: [u8; 32], computed: [u8; 32] },
    /// The signature of a chunk, or of the trailers.
    Signature,
    /// A checksum.
    Checksum(Algorithm),
    /// The announced trailer did not come, or one came that was not announced.
    Trailer,
    /// The value of the announced trailer is no checksum.
    TrailerValue(Algorithm),
}

/// The digests of a body that was as it should be.
#[derive(Debug, Clone)]
pub struct Digests {
    /// Its MD5.
    pub md5: [u8; 16],
    /// Its checksums: those that were sent, or the computed one.
    pub checksums: Vec<Value>,
}

/// The checks of one body.
pub struct Payload {
    expectation: Expectation,
    hashers: Vec<Hasher>,
    whole: Option<Sha256>,
    /// The chunk being received, when chunks are signed: its hash so far, and its signature.
    chunk: (Sha256, [u8; 64]),
    /// What the last `decode` said, until `absorb` has seen its bytes.
    events: Vec<Event>,
    /// `name:value\n` of each trailer, as it is signed.
    trailers: Vec<u8>,
    trailer_value: Option<Vec<u8>>,
    /// Signatures whose turn comes when the hashes before them are there.
    awaiting: VecDeque<Signed>,
    mismatch: Option<Mismatch>,
}

/// What a signature is of.
enum Signed {
    Chunk([u8; 64]),
    Trailers([u8; 64]),
}

enum Event {
    ChunkStart([u8; 64]),
    Data(usize),
    ChunkEnd,
    TrailerSignature([u8; 64]),
}

impl Payload {
    /// Ready for the first byte.
    pub fn new(expectation: Expectation) -> Self {
        let sent = expectation.checksums.iter().map(Value::algorithm);
        let hashers = sent.chain(expectation.trailer).map(Hasher::new).collect();
        let whole = expectation.sha256.map(|_| Sha256::new());
        Self {
            expectation,
            hashers,
            whole,
            chunk: (Sha256::new(), [0; 64]),
            events: Vec::new(),
            trailers: Vec::new(),
            trailer_value: None,
            awaiting: VecDeque::new(),
            mismatch: None,
        }
    }

    /// The checksum that the client sends, in a header or in a trailer.
    pub fn sent(&self) -> Option<Algorithm> {
        self.expectation.checksums.first().map(Value::algorithm).or(self.expectation.trailer)
    }

    /// Computes this checksum too. Before the first byte.
    pub fn compute(&mut self, algorithm: Algorithm) {
        if !self.hashers.iter().any(|hasher| hasher.algorithm() == algorithm) {
            self.hashers.push(Hasher::new(algorithm));
        }
    }

    /// Digests the payload of one `decode`. Everything but the MD5, whose chain runs elsewhere.
    pub(super) fn absorb(&mut self, bytes: &[u8]) -> Result<(), Mismatch> {
        for hasher in &mut self.hashers {
            hasher.update(bytes);
        }
        if let Some(whole) = &mut self.whole {
            whole.update(bytes);
        }
        if self.expectation.chunks.is_some() {
            self.check_chunks(bytes);
        }
        self.events.clear();
        self.mismatch.map_or(Ok(()), Err)
    }

    /// From here on the SHA-256 of chunks, or of the whole, is computed elsewhere and comes by `check_sha256`. Whether any is needed.
    pub(super) fn hash_elsewhere(&mut self) -> bool {
        self.whole = None;
        self.expectation.chunks.is_some() || self.expectation.sha256.is_some()
    }

    /// Whether the SHA-256 is that of the whole body, which ends where the body does.
    pub(super) fn is_hashed_whole(&self) -> bool {
        self.expectation.chunks.is_none()
    }

    /// As `absorb`, but for SHA-256: adds to `chunks` where chunks end, counted from `start` bytes before `bytes`.
    pub(super) fn absorb_but_sha256(&mut self, bytes: &[u8], start: usize, chunks: &mut Chunks) -> Result<(), Mismatch> {
        for hasher in &mut self.hashers {
            hasher.update(bytes);
        }
        let mut position = start;
        for event in self.events.drain(..) {
            match event {
                _ if self.expectation.chunks.is_none() => {}
                Event::ChunkStart(signature) => self.awaiting.push_back(Signed::Chunk(signature)),
                Event::Data(size) => position += size,
                Event::ChunkEnd => chunks.ends.push(position),
                Event::TrailerSignature(signature) => self.awaiting.push_back(Signed::Trailers(signature)),
            }
        }
        self.check_trailers();
        self.mismatch.map_or(Ok(()), Err)
    }

    /// The SHA-256 of the next chunk, or of the whole.
    pub(super) fn check_sha256(&mut self, hash: &[u8; 32]) -> Result<(), Mismatch> {
        if let Some(verifier) = &mut self.expectation.chunks {
            let is_right = match self.awaiting.pop_front() {
                Some(Signed::Chunk(signature)) => verifier.chunk(hash, &signature).is_ok(),
                Some(Signed::Trailers(_)) | None => false,
            };
            if !is_right {
                self.mismatch = Some(Mismatch::Signature);
            }
            self.check_trailers();
        } else if let Some(expected) = self.expectation.sha256.take().filter(|expected| expected != hash) {
            self.mismatch = Some(Mismatch::Sha256 { expected, computed: *hash });
        }
        self.mismatch.map_or(Ok(()), Err)
    }

    /// Once every chunk before them is checked.
    fn check_trailers(&mut self) {
        let Some(verifier) = &mut self.expectation.chunks else { return };
        if let Some(Signed::Trailers(signature)) = self.awaiting.front() {
            if verifier.trailer(&self.trailers, signature).is_err() {
                self.mismatch = Some(Mismatch::Signature);
            }
            self.awaiting.pop_front();
        }
    }

    /// The chunks of one upload are independent of each other but for their signatures, which are short: all chunks in
    /// `bytes` are hashed side by side, then checked in their order.
    fn check_chunks(&mut self, bytes: &[u8]) {
        let mut hashes = vec![std::mem::take(&mut self.chunk.0)];
        let mut ranges = Vec::from([std::ops::Range { start: 0, end: 0 }]);
        let mut position = 0;
        for event in &self.events {
            match event {
                Event::ChunkStart(_) => {
                    hashes.push(Sha256::new());
                    ranges.push(position..position);
                }
                Event::Data(size) => {
                    position += size;
                    if let Some(range) = ranges.last_mut() {
                        range.end = position;
                    }
                }
                Event::ChunkEnd | Event::TrailerSignature(_) => {}
            }
        }
        let jobs = hashes.iter_mut().zip(&ranges).filter(|(_, range)| !range.is_empty());
        let mut jobs: Vec<_> = jobs.map(|(hash, range)| Job { hash, bytes: &bytes[range.clone()] }).collect();
        advance_sha256(&mut jobs);
        let mut hashes = hashes.into_iter();
        self.chunk.0 = hashes.next().unwrap_or_default();
        let Some(verifier) = &mut self.expectation.chunks else { return };
        for event in &self.events {
            let checked = match event {
                Event::ChunkStart(signature) => {
                    self.chunk = (hashes.next().unwrap_or_default(), *signature);
                    Ok(())
                }
                Event::Data(_) => Ok(()),
                Event::ChunkEnd => verifier.chunk(&std::mem::take(&mut self.chunk.0).finish(), &self.chunk.1),
                Event::TrailerSignature(signature) => verifier.trailer(&self.trailers, signature),
            };
            if checked.is_err() {
                self.mismatch = Some(Mismatch::Signature);
                return;
            }
        }
    }

    /// Whether the MD5 is one of the things to compare.
    pub(super) fn expects_md5(&self) -> bool {
        self.expectation.md5.is_some()
    }

    /// Compares everything, and answers the checksums. `md5` is that of the whole payload, where it is needed or known.
    pub(super) fn finish(self, md5: Option<[u8; 16]>) -> Result<Vec<Value>, Mismatch> {
        if let Some(mismatch) = self.mismatch {
            return Err(mismatch);
        }
        if let Some(expected) = self.expectation.md5
            && md5 != Some(expected)
        {
            return Err(Mismatch::Md5 { expected, computed: md5.unwrap_or_default() });
        }
        // Where it is computed elsewhere, `check_sha256` has taken away what was expected.
        if let Some(expected) = self.expectation.sha256 {
            let computed = self.whole.map(Sha256::finish).unwrap_or_default();
            if computed != expected {
                return Err(Mismatch::Sha256 { expected, computed });
            }
        }
        if !self.awaiting.is_empty() {
            return Err(Mismatch::Signature);
        }
        let mut expected = self.expectation.checksums;
        if let Some(algorithm) = self.expectation.trailer {
            let text = self.trailer_value.ok_or(Mismatch::Trailer)?;
            expected.push(Value::parse(algorithm, &text).ok_or(Mismatch::TrailerValue(algorithm))?);
        }
        let checksums: Vec<Value> = self.hashers.into_iter().map(Hasher::finish).collect();
        for value in &expected {
            if !checksums.contains(value) {
                return Err(Mismatch::Checksum(value.algorithm()));
            }
        }
        Ok(checksums)
    }
}

impl Sink for Payload {
    fn chunk_start(&mut self, _size: u64, signature: Option<&[u8; 64]>) {
        if let Some(signature) = signature {
            self.events.push(Event::ChunkStart(*signature));
        }
    }

    fn data(&mut self, bytes: &[u8]) {
        self.events.push(Event::Data(bytes.len()));
    }

    fn chunk_end(&mut self) {
        self.events.push(Event::ChunkEnd);
    }

    fn trailer(&mut self, name: &str, value: &str) {
        self.trailers.extend_from_slice(name.to_ascii_lowercase().as_bytes());
        self.trailers.push(b':');
        self.trailers.extend_from_slice(value.as_bytes());
        self.trailers.push(b'\n');
        if self.expectation.trailer.is_some_and(|algorithm| name.eq_ignore_ascii_case(algorithm.header())) {
            self.trailer_value = Some(value.as_bytes().to_vec());
        } else {
            // A checksum that was not announced was not computed: to take it unseen would be to say that it is right. Anything
            // else S3 does not take either.
            self.mismatch = Some(Mismatch::Trailer);
        }
    }

    fn trailer_signature(&mut self, signature: &[u8; 64]) {
        self.events.push(Event::TrailerSignature(*signature));
    }
}
