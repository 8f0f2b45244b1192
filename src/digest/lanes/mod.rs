//! Many digests at once. One MD5 or SHA-256 is a chain in which each instruction waits for the last; a core has room for
//! several such chains side by side, in the lanes of its vectors (MD5) or interleaved (SHA-256).
//!
//! The plan here is safe code; the kernels with `unsafe` are one file per instruction set.

use super::block::{Block, SIZE};
use super::md5::{self, Md5};
use super::sha256::{self, Sha256};

mod md5_portable;
#[cfg(target_arch = "x86_64")]
mod md5_sha256_x86;
#[cfg(target_arch = "x86_64")]
mod md5_x86;
#[cfg(target_arch = "x86_64")]
mod sha256_x86;

/// The widest kernel: 16 words of 32 bits in an AVX-512 vector.
pub const LANES_MAX: usize = 16;

/// The next `bytes` of one stream.
#[derive(Debug)]
pub struct Job<'a, H> {
    /// The stream's digest.
    pub hash: &'a mut H,
    /// What it takes next.
    pub bytes: &'a [u8],
}

/// Takes every job's bytes into its MD5, as `Md5::update` does one by one. Lengths may differ: a lane that ends is given
/// to the next job. The order of `jobs` afterwards is unspecified.
pub fn advance_md5(jobs: &mut [Job<'_, Md5>]) {
    advance(md5_plan(), jobs);
}

/// The same for SHA-256.
pub fn advance_sha256(jobs: &mut [Job<'_, Sha256>]) {
    advance(sha256_plan(), jobs);
}

/// Both at once, which on some processors costs little more than the SHA-256 alone.
pub fn advance_md5_and_sha256(md5_jobs: &mut [Job<'_, Md5>], sha256_jobs: &mut [Job<'_, Sha256>]) {
    match together() {
        Some(together) => advance_together(together, (md5_plan(), sha256_plan()), md5_jobs, sha256_jobs),
        None => {
            advance_md5(md5_jobs);
            advance_sha256(sha256_jobs);
        }
    }
}

/// The SHA-256 of each message, such as the chunks of one signed upload, which do not depend on each other.
pub fn sha256_of_each<const N: usize>(messages: [&[u8]; N]) -> [[u8; 32]; N] {
    let mut hashes = [const { Sha256::new() }; N];
    let mut rest = messages.into_iter();
    let mut jobs = hashes.each_mut().map(|hash| Job { hash, bytes: rest.next().unwrap_or_default() });
    advance_sha256(&mut jobs);
    hashes.map(Sha256::finish)
}

/// How many MD5s this processor advances at once: what is worth collecting before a call.
pub fn lanes_available() -> usize {
    md5_plan().lanes()
}

/// How many SHA-256s are worth collecting before a call; 1 where the lanes are no faster.
pub fn lanes_available_sha256() -> usize {
    sha256_plan().lanes()
}

/// A way to advance digests whose state is `S`.
#[derive(Clone, Copy)]
struct Plan<S: 'static> {
    /// Fewer streams than this are faster one by one.
    lanes_min: usize,
    /// The kernels by the states that one call advances, fewest first.
    kernels: &'static [(usize, Kernel<S>)],
}

impl<S> Plan<S> {
    /// States that the widest kernel advances; 1 when there is none.
    fn lanes(&self) -> usize {
        self.kernels.last().map_or(1, |&(lanes, _)| lanes)
    }
}

/// Advances the first states, as many as the kernel has lanes, each over all the blocks of its own stream, which are
/// equally many.
type Kernel<S> = fn(states: &mut [S; LANES_MAX], streams: &[&[Block]; LANES_MAX]);

/// A kernel that advances MD5s and SHA-256s in one loop. There is one for x86-64 only.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
struct Together {
    md5_lanes: usize,
    sha256_lanes: usize,
    /// Fewer SHA-256s than this are faster apart from the MD5s.
    sha256_lanes_min: usize,
    /// Blocks of each SHA-256 for one of each MD5.
    sha256_blocks: usize,
    kernel: TogetherKernel,
}

/// Advances the first states of each kind over all the blocks of their streams: equally many of each MD5, and of each SHA-256
/// `sha256_blocks` times as many.
type TogetherKernel =
    fn(&mut [md5::State; LANES_MAX], &[&[Block]; LANES_MAX], &mut [sha256::State; LANES_MAX], &[&[Block]; LANES_MAX]);

/// A digest that works on 64-byte blocks.
trait BlockHash {
    type State: Copy + Default + 'static;
    fn state(&mut self) -> &mut Self::State;
    fn align<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8];
    fn skip(&mut self, blocks: usize);
    fn update(&mut self, bytes: &[u8]);
}

macro_rules! block_hash {
    ($hash:ty, $module:ident) => {
        impl BlockHash for $hash {
            type State = $module::State;
            fn state(&mut self) -> &mut Self::State {
                &mut self.state
            }
            fn align<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
                self.remainder.align(bytes, &mut |blocks| $module::compress(&mut self.state, blocks))
            }
            fn skip(&mut self, blocks: usize) {
                self.remainder.skip(blocks);
            }
            fn update(&mut self, bytes: &[u8]) {
                <$hash>::update(self, bytes);
            }
        }
    };
}
block_hash!(Md5, md5);
block_hash!(Sha256, sha256);

fn advance<H: BlockHash>(plan: Plan<H::State>, jobs: &mut [Job<'_, H>]) {
    let mut lanes = Lanes::over(whole_blocks(jobs));
    lanes.run(plan);
    finish(jobs);
}

fn advance_together(
    together: Together,
    plans: (Plan<md5::State>, Plan<sha256::State>),
    md5_jobs: &mut [Job<'_, Md5>],
    sha256_jobs: &mut [Job<'_, Sha256>],
) {
    let (mut md5s, mut sha256s) = (Lanes::over(whole_blocks(md5_jobs)), Lanes::over(whole_blocks(sha256_jobs)));
    loop {
        md5s.fill(together.md5_lanes);
        sha256s.fill(together.sha256_lanes);
        // A lone MD5 goes along for nothing.
        if md5s.active == 0 || sha256s.active < together.sha256_lanes_min {
            break;
        }
        let count = md5s.count().min(sha256s.count() / together.sha256_blocks);
        if count == 0 {
            sha256s.step(plans.1);
            continue;
        }
        let sha256_count = count * together.sha256_blocks;
        let (md5_streams, sha256_streams) = (md5s.streams(count), sha256s.streams(sha256_count));
        (together.kernel)(&mut md5s.states, &md5_streams, &mut sha256s.states, &sha256_streams);
        md5s.take(count);
        sha256s.take(sha256_count);
    }
    md5s.run(plans.0);
    sha256s.run(plans.1);
    finish(md5_jobs);
    finish(sha256_jobs);
}

/// Ends started blocks, and gives the jobs that have a whole one, longest first, so that the lanes end at about the same time.
fn whole_blocks<'j, 'b, H: BlockHash>(jobs: &'j mut [Job<'b, H>]) -> &'j mut [Job<'b, H>] {
    for job in jobs.iter_mut() {
        job.bytes = job.hash.align(job.bytes);
    }
    jobs.sort_unstable_by_key(|job| std::cmp::Reverse(job.bytes.len()));
    let count = jobs.iter().take_while(|job| job.bytes.len() >= SIZE).count();
    &mut jobs[..count]
}

/// What the lanes left.
fn finish<H: BlockHash>(jobs: &mut [Job<'_, H>]) {
    for job in jobs {
        job.hash.update(job.bytes);
        job.bytes = &[];
    }
}

/// Jobs, each of a block at least, in the lanes of a kernel.
struct Lanes<'j, 'b, H: BlockHash> {
    jobs: &'j mut [Job<'b, H>],
    states: [H::State; LANES_MAX],
    /// Whose state each of the first `active` lanes has.
    job_of: [usize; LANES_MAX],
    active: usize,
    /// The first job that had no lane yet.
    next: usize,
}

impl<'j, 'b, H: BlockHash> Lanes<'j, 'b, H> {
    fn over(jobs: &'j mut [Job<'b, H>]) -> Self {
        Self { jobs, states: [H::State::default(); LANES_MAX], job_of: [0; LANES_MAX], active: 0, next: 0 }
    }

    /// Advances until too few jobs have a whole block left.
    fn run(&mut self, plan: Plan<H::State>) {
        self.fill(plan.lanes());
        while self.active >= plan.lanes_min {
            self.step(plan);
            self.fill(plan.lanes());
        }
        for lane in 0..self.active {
            *self.jobs[self.job_of[lane]].hash.state() = self.states[lane];
        }
    }

    /// Gives free lanes, of `lanes` at most, to the next jobs.
    fn fill(&mut self, lanes: usize) {
        while self.active < lanes && self.next < self.jobs.len() {
            self.states[self.active] = *self.jobs[self.next].hash.state();
            self.job_of[self.active] = self.next;
            self.active += 1;
            self.next += 1;
        }
    }

    /// Blocks that every lane has.
    fn count(&self) -> usize {
        self.job_of[..self.active].iter().map(|&job| self.jobs[job].bytes.len() / SIZE).min().unwrap_or(0)
    }

    /// The next `count` blocks of every lane. Lanes without a job of their own repeat the first one's, and nobody looks at what
    /// comes out.
    fn streams(&self, count: usize) -> [&'b [Block]; LANES_MAX] {
        std::array::from_fn(|lane| {
            let bytes: &'b [u8] = self.jobs[self.job_of[if lane < self.active { lane } else { 0 }]].bytes;
            &bytes.as_chunks::<SIZE>().0[..count]
        })
    }

    /// Advances the lanes as far as the shortest goes, by the narrowest kernel that takes them: on some processors the wide
    /// vectors are the slower ones.
    fn step(&mut self, plan: Plan<H::State>) {
        let count = self.count();
        let Some(&(_, kernel)) = plan.kernels.iter().find(|&&(lanes, _)| lanes >= self.active) else {
            unreachable!("more lanes were filled than the widest kernel has")
        };
        let streams = self.streams(count);
        kernel(&mut self.states, &streams);
        self.take(count);
    }

    /// The lanes have advanced by `count` blocks; those whose job is done are free again.
    fn take(&mut self, count: usize) {
        for lane in (0..self.active).rev() {
            let job = &mut self.jobs[self.job_of[lane]];
            job.bytes = &job.bytes[count * SIZE..];
            job.hash.skip(count);
            if job.bytes.len() < SIZE {
                *job.hash.state() = self.states[lane];
                self.active -= 1;
                self.states.swap(lane, self.active);
                self.job_of.swap(lane, self.active);
            }
        }
    }
}

/// The fastest MD5 kernels of this processor. The `lanes_min` are measured (`benches/digest.rs`).
fn md5_plan() -> Plan<md5::State> {
    #[cfg(target_arch = "x86_64")]
    if let Some(plan) = md5_x86::avx512().or_else(md5_x86::avx2) {
        return plan;
    }
    md5_portable::PLAN
}

/// Without SHA-NI nothing is gained: `sha2` itself is used, one stream after the other.
fn sha256_plan() -> Plan<sha256::State> {
    #[cfg(target_arch = "x86_64")]
    if let Some(plan) = sha256_x86::sha_ni() {
        return plan;
    }
    Plan { lanes_min: usize::MAX, kernels: &[] }
}

/// The kernel for both, where this processor has one and it gains anything.
fn together() -> Option<Together> {
    #[cfg(target_arch = "x86_64")]
    return md5_sha256_x86::together();
    #[cfg(not(target_arch = "x86_64"))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn md5_plans() -> Vec<Plan<md5::State>> {
        let mut plans = vec![md5_portable::PLAN];
        #[cfg(target_arch = "x86_64")]
        plans.extend([md5_x86::avx512(), md5_x86::avx2()].into_iter().flatten());
        // Also the tails that production leaves to the scalar code.
        for index in 0..plans.len() {
            plans.push(Plan { lanes_min: 1, ..plans[index] });
        }
        plans
    }

    fn sha256_plans() -> Vec<Plan<sha256::State>> {
        let plan = sha256_plan();
        if plan.lanes() == 1 { vec![plan] } else { vec![plan, Plan { lanes_min: 1, ..plan }] }
    }

    /// Some streams, each fed in several rounds, all of a round's pieces at once.
    fn rounds() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
        let piece = prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 0..700),
            1 => (any::<u8>(), 0..40usize).prop_map(|(seed, blocks)| (0..blocks * 64).map(|n| (n * 31) as u8 ^ seed).collect()),
        ];
        (0..40usize)
            .prop_flat_map(move |streams| prop::collection::vec(prop::collection::vec(piece.clone(), streams..=streams), 1..4))
    }

    fn check<H: BlockHash + Clone, D: PartialEq + std::fmt::Debug>(
        plan: Plan<H::State>,
        rounds: &[Vec<Vec<u8>>],
        new: fn() -> H,
        finish: fn(H) -> D,
        oracle: fn(&[u8]) -> D,
    ) {
        let mut hashes = vec![new(); rounds[0].len()];
        let mut whole = vec![Vec::new(); rounds[0].len()];
        for round in rounds {
            let mut jobs: Vec<Job<'_, H>> =
                hashes.iter_mut().zip(round).map(|(hash, piece)| Job { hash, bytes: piece }).collect();
            advance(plan, &mut jobs);
            whole.iter_mut().zip(round).for_each(|(whole, piece)| whole.extend_from_slice(piece));
        }
        for (hash, whole) in hashes.into_iter().zip(whole) {
            assert_eq!(finish(hash), oracle(&whole), "{} lanes, {} bytes", plan.lanes(), whole.len());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn md5_lanes_agree_with_the_crate(rounds in rounds()) {
            for plan in md5_plans() {
                check(plan, &rounds, Md5::new, Md5::finish, |bytes| <::md5::Md5 as ::md5::Digest>::digest(bytes).into());
            }
        }

        #[test]
        fn sha256_lanes_agree_with_the_crate(rounds in rounds()) {
            for plan in sha256_plans() {
                check(plan, &rounds, Sha256::new, Sha256::finish, |bytes| <sha2::Sha256 as sha2::Digest>::digest(bytes).into());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        /// Each kind with its own number of streams and its own lengths.
        #[test]
        fn md5_and_sha256_together_agree_with_the_crates(md5_rounds in rounds(), sha256_rounds in rounds()) {
            let mut md5s = vec![Md5::new(); md5_rounds[0].len()];
            let mut sha256s = vec![Sha256::new(); sha256_rounds[0].len()];
            let mut wholes = (vec![Vec::new(); md5s.len()], vec![Vec::new(); sha256s.len()]);
            for (md5_round, sha256_round) in md5_rounds.iter().zip(&sha256_rounds) {
                let mut md5_jobs: Vec<_> = md5s.iter_mut().zip(md5_round).map(|(hash, bytes)| Job { hash, bytes }).collect();
                let mut sha256_jobs: Vec<_> = sha256s.iter_mut().zip(sha256_round).map(|(hash, bytes)| Job { hash, bytes }).collect();
                advance_md5_and_sha256(&mut md5_jobs, &mut sha256_jobs);
                wholes.0.iter_mut().zip(md5_round).for_each(|(whole, piece)| whole.extend_from_slice(piece));
                wholes.1.iter_mut().zip(sha256_round).for_each(|(whole, piece)| whole.extend_from_slice(piece));
            }
            for (md5, whole) in md5s.into_iter().zip(&wholes.0) {
                prop_assert_eq!(md5.finish(), <[u8; 16]>::from(<::md5::Md5 as ::md5::Digest>::digest(whole)));
            }
            for (sha256, whole) in sha256s.into_iter().zip(&wholes.1) {
                prop_assert_eq!(sha256.finish(), <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(whole)));
            }
        }
    }

    #[test]
    fn the_public_calls_take_no_job_and_any_job() {
        advance_md5(&mut []);
        let mut hashes = vec![Md5::new(); 3];
        let mut jobs: Vec<_> = hashes.iter_mut().map(|hash| Job { hash, bytes: b"abc" }).collect();
        advance_md5(&mut jobs);
        for hash in hashes {
            assert_eq!(hash.finish(), Md5::of(b"abc"));
        }
        let mut sha256 = Sha256::new();
        advance_sha256(&mut [Job { hash: &mut sha256, bytes: &[7; 1000] }]);
        assert_eq!(sha256.finish(), Sha256::of(&[7; 1000]));
        let messages: [&[u8]; 5] = [b"", b"abc", &[1; 64], &[2; 4096], &[3; 100]];
        assert_eq!(sha256_of_each(messages), messages.map(Sha256::of));
        assert!((1..=LANES_MAX).contains(&lanes_available()) && (1..=LANES_MAX).contains(&lanes_available_sha256()));
    }
}
