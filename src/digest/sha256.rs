//! SHA-256 (FIPS 180-4) whose state can be moved between `sha2`'s compression, which picks SHA-NI at run time, and the
//! lanes.

use super::block::{Block, Remainder};

/// A running SHA-256.
#[derive(Clone)]
pub struct Sha256 {
    pub(super) state: State,
    pub(super) remainder: Remainder,
}

/// The eight words a to h of FIPS 180-4 section 6.2.
pub(super) type State = [u32; 8];

/// FIPS 180-4 section 5.3.3.
const START: State = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

impl Sha256 {
    /// The SHA-256 of nothing so far.
    pub const fn new() -> Self {
        Self { state: START, remainder: Remainder::new() }
    }

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> [u8; 32] {
        let mut sha256 = Self::new();
        sha256.update(bytes);
        sha256.finish()
    }

    /// Takes the next bytes, one stream at a time.
    pub fn update(&mut self, bytes: &[u8]) {
        self.remainder.feed(bytes, |blocks| compress(&mut self.state, blocks));
    }

    /// Bytes taken so far.
    pub fn length(&self) -> u64 {
        self.remainder.length()
    }

    /// The digest of everything taken.
    pub fn finish(self) -> [u8; 32] {
        let mut state = self.state;
        self.remainder.pad(u64::to_be_bytes, |blocks| compress(&mut state, blocks));
        let mut digest = [0; 32];
        for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sha256({} bytes)", self.length())
    }
}

/// Advances `state` over `blocks`, one after the other.
pub(super) fn compress(state: &mut State, blocks: &[Block]) {
    sha2::block_api::compress256(state, blocks);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex;
    use proptest::prelude::*;
    use sha2::Digest;

    #[test]
    fn examples_of_fips_180() {
        let long = "a".repeat(1_000_000);
        for (text, digest) in [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (&long, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
        ] {
            assert_eq!(hex::encode(&Sha256::of(text.as_bytes())), digest);
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_digest_of_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..1000),
            cut in any::<prop::sample::Index>(),
        ) {
            let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
            let mut sha256 = Sha256::new();
            sha256.update(head);
            sha256.update(tail);
            prop_assert_eq!(sha256.finish(), <[u8; 32]>::from(sha2::Sha256::digest(&bytes)));
        }
    }
}
