//! What does it cost to know the bytes? MD5 one stream at a time and several at once (how many must wait before lanes
//! pay), SHA-256 likewise, and the CRCs, on one core, over blocks as the PUT loop has them and over small objects.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluice::digest::checksum::{Algorithm, Hasher};
use sluice::digest::{Job, Md5, Sha256, lanes};
use sluice::limits::BLOCK_SIZE;
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

criterion_group!(benches, one_stream, md5_streams, sha256_streams);
criterion_main!(benches);
