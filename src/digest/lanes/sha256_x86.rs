//! Four SHA-256 side by side with SHA-NI: `sha256rnds2` answers after four cycles and starts every two, and the message
//! schedule of one stream fills the waits of another.
#![allow(unsafe_code)]

use super::super::sha256::State;
use super::{Block, LANES_MAX, Plan};
use std::arch::x86_64::*;

const LANES: usize = 4;

/// One register of each stream.
type Words = [__m128i; LANES];

/// FIPS 180-4 section 4.2.2.
#[rustfmt::skip]
pub(super) const K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// Four lanes, where the processor has SHA-NI.
pub(super) fn sha_ni() -> Option<Plan<State>> {
    let present = is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1");
    present.then_some(Plan { lanes_min: 3, kernels: &[(LANES, four)] })
}

fn four(states: &mut [State; LANES_MAX], streams: &[&[Block]; LANES_MAX]) {
    // SAFETY: only `sha_ni` names this function, and only where the processor has SHA-NI, SSSE3 and SSE4.1.
    unsafe { compress(states, streams) }
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress(states: &mut [State; LANES_MAX], streams: &[&[Block]; LANES_MAX]) {
    let mut abef = [_mm_setzero_si128(); LANES];
    let mut cdgh = [_mm_setzero_si128(); LANES];
    for (lane, &[a, b, c, d, e, f, g, h]) in states.iter().take(LANES).enumerate() {
        abef[lane] = words(a, b, e, f);
        cdgh[lane] = words(c, d, g, h);
    }
    let [s0, s1, s2, s3, ..] = *streams;
    for (((b0, b1), b2), b3) in s0.iter().zip(s1).zip(s2).zip(s3) {
        let before = (abef, cdgh);
        let blocks = [b0, b1, b2, b3];
        let (mut w0, mut w1, mut w2, mut w3) = (load(blocks, 0), load(blocks, 1), load(blocks, 2), load(blocks, 3));
        for group in 0..4 {
            if group > 0 {
                w0 = extend(&w0, &w1, &w2, &w3);
                w1 = extend(&w1, &w2, &w3, &w0);
                w2 = extend(&w2, &w3, &w0, &w1);
                w3 = extend(&w3, &w0, &w1, &w2);
            }
            four_rounds(&mut abef, &mut cdgh, &w0, 16 * group);
            four_rounds(&mut abef, &mut cdgh, &w1, 16 * group + 4);
            four_rounds(&mut abef, &mut cdgh, &w2, 16 * group + 8);
            four_rounds(&mut abef, &mut cdgh, &w3, 16 * group + 12);
        }
        for lane in 0..LANES {
            abef[lane] = _mm_add_epi32(abef[lane], before.0[lane]);
            cdgh[lane] = _mm_add_epi32(cdgh[lane], before.1[lane]);
        }
    }
    for (lane, state) in states.iter_mut().take(LANES).enumerate() {
        let [a, b, e, f] = unpack(abef[lane]);
        let [c, d, g, h] = unpack(cdgh[lane]);
        *state = [a, b, c, d, e, f, g, h];
    }
}

/// Rounds `round` to `round + 3` of every stream, over its message words `w`.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn four_rounds(abef: &mut Words, cdgh: &mut Words, w: &Words, round: usize) {
    let constants = _mm_setr_epi32(K[round] as i32, K[round + 1] as i32, K[round + 2] as i32, K[round + 3] as i32);
    let mut sums = *w;
    for lane in 0..LANES {
        sums[lane] = _mm_add_epi32(w[lane], constants);
        cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], sums[lane]);
    }
    for lane in 0..LANES {
        abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], _mm_shuffle_epi32::<0x0e>(sums[lane]));
    }
}

/// The four words of the message schedule that follow the sixteen in `w0` to `w3` (FIPS 180-4 section 6.2.2 step 1).
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn extend(w0: &Words, w1: &Words, w2: &Words, w3: &Words) -> Words {
    let mut next = *w0;
    for lane in 0..LANES {
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0[lane], w1[lane]), _mm_alignr_epi8::<4>(w3[lane], w2[lane]));
        next[lane] = _mm_sha256msg2_epu32(sum, w3[lane]);
    }
    next
}

/// Words `4 * quarter` to `4 * quarter + 3` of every stream's block, big-endian in memory.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load(blocks: [&Block; LANES], quarter: usize) -> Words {
    let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let mut words = [_mm_setzero_si128(); LANES];
    for (words, block) in words.iter_mut().zip(blocks) {
        let bytes: &[u8; 16] = &block.as_chunks::<16>().0[quarter];
        // SAFETY: `bytes` is a reference to the 16 bytes that are read, and the load needs no alignment.
        let loaded = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
        *words = _mm_shuffle_epi8(loaded, swap);
    }
    words
}

/// A register with `first` in its highest word, the order that `sha256rnds2` wants.
#[inline]
#[target_feature(enable = "sse2")]
fn words(first: u32, second: u32, third: u32, fourth: u32) -> __m128i {
    _mm_set_epi32(first as i32, second as i32, third as i32, fourth as i32)
}

/// The words of `register`, highest first.
#[inline]
#[target_feature(enable = "sse4.1")]
fn unpack(register: __m128i) -> [u32; 4] {
    [
        _mm_extract_epi32::<3>(register) as u32,
        _mm_extract_epi32::<2>(register) as u32,
        _mm_extract_epi32::<1>(register) as u32,
        _mm_extract_epi32::<0>(register) as u32,
    ]
}
