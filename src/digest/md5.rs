//! MD5 (RFC 1321) whose state can be moved between the scalar code here and the lanes.
//!
//! Not for security: S3 defines the ETag of a simple upload and `Content-MD5` by it. The `md-5` crate hides its state, so
//! it serves as the oracle of the tests only.

use super::block::{Block, Remainder};

/// A running MD5.
#[derive(Clone)]
pub struct Md5 {
    pub(super) state: State,
    pub(super) remainder: Remainder,
}

/// The four words A, B, C, D of RFC 1321 section 3.3.
pub(super) type State = [u32; 4];

const START: State = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

impl Md5 {
    /// The MD5 of nothing so far.
    pub const fn new() -> Self {
        Self { state: START, remainder: Remainder::new() }
    }

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> [u8; 16] {
        let mut md5 = Self::new();
        md5.update(bytes);
        md5.finish()
    }

    /// Takes the next bytes, one stream at a time. Where several streams wait, `lanes::advance_md5` is many times faster.
    pub fn update(&mut self, bytes: &[u8]) {
        self.remainder.feed(bytes, |blocks| compress(&mut self.state, blocks));
    }

    /// Bytes taken so far.
    pub fn length(&self) -> u64 {
        self.remainder.length()
    }

    /// The digest of everything taken.
    pub fn finish(self) -> [u8; 16] {
        let mut state = self.state;
        self.remainder.pad(u64::to_le_bytes, |blocks| compress(&mut state, blocks));
        let mut digest = [0; 16];
        for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
            *bytes = word.to_le_bytes();
        }
        digest
    }
}

impl Default for Md5 {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Md5 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Md5({} bytes)", self.length())
    }
}

/// The 64 steps of RFC 1321 section 3.4 for any kind of word: `$f`, `$g`, `$h`, `$i` are its four round functions as
/// steps `fn<const LEFT: i32, const RIGHT: i32>(a, b, c, d, message_word, constant) -> a`, with `RIGHT` = 32 - `LEFT` because
/// instruction sets without a rotation need both.
macro_rules! rounds {
    ($state:expr, $word:ident, $f:ident, $g:ident, $h:ident, $i:ident) => {{
        let [mut a, mut b, mut c, mut d] = $state;
        macro_rules! four {
            ($step:ident [$s0:literal $s1:literal $s2:literal $s3:literal] $n0:literal $k0:literal $n1:literal $k1:literal
             $n2:literal $k2:literal $n3:literal $k3:literal) => {
                a = $step::<$s0, { 32 - $s0 }>(a, b, c, d, $word[$n0], $k0);
                d = $step::<$s1, { 32 - $s1 }>(d, a, b, c, $word[$n1], $k1);
                c = $step::<$s2, { 32 - $s2 }>(c, d, a, b, $word[$n2], $k2);
                b = $step::<$s3, { 32 - $s3 }>(b, c, d, a, $word[$n3], $k3);
            };
        }
        four!($f [7 12 17 22] 0 0xd76a_a478 1 0xe8c7_b756 2 0x2420_70db 3 0xc1bd_ceee);
        four!($f [7 12 17 22] 4 0xf57c_0faf 5 0x4787_c62a 6 0xa830_4613 7 0xfd46_9501);
        four!($f [7 12 17 22] 8 0x6980_98d8 9 0x8b44_f7af 10 0xffff_5bb1 11 0x895c_d7be);
        four!($f [7 12 17 22] 12 0x6b90_1122 13 0xfd98_7193 14 0xa679_438e 15 0x49b4_0821);
        four!($g [5 9 14 20] 1 0xf61e_2562 6 0xc040_b340 11 0x265e_5a51 0 0xe9b6_c7aa);
        four!($g [5 9 14 20] 5 0xd62f_105d 10 0x0244_1453 15 0xd8a1_e681 4 0xe7d3_fbc8);
        four!($g [5 9 14 20] 9 0x21e1_cde6 14 0xc337_07d6 3 0xf4d5_0d87 8 0x455a_14ed);
        four!($g [5 9 14 20] 13 0xa9e3_e905 2 0xfcef_a3f8 7 0x676f_02d9 12 0x8d2a_4c8a);
        four!($h [4 11 16 23] 5 0xfffa_3942 8 0x8771_f681 11 0x6d9d_6122 14 0xfde5_380c);
        four!($h [4 11 16 23] 1 0xa4be_ea44 4 0x4bde_cfa9 7 0xf6bb_4b60 10 0xbebf_bc70);
        four!($h [4 11 16 23] 13 0x289b_7ec6 0 0xeaa1_27fa 3 0xd4ef_3085 6 0x0488_1d05);
        four!($h [4 11 16 23] 9 0xd9d4_d039 12 0xe6db_99e5 15 0x1fa2_7cf8 2 0xc4ac_5665);
        four!($i [6 10 15 21] 0 0xf429_2244 7 0x432a_ff97 14 0xab94_23a7 5 0xfc93_a039);
        four!($i [6 10 15 21] 12 0x655b_59c3 3 0x8f0c_cc92 10 0xffef_f47d 1 0x8584_5dd1);
        four!($i [6 10 15 21] 8 0x6fa8_7e4f 15 0xfe2c_e6e0 6 0xa301_4314 13 0x4e08_11a1);
        four!($i [6 10 15 21] 4 0xf753_7e82 11 0xbd3a_f235 2 0x2ad7_d2bb 9 0xeb86_d391);
        [a, b, c, d]
    }};
}
pub(super) use rounds;

/// Advances `state` over `blocks`, one after the other.
pub(super) fn compress(state: &mut State, blocks: &[Block]) {
    for block in blocks {
        let words: [u32; 16] = std::array::from_fn(|n| u32::from_le_bytes(block.as_chunks::<4>().0[n]));
        let after = rounds!(*state, words, step_f, step_g, step_h, step_i);
        for (word, change) in state.iter_mut().zip(after) {
            *word = word.wrapping_add(change);
        }
    }
}

// MD5 is one long chain: each step waits for the one before, so what counts is how many operations follow the newest word,
// `b`. The functions are written so that as little as possible does.

#[inline(always)]
fn step_f<const LEFT: i32, const RIGHT: i32>(a: u32, b: u32, c: u32, d: u32, word: u32, constant: u32) -> u32 {
    let early = a.wrapping_add(word).wrapping_add(constant);
    early.wrapping_add(((c ^ d) & b) ^ d).rotate_left(LEFT as u32).wrapping_add(b)
}

#[inline(always)]
fn step_g<const LEFT: i32, const RIGHT: i32>(a: u32, b: u32, c: u32, d: u32, word: u32, constant: u32) -> u32 {
    // The two halves of G have no bit in common, so adding them one by one is the same, and `c & !d` does not wait for `b`.
    let early = a.wrapping_add(word).wrapping_add(constant).wrapping_add(c & !d);
    early.wrapping_add(b & d).rotate_left(LEFT as u32).wrapping_add(b)
}

#[inline(always)]
fn step_h<const LEFT: i32, const RIGHT: i32>(a: u32, b: u32, c: u32, d: u32, word: u32, constant: u32) -> u32 {
    let early = a.wrapping_add(word).wrapping_add(constant);
    early.wrapping_add((c ^ d) ^ b).rotate_left(LEFT as u32).wrapping_add(b)
}

#[inline(always)]
fn step_i<const LEFT: i32, const RIGHT: i32>(a: u32, b: u32, c: u32, d: u32, word: u32, constant: u32) -> u32 {
    let early = a.wrapping_add(word).wrapping_add(constant);
    early.wrapping_add(c ^ (b | !d)).rotate_left(LEFT as u32).wrapping_add(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex;
    use proptest::prelude::*;

    #[test]
    fn suite_of_rfc_1321_appendix_a_5() {
        for (text, digest) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "d174ab98d277d9f5a5611c2c9f419d9f"),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ] {
            assert_eq!(hex::encode(&Md5::of(text.as_bytes())), digest, "{text}");
        }
    }

    #[test]
    fn every_length_around_the_padding_agrees_with_the_crate() {
        let bytes: Vec<u8> = (0..300u32).map(|n| (n * 7) as u8).collect();
        for length in 0..=bytes.len() {
            assert_eq!(Md5::of(&bytes[..length]), oracle(&bytes[..length]), "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_digest_of_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut md5 = Md5::new();
            let mut from = 0;
            for cut in cuts {
                md5.update(&bytes[from..cut]);
                from = cut;
            }
            md5.update(&bytes[from..]);
            prop_assert_eq!(md5.length(), bytes.len() as u64);
            prop_assert_eq!(md5.finish(), oracle(&bytes));
        }
    }

    fn oracle(bytes: &[u8]) -> [u8; 16] {
        use md5::Digest;
        md5::Md5::digest(bytes).into()
    }
}
