//! Signatures of the chunks and the trailer of a signed streaming upload: each signs the one before it, so that chunks can
//! be neither changed nor left out nor put in another order.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>

use sha2::{Digest, Sha256};

use super::keys::{SigningKey, same_signature};
use crate::base::hex;

/// SHA-256 of nothing. The string to sign of a chunk has it where a hash of per-chunk headers was once planned.
const EMPTY_SHA256: &[u8; 64] = b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A chunk or trailer whose signature is not the one its bytes have. The upload must not become visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureMismatch;

/// The chain of one upload's signatures, each made of the one before it.
#[derive(Clone, Debug)]
struct Chain {
    key: SigningKey,
    /// `\n<timestamp>\n<scope>\n`, the same in every string to sign of one upload.
    context: Box<[u8]>,
    previous: [u8; 64],
}

impl Chain {
    /// `seed` is the signature of the request's head.
    fn new(key: SigningKey, timestamp: &[u8], scope: &[&[u8]], seed: [u8; 64]) -> Self {
        let context = [b"\n", timestamp, b"\n", &scope.concat(), b"\n"].concat().into_boxed_slice();
        Self { key, context, previous: seed }
    }

    fn chunk(&self, payload_sha256: &[u8; 32]) -> [u8; 64] {
        let digest = hex::encode_32(payload_sha256);
        self.next(b"AWS4-HMAC-SHA256-PAYLOAD", &[EMPTY_SHA256, b"\n", &digest])
    }

    fn next(&self, algorithm: &[u8], digests: &[&[u8]]) -> [u8; 64] {
        let head: [&[u8]; 4] = [algorithm, &self.context, &self.previous, b"\n"];
        self.key.sign(head.into_iter().chain(digests.iter().copied()))
    }
}

/// Verifies one upload's chunks in their order. The caller hashes the payload: hashes of several chunks are independent of
/// each other and may be computed side by side, only these small MACs form a chain.
#[derive(Clone, Debug)]
pub struct ChunkVerifier(Chain);

impl ChunkVerifier {
    /// `seed` is the signature of the request's head.
    pub(super) fn new(key: SigningKey, timestamp: &[u8], scope: &[&[u8]], seed: [u8; 64]) -> Self {
        Self(Chain::new(key, timestamp, scope, seed))
    }

    /// The next chunk, also the last one of no bytes. `signature` is the text after `chunk-signature=`.
    pub fn chunk(&mut self, payload_sha256: &[u8; 32], signature: &[u8; 64]) -> Result<(), SignatureMismatch> {
        self.advance(self.0.chunk(payload_sha256), signature)
    }

    /// The trailer, after the last chunk. `canonical` is one line `name:value\n` per trailer field, names in lower case and
    /// in order, without `x-amz-trailer-signature`, whose value `signature` is.
    pub fn trailer(&mut self, canonical: &[u8], signature: &[u8; 64]) -> Result<(), SignatureMismatch> {
        let digest = hex::encode_32(&Sha256::digest(canonical).into());
        self.advance(self.0.next(b"AWS4-HMAC-SHA256-TRAILER", &[&digest]), signature)
    }

    fn advance(&mut self, expected: [u8; 64], signature: &[u8; 64]) -> Result<(), SignatureMismatch> {
        if !same_signature(&expected, signature) {
            return Err(SignatureMismatch);
        }
        self.0.previous = expected;
        Ok(())
    }
}

/// Signs one upload's chunks in their order: the client's side of [`ChunkVerifier`].
#[derive(Clone, Debug)]
pub struct ChunkSigner(Chain);

impl ChunkSigner {
    /// `seed` is the signature of the request's head.
    pub(super) fn new(key: SigningKey, timestamp: &[u8], scope: &[&[u8]], seed: [u8; 64]) -> Self {
        Self(Chain::new(key, timestamp, scope, seed))
    }

    /// The signature of the next chunk, also of the last one of no bytes.
    pub fn chunk(&mut self, payload_sha256: &[u8; 32]) -> [u8; 64] {
        self.0.previous = self.0.chunk(payload_sha256);
        self.0.previous
    }
}
