//! Many digests at once. One MD5 or SHA-256 is a chain in which each instruction waits for the last; a core has room for
//! several such chains side by side, in the lanes of its vectors (MD5) or interleaved (SHA-256).
//!
//! The plan here is safe code; the kernels with `unsafe` are one file per instruction set.

use super::block::{Block, SIZE};
use super::md5::{self, Md5};
use super::sha256::{self, Sha256};

mod md5_portable;
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
    for job in jobs.iter_mut() {
        job.bytes = job.hash.align(job.bytes);
    }
    // Longest first, so that the lanes end at about the same time.
    jobs.sort_unstable_by_key(|job| std::cmp::Reverse(job.bytes.len()));
    let wide = jobs.iter().take_while(|job| job.bytes.len() >= SIZE).count();
    let (wide, _) = jobs.split_at_mut(wide);
    if wide.len() >= plan.lanes_min {
        advance_blocks(plan, wide);
    }
    for job in jobs {
        job.hash.update(job.bytes);
        job.bytes = &[];
    }
}

/// Advances jobs, each of a block at least, until too few of them have a whole block left.
fn advance_blocks<H: BlockHash>(plan: Plan<H::State>, jobs: &mut [Job<'_, H>]) {
    let mut states = [H::State::default(); LANES_MAX];
    let mut lane_job = [0; LANES_MAX];
    let mut active = 0;
    let mut next = 0;
    loop {
        while active < plan.lanes() && next < jobs.len() {
            states[active] = *jobs[next].hash.state();
            lane_job[active] = next;
            active += 1;
            next += 1;
        }
        if active < plan.lanes_min {
            break;
        }
        let count = lane_job[..active].iter().map(|&job| jobs[job].bytes.len() / SIZE).min().unwrap_or(0);
        // Lanes without a job of their own repeat the first one's blocks, and nobody looks at what comes out.
        let streams: [&[Block]; LANES_MAX] = std::array::from_fn(|lane| {
            let job = lane_job[if lane < active { lane } else { 0 }];
            &jobs[job].bytes.as_chunks::<SIZE>().0[..count]
        });
        // The narrowest kernel that takes them: on some processors the wide vectors are the slower ones.
        let Some(&(_, kernel)) = plan.kernels.iter().find(|&&(lanes, _)| lanes >= active) else { break };
        kernel(&mut states, &streams);
        for lane in (0..active).rev() {
            let job = &mut jobs[lane_job[lane]];
            job.bytes = &job.bytes[count * SIZE..];
            job.hash.skip(count);
            if job.bytes.len() < SIZE {
                *job.hash.state() = states[lane];
                active -= 1;
                states.swap(lane, active);
                lane_job.swap(lane, active);
            }
        }
    }
    for lane in 0..active {
        *jobs[lane_job[lane]].hash.state() = states[lane];
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
