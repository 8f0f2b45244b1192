//! Eight MD5 and four SHA-256 in one loop. Both wait: MD5 for its own last word, in each of its 64 steps, and SHA-256 for the one
//! unit that has its rounds. Run one after the other, each leaves the processor half idle; woven into each other, MD5 is nearly free.
//!
//! In assembler, because a compiler cannot be told two things that all depends on. The SHA instructions know only the old encoding,
//! and AMD's processors run them at half the speed while the upper half of a register that they write holds anything: so SHA-256
//! has the registers 0 to 15, of which nothing writes more than 128 bits, and MD5 has 16 to 31. And the two stay woven.
#![allow(unsafe_code)]

use super::super::{md5, sha256};
use super::sha256_x86::K as SHA256_CONSTANTS;
use super::{Block, LANES_MAX, Together};
use std::arch::{asm, is_x86_feature_detected};
use std::mem::offset_of;

const MD5_LANES: usize = 8;
const SHA256_LANES: usize = 4;
/// Blocks of each SHA-256 for one of each MD5: the same number of bytes.
const SHA256_BLOCKS: usize = 2;

/// The kernel, where the processor has AVX-512VL and SHA-NI.
pub(super) fn together() -> Option<Together> {
    let present = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("sha");
    present.then_some(Together {
        md5_lanes: MD5_LANES,
        sha256_lanes: SHA256_LANES,
        sha256_lanes_min: 2,
        sha256_blocks: SHA256_BLOCKS,
        kernel,
    })
}

fn kernel(
    md5s: &mut [md5::State; LANES_MAX],
    md5_streams: &[&[Block]; LANES_MAX],
    sha256s: &mut [sha256::State; LANES_MAX],
    sha256_streams: &[&[Block]; LANES_MAX],
) {
    // SAFETY: only `together` names this function, and only where the processor has AVX2, AVX-512F, AVX-512VL and SHA-NI.
    unsafe { compress(md5s, md5_streams, sha256s, sha256_streams) }
}

/// RFC 1321 section 3.4.
#[rustfmt::skip]
static MD5_CONSTANTS: [u32; 64] = [
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
];

static SHA256_K: [u32; 64] = SHA256_CONSTANTS;

/// Turns the bytes of four big-endian words around.
static SWAP: [u8; 16] = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];

/// What the loop reads and writes beside the streams, where the instructions with the old encoding want it aligned.
#[repr(C, align(64))]
struct Workspace {
    /// The words A to D of every MD5.
    md5: [[u32; MD5_LANES]; 4],
    /// The sixteen words of every MD5's block.
    words: [[u32; MD5_LANES]; 16],
    /// Of every SHA-256 the words F, E, B, A, then of every one H, G, D, C: as `sha256rnds2` wants them.
    sha256: [[[u32; 4]; SHA256_LANES]; 2],
    /// The same before the block.
    before: [[[u32; 4]; SHA256_LANES]; 2],
    /// The last sixteen words of every SHA-256's message schedule.
    schedule: [[[u32; 4]; SHA256_LANES]; 4],
    md5_streams: [*const Block; MD5_LANES],
    sha256_streams: [*const Block; SHA256_LANES],
}

// The macros below each make a piece of the loop's text. Registers: rdi is the workspace, rsi the blocks to go, r8 and r9 how far MD5
// and SHA-256 are in their streams; zmm16 to 19 are A to D of MD5, 20 and 21 are between, 22 to 29 the transposition's; xmm1 to 4 and
// 5 to 8 are the two halves of the four SHA-256, xmm0 is the one that `sha256rnds2` reads unnamed, xmm15 has `SWAP`.

/// `a = b + rotate(a + function(b, c, d) + word + constant)`; only the last four instructions wait for `b`.
macro_rules! step {
    ($a:literal $b:literal $c:literal $d:literal $table:literal $left:literal $word:literal $number:literal) => {
        concat!(
            "vpaddd ymm21, ymm",
            $a,
            ", [rdi + {words} + 32 * ",
            $word,
            "]\n",
            "vpaddd ymm21, ymm21, dword ptr [rip + {md5_constants} + 4 * ",
            $number,
            "]{{1to8}}\n",
            "vmovdqa64 ymm20, ymm",
            $b,
            "\n",
            "vpternlogd ymm20, ymm",
            $c,
            ", ymm",
            $d,
            ", ",
            $table,
            "\n",
            "vpaddd ymm21, ymm21, ymm20\n",
            "vprold ymm21, ymm21, ",
            $left,
            "\n",
            "vpaddd ymm",
            $a,
            ", ymm21, ymm",
            $b,
            "\n",
        )
    };
}

/// A lane of a SHA-256: its number, its two halves, three registers for what is between.
macro_rules! lanes {
    (low $piece:ident $($what:tt)*) => { concat!($piece!([0 1 5 9 10 11] $($what)*), $piece!([1 2 6 12 13 14] $($what)*)) };
    (high $piece:ident $($what:tt)*) => { concat!($piece!([2 3 7 9 10 11] $($what)*), $piece!([3 4 8 12 13 14] $($what)*)) };
}

/// Four rounds over the words in `$t`.
macro_rules! four_rounds {
    ($abef:literal $cdgh:literal $t:literal $quarter:literal) => {
        concat!(
            "vpaddd xmm0, xmm",
            $t,
            ", [rip + {sha256_constants} + 16 * ",
            $quarter,
            "]\n",
            "sha256rnds2 xmm",
            $cdgh,
            ", xmm",
            $abef,
            ", xmm0\n",
            "vpshufd xmm0, xmm0, 0x0e\n",
            "sha256rnds2 xmm",
            $abef,
            ", xmm",
            $cdgh,
            ", xmm0\n",
        )
    };
}

/// Four rounds over words of the block: the first four.
macro_rules! first {
    ([$lane:literal $abef:literal $cdgh:literal $t:literal $u:literal $v:literal] $quarter:literal $block:literal) => {
        concat!(
            "vmovdqa [rdi + {before} + 16 * ", $lane, "], xmm", $abef, "\n",
            "vmovdqa [rdi + {before} + 64 + 16 * ", $lane, "], xmm", $cdgh, "\n",
            fresh!([$lane $abef $cdgh $t $u $v] $quarter $block),
        )
    };
}

/// The next four.
macro_rules! fresh {
    ([$lane:literal $abef:literal $cdgh:literal $t:literal $u:literal $v:literal] $quarter:literal $block:literal) => {
        concat!(
            "mov rax, [rdi + {sha256_streams} + 8 * ", $lane, "]\n",
            "vmovdqu xmm", $t, ", [rax + r9 + 64 * ", $block, " + 16 * ", $quarter, "]\n",
            "vpshufb xmm", $t, ", xmm", $t, ", xmm15\n",
            "vmovdqa [rdi + {schedule} + 64 * ", $quarter, " + 16 * ", $lane, "], xmm", $t, "\n",
            four_rounds!($abef $cdgh $t $quarter),
        )
    };
}

/// Four rounds over the words that follow the sixteen in the places `$p0` to `$p3` (FIPS 180-4 section 6.2.2 step 1); they take the first's.
macro_rules! later {
    ([$lane:literal $abef:literal $cdgh:literal $t:literal $u:literal $v:literal]
     $quarter:literal $p0:literal $p1:literal $p2:literal $p3:literal) => {
        concat!(
            "vmovdqa xmm", $t, ", [rdi + {schedule} + 64 * ", $p0, " + 16 * ", $lane, "]\n",
            "sha256msg1 xmm", $t, ", [rdi + {schedule} + 64 * ", $p1, " + 16 * ", $lane, "]\n",
            "vmovdqa xmm", $u, ", [rdi + {schedule} + 64 * ", $p3, " + 16 * ", $lane, "]\n",
            "vpalignr xmm", $v, ", xmm", $u, ", [rdi + {schedule} + 64 * ", $p2, " + 16 * ", $lane, "], 4\n",
            "vpaddd xmm", $t, ", xmm", $t, ", xmm", $v, "\n",
            "sha256msg2 xmm", $t, ", xmm", $u, "\n",
            "vmovdqa [rdi + {schedule} + 64 * ", $p0, " + 16 * ", $lane, "], xmm", $t, "\n",
            four_rounds!($abef $cdgh $t $quarter),
        )
    };
}

/// The last four rounds of a block.
macro_rules! last {
    ([$lane:literal $abef:literal $cdgh:literal $t:literal $u:literal $v:literal]) => {
        concat!(
            later!([$lane $abef $cdgh $t $u $v] 15 3 0 1 2),
            "vpaddd xmm", $abef, ", xmm", $abef, ", [rdi + {before} + 16 * ", $lane, "]\n",
            "vpaddd xmm", $cdgh, ", xmm", $cdgh, ", [rdi + {before} + 64 + 16 * ", $lane, "]\n",
        )
    };
}

/// Four steps of every MD5, and between them two times four rounds of every SHA-256.
macro_rules! four_steps {
    ($table:literal [$s0:literal $s1:literal $s2:literal $s3:literal] $w0:literal $n0:literal $w1:literal $n1:literal
     $w2:literal $n2:literal $w3:literal $n3:literal, ($($one:tt)*) ($($two:tt)*)) => {
        concat!(
            step!(16 17 18 19 $table $s0 $w0 $n0), lanes!(low $($one)*),
            step!(19 16 17 18 $table $s1 $w1 $n1), lanes!(high $($one)*),
            step!(18 19 16 17 $table $s2 $w2 $n2), lanes!(low $($two)*),
            step!(17 18 19 16 $table $s3 $w3 $n3), lanes!(high $($two)*),
        )
    };
}

/// One lane's 16 bytes beside those of the lane four further on.
macro_rules! row {
    ($quarter:literal $lane:literal $beside:literal $register:literal) => {
        concat!(
            "mov rax, [rdi + {md5_streams} + 8 * ",
            $lane,
            "]\n",
            "mov r10, [rdi + {md5_streams} + 8 * ",
            $beside,
            "]\n",
            "vmovdqu32 xmm",
            $register,
            ", [rax + r8 + 16 * ",
            $quarter,
            "]\n",
            "vinserti32x4 ymm",
            $register,
            ", ymm",
            $register,
            ", [r10 + r8 + 16 * ",
            $quarter,
            "], 1\n",
        )
    };
}

/// The words `4 * $quarter` to `4 * $quarter + 3` of every MD5's block, each word of all lanes side by side.
macro_rules! transpose {
    ($quarter:literal) => {
        concat!(
            row!($quarter 0 4 22), row!($quarter 1 5 23), row!($quarter 2 6 24), row!($quarter 3 7 25),
            "vpunpckldq ymm26, ymm22, ymm23\n",
            "vpunpckhdq ymm27, ymm22, ymm23\n",
            "vpunpckldq ymm28, ymm24, ymm25\n",
            "vpunpckhdq ymm29, ymm24, ymm25\n",
            "vpunpcklqdq ymm22, ymm26, ymm28\n",
            "vpunpckhqdq ymm23, ymm26, ymm28\n",
            "vpunpcklqdq ymm24, ymm27, ymm29\n",
            "vpunpckhqdq ymm25, ymm27, ymm29\n",
            "vmovdqa32 [rdi + {words} + 128 * ", $quarter, "], ymm22\n",
            "vmovdqa32 [rdi + {words} + 128 * ", $quarter, " + 32], ymm23\n",
            "vmovdqa32 [rdi + {words} + 128 * ", $quarter, " + 64], ymm24\n",
            "vmovdqa32 [rdi + {words} + 128 * ", $quarter, " + 96], ymm25\n",
        )
    };
}

/// The same for all lanes of one register each.
macro_rules! every {
    ($before:literal, $between:literal, $after:literal; $($place:literal $register:literal),*) => {
        concat!($($before, $register, $between, $place, $after),*)
    };
}

/// Advances the first eight MD5s and the first four SHA-256s over the blocks of their streams, of which a SHA-256 has twice as many.
#[target_feature(enable = "avx2,avx512f,avx512vl,sha")]
fn compress(
    md5s: &mut [md5::State; LANES_MAX],
    md5_streams: &[&[Block]; LANES_MAX],
    sha256s: &mut [sha256::State; LANES_MAX],
    sha256_streams: &[&[Block]; LANES_MAX],
) {
    let blocks = md5_streams[..MD5_LANES].iter().map(|stream| stream.len());
    let blocks =
        blocks.chain(sha256_streams[..SHA256_LANES].iter().map(|stream| stream.len() / SHA256_BLOCKS)).min().unwrap_or(0);
    if blocks == 0 {
        return;
    }
    let mut workspace = Workspace {
        md5: std::array::from_fn(|word| std::array::from_fn(|lane| md5s[lane][word])),
        words: [[0; MD5_LANES]; 16],
        sha256: [[5, 4, 1, 0], [7, 6, 3, 2]].map(|half| std::array::from_fn(|lane| half.map(|word: usize| sha256s[lane][word]))),
        before: [[[0; 4]; SHA256_LANES]; 2],
        schedule: [[[0; 4]; SHA256_LANES]; 4],
        md5_streams: std::array::from_fn(|lane| md5_streams[lane].as_ptr()),
        sha256_streams: std::array::from_fn(|lane| sha256_streams[lane].as_ptr()),
    };
    // SAFETY: reads and writes `workspace`, which is exclusively ours, and reads `blocks` blocks of each MD5's stream and twice as many of
    // each SHA-256's, which `blocks` was counted from. Every register that it changes is a caller's to save in the ABI that is named.
    unsafe {
        asm!(
            "vzeroupper",
            every!("vmovdqa32 ymm", ", [rdi + {md5} + 32 * ", "]\n"; 0 16, 1 17, 2 18, 3 19),
            every!("vmovdqa xmm", ", [rdi + {sha256} + 16 * ", "]\n"; 0 1, 1 2, 2 3, 3 4, 4 5, 5 6, 6 7, 7 8),
            "vmovdqu xmm15, [rip + {swap}]",
            "xor r8d, r8d",
            "xor r9d, r9d",
            "2:",
            transpose!(0), transpose!(1), transpose!(2), transpose!(3),
            four_steps!(0xca [7 12 17 22] 0 0 1 1 2 2 3 3, (first 0 0) (fresh 1 0)),
            four_steps!(0xca [7 12 17 22] 4 4 5 5 6 6 7 7, (fresh 2 0) (fresh 3 0)),
            four_steps!(0xca [7 12 17 22] 8 8 9 9 10 10 11 11, (later 4 0 1 2 3) (later 5 1 2 3 0)),
            four_steps!(0xca [7 12 17 22] 12 12 13 13 14 14 15 15, (later 6 2 3 0 1) (later 7 3 0 1 2)),
            four_steps!(0xe4 [5 9 14 20] 1 16 6 17 11 18 0 19, (later 8 0 1 2 3) (later 9 1 2 3 0)),
            four_steps!(0xe4 [5 9 14 20] 5 20 10 21 15 22 4 23, (later 10 2 3 0 1) (later 11 3 0 1 2)),
            four_steps!(0xe4 [5 9 14 20] 9 24 14 25 3 26 8 27, (later 12 0 1 2 3) (later 13 1 2 3 0)),
            four_steps!(0xe4 [5 9 14 20] 13 28 2 29 7 30 12 31, (later 14 2 3 0 1) (last)),
            four_steps!(0x96 [4 11 16 23] 5 32 8 33 11 34 14 35, (first 0 1) (fresh 1 1)),
            four_steps!(0x96 [4 11 16 23] 1 36 4 37 7 38 10 39, (fresh 2 1) (fresh 3 1)),
            four_steps!(0x96 [4 11 16 23] 13 40 0 41 3 42 6 43, (later 4 0 1 2 3) (later 5 1 2 3 0)),
            four_steps!(0x96 [4 11 16 23] 9 44 12 45 15 46 2 47, (later 6 2 3 0 1) (later 7 3 0 1 2)),
            four_steps!(0x39 [6 10 15 21] 0 48 7 49 14 50 5 51, (later 8 0 1 2 3) (later 9 1 2 3 0)),
            four_steps!(0x39 [6 10 15 21] 12 52 3 53 10 54 1 55, (later 10 2 3 0 1) (later 11 3 0 1 2)),
            four_steps!(0x39 [6 10 15 21] 8 56 15 57 6 58 13 59, (later 12 0 1 2 3) (later 13 1 2 3 0)),
            four_steps!(0x39 [6 10 15 21] 4 60 11 61 2 62 9 63, (later 14 2 3 0 1) (last)),
            "vpaddd ymm16, ymm16, [rdi + {md5}]",
            "vpaddd ymm17, ymm17, [rdi + {md5} + 32]",
            "vpaddd ymm18, ymm18, [rdi + {md5} + 64]",
            "vpaddd ymm19, ymm19, [rdi + {md5} + 96]",
            "vmovdqa32 [rdi + {md5}], ymm16",
            "vmovdqa32 [rdi + {md5} + 32], ymm17",
            "vmovdqa32 [rdi + {md5} + 64], ymm18",
            "vmovdqa32 [rdi + {md5} + 96], ymm19",
            "add r8, 64",
            "add r9, 128",
            "dec rsi",
            "jnz 2b",
            "vmovdqa [rdi + {sha256}], xmm1",
            "vmovdqa [rdi + {sha256} + 16], xmm2",
            "vmovdqa [rdi + {sha256} + 32], xmm3",
            "vmovdqa [rdi + {sha256} + 48], xmm4",
            "vmovdqa [rdi + {sha256} + 64], xmm5",
            "vmovdqa [rdi + {sha256} + 80], xmm6",
            "vmovdqa [rdi + {sha256} + 96], xmm7",
            "vmovdqa [rdi + {sha256} + 112], xmm8",
            md5 = const offset_of!(Workspace, md5),
            words = const offset_of!(Workspace, words),
            sha256 = const offset_of!(Workspace, sha256),
            before = const offset_of!(Workspace, before),
            schedule = const offset_of!(Workspace, schedule),
            md5_streams = const offset_of!(Workspace, md5_streams),
            sha256_streams = const offset_of!(Workspace, sha256_streams),
            md5_constants = sym MD5_CONSTANTS,
            sha256_constants = sym SHA256_K,
            swap = sym SWAP,
            inout("rdi") &raw mut workspace => _,
            inout("rsi") blocks => _,
            clobber_abi("sysv64"),
            options(nostack),
        );
    }
    for (lane, state) in md5s.iter_mut().take(MD5_LANES).enumerate() {
        *state = workspace.md5.map(|lanes| lanes[lane]);
    }
    for (lane, state) in sha256s.iter_mut().take(SHA256_LANES).enumerate() {
        let [[f, e, b, a], [h, g, d, c]] = workspace.sha256.map(|half| half[lane]);
        *state = [a, b, c, d, e, f, g, h];
    }
}
