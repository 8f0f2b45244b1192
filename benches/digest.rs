//! What does it cost to know the bytes? MD5 one stream at a time and several at once (how many must wait before lanes
//! pay), SHA-256 likewise, and the CRCs, on one core, over blocks as the PUT loop has them and over small objects.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluice::digest::checksum::{Algorithm, Hasher};
use sluice::digest::{Job, Md5, Sha256, lanes};
use sluice::limits::{BLOCK_SIZE, HASH_STEP_SIZE};
use std::hint::black_box;

/// Bytes of a small object and of a block.
const SIZES: [usize; 2] = [4096, BLOCK_SIZE];

/// One stream's bytes that are no other stream's.
fn streams(count: usize, size: usize) -> Vec<Vec<u8>> {
    (0..count).map(|stream| (0..size).map(|n| (n * 31 + stream * 7) as u8).collect()).collect()
}

fn one_stream(c: &mut Criterion) {
    let mut group = c.benchmark_group("one_stream");
    for size in SIZES {
        let bytes = &streams(1, size)[0];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_with_input(BenchmarkId::new("md5", size), bytes, |b, bytes| b.iter(|| Md5::of(black_box(bytes))));
        group.bench_with_input(BenchmarkId::new("md5_crate", size), bytes, |b, bytes| {
            b.iter(|| <md5::Md5 as md5::Digest>::digest(black_box(bytes)));
        });
        group.bench_with_input(BenchmarkId::new("sha256", size), bytes, |b, bytes| b.iter(|| Sha256::of(black_box(bytes))));
        for algorithm in Algorithm::ALL {
            group.bench_with_input(BenchmarkId::new(algorithm.name(), size), bytes, |b, bytes| {
                b.iter(|| {
                    let mut hasher = Hasher::new(algorithm);
                    hasher.update(black_box(bytes));
                    hasher.finish()
                });
            });
        }
    }
    group.finish();
}

macro_rules! many_streams {
    ($name:ident, $hash:ty, $advance:path, $counts:expr) => {
        fn $name(c: &mut Criterion) {
            let mut group = c.benchmark_group(stringify!($name));
            for size in SIZES {
                for count in $counts {
                    let bytes = streams(count, size);
                    group.throughput(Throughput::Bytes((count * size) as u64));
                    group.bench_function(BenchmarkId::new(format!("{count}"), size), |b| {
                        b.iter_batched_ref(
                            || vec![<$hash>::new(); count],
                            |hashes| {
                                let mut jobs: Vec<_> =
                                    hashes.iter_mut().zip(&bytes).map(|(hash, bytes)| Job { hash, bytes }).collect();
                                $advance(black_box(&mut jobs));
                            },
                            BatchSize::SmallInput,
                        );
                    });
                }
            }
            group.finish();
        }
    };
}
many_streams!(md5_streams, Md5, lanes::advance_md5, [2, 3, 4, 8, 16, 24]);
many_streams!(sha256_streams, Sha256, lanes::advance_sha256, [2, 3, 4, 8]);

/// A step of signed uploads: of each stream one MD5, and the SHA-256 of the pieces that chunks of 64 KiB leave of the same bytes.
fn md5_and_sha256(c: &mut Criterion) {
    let mut group = c.benchmark_group("md5_and_sha256");
    for count in [1, 2, 4, 6, 8, 16] {
        let bytes = streams(count, HASH_STEP_SIZE);
        group.throughput(Throughput::Bytes((count * HASH_STEP_SIZE) as u64));
        for is_together in [false, true] {
            let name = if is_together { "together" } else { "apart" };
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter_batched_ref(
                    || (vec![Md5::new(); count], vec![Sha256::new(); 3 * count]),
                    |(md5s, sha256s)| {
                        let mut md5_jobs: Vec<_> = md5s.iter_mut().zip(&bytes).map(|(hash, bytes)| Job { hash, bytes }).collect();
                        let pieces = bytes.iter().enumerate().flat_map(|(stream, bytes)| {
                            let first = (stream * 29 + 11) % 64 * 1024;
                            [&bytes[..first], &bytes[first..first + 64 * 1024], &bytes[first + 64 * 1024..]]
                        });
                        let mut sha256_jobs: Vec<_> =
                            sha256s.iter_mut().zip(pieces).map(|(hash, bytes)| Job { hash, bytes }).collect();
                        if is_together {
                            lanes::advance_md5_and_sha256(black_box(&mut md5_jobs), &mut sha256_jobs);
                        } else {
                            lanes::advance_md5(black_box(&mut md5_jobs));
                            lanes::advance_sha256(&mut sha256_jobs);
                        }
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(benches, one_stream, md5_streams, sha256_streams, md5_and_sha256);
criterion_main!(benches);
