//! What core adds to receiving: handing leases over, and checksums.

use std::{hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pget_core::{
    Download, Options, RangeSource,
    verify::{Algorithm, Hasher},
};
use pget_micro::InMemory;
use tokio::runtime::Builder;

const SIZE: u64 = 64 << 20;

/// A download from memory: each piece is copied, published, and lent to the consumer.
fn leases(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let mut group = criterion.benchmark_group("leases");
    group.throughput(Throughput::Bytes(SIZE)).sample_size(20);
    for piece in [16 << 10, 256 << 10] {
        let source: Arc<dyn RangeSource> = Arc::new(InMemory::new(SIZE, piece));
        group.bench_with_input(
            BenchmarkId::new("pieces of KiB", piece >> 10),
            &source,
            |bencher, source| {
                bencher.iter(|| {
                    let mut options = Options::default();
                    (options.concurrency, options.chunk_size) = (Some(4), Some(8 << 20));
                    let download = Download::new(Arc::clone(source), options).expect("valid options");
                    runtime.block_on(async {
                        let mut reader = download.reader();
                        let mut moved = 0;
                        while let Some(lease) = reader.next().await.expect("it has every byte") {
                            moved += lease.len() as u64;
                        }
                        assert_eq!(moved, SIZE);
                    });
                });
            },
        );
    }
    group.finish();
}

fn checksums(criterion: &mut Criterion) {
    let bytes: Vec<u8> = (0..256_u32 << 10)
        .map(|at| (at * 31 >> 3).to_le_bytes()[0])
        .collect();
    let mut group = criterion.benchmark_group("checksum");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    for algorithm in Algorithm::ALL {
        group.bench_function(algorithm.name(), |bencher| {
            bencher.iter(|| {
                let mut hasher = Hasher::new(algorithm);
                hasher.update(black_box(&bytes));
                black_box(hasher.finish())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, leases, checksums);
criterion_main!(benches);
