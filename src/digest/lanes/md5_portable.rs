//! MD5 in lanes without instructions of any one processor: arrays of four words, which the compiler turns into SSE2 or NEON
//! vectors because every x86-64 and every aarch64 has those.

use super::super::md5::{State, rounds};
use super::{Block, LANES_MAX, Plan};

const LANES: usize = 4;

type Words = [u32; LANES];

pub(super) const PLAN: Plan<State> = Plan { lanes_min: 3, kernels: &[(LANES, compress)] };

fn compress(states: &mut [State; LANES_MAX], streams: &[&[Block]; LANES_MAX]) {
    let mut columns: [Words; 4] = std::array::from_fn(|word| std::array::from_fn(|lane| states[lane][word]));
    let [s0, s1, s2, s3, ..] = *streams;
    for (((b0, b1), b2), b3) in s0.iter().zip(s1).zip(s2).zip(s3) {
        let blocks = [b0.as_chunks::<4>().0, b1.as_chunks::<4>().0, b2.as_chunks::<4>().0, b3.as_chunks::<4>().0];
        let words: [Words; 16] = std::array::from_fn(|word| blocks.map(|block| u32::from_le_bytes(block[word])));
        let after = rounds!(columns, words, step_f, step_g, step_h, step_i);
        for (column, change) in columns.iter_mut().zip(after) {
            *column = map2(*column, change, u32::wrapping_add);
        }
    }
    for (lane, state) in states.iter_mut().take(LANES).enumerate() {
        *state = columns.map(|column| column[lane]);
    }
}

#[inline(always)]
fn map2(left: Words, right: Words, operation: impl Fn(u32, u32) -> u32) -> Words {
    std::array::from_fn(|lane| operation(left[lane], right[lane]))
}

/// `b + rotate(a + function + word + constant)` of every lane.
#[inline(always)]
fn step<const LEFT: i32>(a: Words, b: Words, function: Words, word: Words, constant: u32) -> Words {
    let early = std::array::from_fn(|lane| a[lane].wrapping_add(word[lane]).wrapping_add(constant));
    let sum: Words = map2(early, function, u32::wrapping_add);
    map2(sum.map(|sum| sum.rotate_left(LEFT as u32)), b, u32::wrapping_add)
}

#[inline(always)]
fn step_f<const LEFT: i32, const RIGHT: i32>(a: Words, b: Words, c: Words, d: Words, word: Words, constant: u32) -> Words {
    let function = std::array::from_fn(|lane| ((c[lane] ^ d[lane]) & b[lane]) ^ d[lane]);
    step::<LEFT>(a, b, function, word, constant)
}

#[inline(always)]
fn step_g<const LEFT: i32, const RIGHT: i32>(a: Words, b: Words, c: Words, d: Words, word: Words, constant: u32) -> Words {
    let function = std::array::from_fn(|lane| ((b[lane] ^ c[lane]) & d[lane]) ^ c[lane]);
    step::<LEFT>(a, b, function, word, constant)
}

#[inline(always)]
fn step_h<const LEFT: i32, const RIGHT: i32>(a: Words, b: Words, c: Words, d: Words, word: Words, constant: u32) -> Words {
    let function = std::array::from_fn(|lane| (c[lane] ^ d[lane]) ^ b[lane]);
    step::<LEFT>(a, b, function, word, constant)
}

#[inline(always)]
fn step_i<const LEFT: i32, const RIGHT: i32>(a: Words, b: Words, c: Words, d: Words, word: Words, constant: u32) -> Words {
    let function = std::array::from_fn(|lane| c[lane] ^ (b[lane] | !d[lane]));
    step::<LEFT>(a, b, function, word, constant)
}
