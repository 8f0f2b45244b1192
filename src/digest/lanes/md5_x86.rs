//! MD5 in the lanes of x86 vectors: 16 with AVX-512, 8 with AVX2. Eight lanes have two kernels: AVX-512VL has a rotation and
//! any function of three words as one instruction each, which halves the chain that MD5 is.
#![allow(unsafe_code)]

use super::super::md5::{State, rounds};
use super::{Block, LANES_MAX, Plan};
use std::arch::x86_64::*;

/// 16 lanes, and 8 while no more are needed, where the processor has AVX-512F and AVX-512VL.
pub(super) fn avx512() -> Option<Plan<State>> {
    let present = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx2");
    present.then_some(Plan { lanes_min: 2, kernels: &[(narrow::LANES, eight_rotated), (wide::LANES, sixteen)] })
}

/// 8 lanes, where the processor has AVX2.
pub(super) fn avx2() -> Option<Plan<State>> {
    is_x86_feature_detected!("avx2").then_some(Plan { lanes_min: 2, kernels: &[(narrow::LANES, eight)] })
}

fn sixteen(states: &mut [State; LANES_MAX], streams: &[&[Block]; LANES_MAX]) {
    // SAFETY: only `avx512` names this function, and only where the processor has AVX-512F.
    unsafe { wide::compress(states, streams) }
}

fn eight_rotated(states: &mut [State; LANES_MAX], streams: &[&[Block]; LANES_MAX]) {
    // SAFETY: only `avx512` names this function, and only where the processor has AVX-512F, AVX-512VL and AVX2.
    unsafe { narrow::rotated::compress(states, streams) }
}

fn eight(states: &mut [State; LANES_MAX], streams: &[&[Block]; LANES_MAX]) {
    // SAFETY: only `avx2` names this function, and only where the processor has AVX2.
    unsafe { narrow::shifted::compress(states, streams) }
}

/// The shortest of `streams`: the kernels read no further.
fn count(streams: &[&[Block]]) -> usize {
    streams.iter().map(|stream| stream.len()).min().unwrap_or(0)
}

/// The four words of `stream`'s block `block` from word `4 * quarter` on.
#[inline]
#[target_feature(enable = "sse2")]
fn load(stream: &[Block], block: usize, quarter: usize) -> __m128i {
    let bytes: &[u8; 16] = &stream[block].as_chunks::<16>().0[quarter];
    // SAFETY: `bytes` is a reference to the 16 bytes that are read, and the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

mod wide {
    use super::*;

    pub(super) const LANES: usize = 16;

    #[target_feature(enable = "avx512f")]
    pub(super) fn compress(states: &mut [State; LANES_MAX], streams: &[&[Block]; LANES_MAX]) {
        let mut columns = [_mm512_setzero_si512(); 4];
        for (word, column) in columns.iter_mut().enumerate() {
            let lanes: [u32; LANES] = std::array::from_fn(|lane| states[lane][word]);
            // SAFETY: `lanes` is exactly the 64 bytes that are read, and the load needs no alignment.
            *column = unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) };
        }
        for block in 0..count(&streams[..LANES]) {
            let words = transpose(streams, block);
            let after = rounds!(columns, words, step_f, step_g, step_h, step_i);
            for (column, change) in columns.iter_mut().zip(after) {
                *column = _mm512_add_epi32(*column, change);
            }
        }
        for (word, column) in columns.into_iter().enumerate() {
            let mut lanes = [0u32; LANES];
            // SAFETY: `lanes` is exactly the 64 bytes that are written, and the store needs no alignment.
            unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), column) };
            for (state, lane) in states.iter_mut().zip(lanes) {
                state[word] = lane;
            }
        }
    }

    /// Word `n` of every lane's block, for each `n`. Loads put the lanes 0, 4, 8, 12 (then 1, 5, 9, 13 and so on) above each
    /// other, so that what is left are transpositions of four by four inside the 128-bit quarters.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn transpose(streams: &[&[Block]; LANES_MAX], block: usize) -> [__m512i; 16] {
        let mut words = [_mm512_setzero_si512(); 16];
        for (quarter, words) in words.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let mut rows = [_mm512_setzero_si512(); 4];
            for (lane, row) in rows.iter_mut().enumerate() {
                let mut stacked = _mm512_castsi128_si512(load(streams[lane], block, quarter));
                stacked = _mm512_inserti32x4::<1>(stacked, load(streams[lane + 4], block, quarter));
                stacked = _mm512_inserti32x4::<2>(stacked, load(streams[lane + 8], block, quarter));
                *row = _mm512_inserti32x4::<3>(stacked, load(streams[lane + 12], block, quarter));
            }
            let (low01, high01) = (_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[0], rows[1]));
            let (low23, high23) = (_mm512_unpacklo_epi32(rows[2], rows[3]), _mm512_unpackhi_epi32(rows[2], rows[3]));
            words[0] = _mm512_unpacklo_epi64(low01, low23);
            words[1] = _mm512_unpackhi_epi64(low01, low23);
            words[2] = _mm512_unpacklo_epi64(high01, high23);
            words[3] = _mm512_unpackhi_epi64(high01, high23);
        }
        words
    }

    /// `b + rotate(a + function + word + constant)` of every lane.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn step<const LEFT: i32>(a: __m512i, b: __m512i, function: __m512i, word: __m512i, constant: u32) -> __m512i {
        let mut early = _mm512_add_epi32(_mm512_add_epi32(word, _mm512_set1_epi32(constant as i32)), a);
        // SAFETY: no instruction. The compiler would add the constant last, one cycle of the chain later (see `narrow`).
        unsafe { std::arch::asm!("/* {0} */", inout(zmm_reg) early, options(pure, nomem, nostack, preserves_flags)) };
        _mm512_add_epi32(_mm512_rol_epi32::<LEFT>(_mm512_add_epi32(early, function)), b)
    }

    /// A step whose function has the truth table `$table`, over b, c, d as the bits 2, 1, 0 of its index.
    macro_rules! step {
        ($name:ident, $table:literal) => {
            #[inline]
            #[target_feature(enable = "avx512f")]
            fn $name<const LEFT: i32, const RIGHT: i32>(
                a: __m512i,
                b: __m512i,
                c: __m512i,
                d: __m512i,
                word: __m512i,
                constant: u32,
            ) -> __m512i {
                step::<LEFT>(a, b, _mm512_ternarylogic_epi32::<$table>(b, c, d), word, constant)
            }
        };
    }
    step!(step_f, 0xca);
    step!(step_g, 0xe4);
    step!(step_h, 0x96);
    step!(step_i, 0x39);
}

mod narrow {
    use super::*;

    pub(super) const LANES: usize = 8;

    /// As `wide::transpose`, with the lanes 0 and 4 (then 1 and 5, and so on) above each other.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn transpose(streams: &[&[Block]; LANES_MAX], block: usize) -> [__m256i; 16] {
        let mut words = [_mm256_setzero_si256(); 16];
        for (quarter, words) in words.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let mut rows = [_mm256_setzero_si256(); 4];
            for (lane, row) in rows.iter_mut().enumerate() {
                let low = _mm256_castsi128_si256(load(streams[lane], block, quarter));
                *row = _mm256_inserti128_si256::<1>(low, load(streams[lane + 4], block, quarter));
            }
            let (low01, high01) = (_mm256_unpacklo_epi32(rows[0], rows[1]), _mm256_unpackhi_epi32(rows[0], rows[1]));
            let (low23, high23) = (_mm256_unpacklo_epi32(rows[2], rows[3]), _mm256_unpackhi_epi32(rows[2], rows[3]));
            words[0] = _mm256_unpacklo_epi64(low01, low23);
            words[1] = _mm256_unpackhi_epi64(low01, low23);
            words[2] = _mm256_unpacklo_epi64(high01, high23);
            words[3] = _mm256_unpackhi_epi64(high01, high23);
        }
        words
    }

    /// `compress` over eight lanes for a set of instructions; the four steps stand beside it.
    macro_rules! compress {
        ($features:literal) => {
            #[target_feature(enable = $features)]
            pub(in super::super) fn compress(states: &mut [State; LANES_MAX], streams: &[&[Block]; LANES_MAX]) {
                let mut columns = [_mm256_setzero_si256(); 4];
                for (word, column) in columns.iter_mut().enumerate() {
                    let lanes: [u32; LANES] = std::array::from_fn(|lane| states[lane][word]);
                    // SAFETY: `lanes` is exactly the 32 bytes that are read, and the load needs no alignment.
                    *column = unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) };
                }
                for block in 0..count(&streams[..LANES]) {
                    let words = transpose(streams, block);
                    let after = rounds!(columns, words, step_f, step_g, step_h, step_i);
                    for (column, change) in columns.iter_mut().zip(after) {
                        *column = _mm256_add_epi32(*column, change);
                    }
                }
                for (word, column) in columns.into_iter().enumerate() {
                    let mut lanes = [0u32; LANES];
                    // SAFETY: `lanes` is exactly the 32 bytes that are written, and the store needs no alignment.
                    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), column) };
                    for (state, lane) in states.iter_mut().zip(lanes) {
                        state[word] = lane;
                    }
                }
            }
        };
    }

    /// A step whose function of b, c, d is `$function`, and whose rotation by `LEFT` is `$rotate`.
    macro_rules! step {
        ($features:literal, $name:ident, |$b:ident, $c:ident, $d:ident| $function:expr) => {
            #[inline]
            #[target_feature(enable = $features)]
            fn $name<const LEFT: i32, const RIGHT: i32>(
                a: __m256i,
                $b: __m256i,
                $c: __m256i,
                $d: __m256i,
                word: __m256i,
                constant: u32,
            ) -> __m256i {
                let mut early = _mm256_add_epi32(_mm256_add_epi32(word, _mm256_set1_epi32(constant as i32)), a);
                // Everything that does not wait for `b` is added up here. The compiler knows that sums can be reordered, and
                // would add the constant last: one cycle more in each of the 64 links of the chain.
                // SAFETY: no instruction, only a value that the compiler does not look through.
                unsafe { std::arch::asm!("/* {0} */", inout(ymm_reg) early, options(pure, nomem, nostack, preserves_flags)) };
                _mm256_add_epi32(rotate::<LEFT, RIGHT>(_mm256_add_epi32(early, $function)), $b)
            }
        };
    }

    /// AVX-512VL. The functions are truth tables, over b, c, d as the bits 2, 1, 0 of their index.
    pub(super) mod rotated {
        use super::*;

        compress!("avx2,avx512f,avx512vl");

        #[inline]
        #[target_feature(enable = "avx2,avx512f,avx512vl")]
        fn rotate<const LEFT: i32, const RIGHT: i32>(words: __m256i) -> __m256i {
            _mm256_rol_epi32::<LEFT>(words)
        }

        step!("avx2,avx512f,avx512vl", step_f, |b, c, d| _mm256_ternarylogic_epi32::<0xca>(b, c, d));
        step!("avx2,avx512f,avx512vl", step_g, |b, c, d| _mm256_ternarylogic_epi32::<0xe4>(b, c, d));
        step!("avx2,avx512f,avx512vl", step_h, |b, c, d| _mm256_ternarylogic_epi32::<0x96>(b, c, d));
        step!("avx2,avx512f,avx512vl", step_i, |b, c, d| _mm256_ternarylogic_epi32::<0x39>(b, c, d));
    }

    /// AVX2.
    pub(super) mod shifted {
        use super::*;

        compress!("avx2");

        #[inline]
        #[target_feature(enable = "avx2")]
        fn rotate<const LEFT: i32, const RIGHT: i32>(words: __m256i) -> __m256i {
            _mm256_or_si256(_mm256_slli_epi32::<LEFT>(words), _mm256_srli_epi32::<RIGHT>(words))
        }

        step!("avx2", step_f, |b, c, d| _mm256_xor_si256(_mm256_and_si256(_mm256_xor_si256(c, d), b), d));
        step!("avx2", step_g, |b, c, d| _mm256_xor_si256(_mm256_and_si256(_mm256_xor_si256(b, c), d), c));
        step!("avx2", step_h, |b, c, d| _mm256_xor_si256(_mm256_xor_si256(c, d), b));
        step!("avx2", step_i, |b, c, d| _mm256_xor_si256(c, _mm256_or_si256(b, _mm256_xor_si256(d, _mm256_set1_epi32(-1)))));
    }
}
