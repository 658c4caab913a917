//! The transport: the parsers of an answer, and what receiving costs in plain and over TLS.
//!
//! The last two read from nginx on loopback and measure the CPU time of the reading thread, so that
//! the server's share does not count.

use std::{fs, hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::HeaderMap;
use pget_core::{Collector, RangeRequest, RangeSource as _};
use pget_http::{Client, ClientOptions, ContentRange, HttpSource};
use pget_micro::thread_time;
use pget_testkit::servers::{Authority, Nginx, NginxOptions, Validity};
use tokio::runtime::Builder;

/// As a bucket of an object store answers a ranged GET.
const HEAD: &[u8] = b"HTTP/1.1 206 Partial Content\r\n\
    x-amz-id-2: vlR7PnpV2Ce81l0PRw6jlUpck7Jo5ZsQjryTjKlc5aLWGVHPZLj5NeC6qMa0emYBDXOo6QBU0Wo=\r\n\
    x-amz-request-id: 4442587FB7D0A2F9\r\n\
    Date: Mon, 30 Nov 2026 12:00:00 GMT\r\n\
    Last-Modified: Fri, 23 Oct 2026 08:15:42 GMT\r\n\
    ETag: \"5eb63bbbe01eeed093cb22bb8f5acdc3-128\"\r\n\
    x-amz-server-side-encryption: AES256\r\n\
    Accept-Ranges: bytes\r\n\
    Content-Range: bytes 8388608-16777215/1073741824\r\n\
    Content-Type: application/octet-stream\r\n\
    Content-Length: 8388608\r\n\
    Server: AmazonS3\r\n\r\n";

fn parsers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    group.bench_function("head", |bencher| {
        bencher.iter(|| {
            let length = pget_http::micro::head(black_box(HEAD));
            assert_eq!(length, Some(HEAD.len()));
        });
    });
    group.bench_function("Content-Range", |bencher| {
        bencher.iter(|| ContentRange::parse(black_box(b"bytes 8388608-16777215/1073741824")));
    });
    group.finish();
}

const SIZE: u64 = 16 << 20;

fn receiving(criterion: &mut Criterion) {
    let authority = Authority::new().expect("an authority");
    let nginx = Nginx::start(&NginxOptions {
        tls: Some(
            authority
                .leaf(&["localhost"], Validity::Now)
                .expect("a certificate"),
        ),
        ..NginxOptions::default()
    })
    .expect("nginx is installed");
    let object = vec![0x5a; usize::try_from(SIZE).expect("it is small")];
    fs::write(nginx.root().join("object"), object).expect("there is room for the object");
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut settings = ClientOptions::default();
    settings.tls.platform_roots = false;
    settings.tls.extra_roots = vec![authority.pem().into_bytes()];
    let client = Client::new(&settings).expect("valid settings");
    let mut group = criterion.benchmark_group("receive");
    group
        .throughput(Throughput::Bytes(SIZE))
        .sample_size(30)
        .measurement_time(Duration::from_secs(10));
    let ways = [
        ("plain", nginx.url("/object")),
        ("TLS 1.3", nginx.https_url("/object").expect("it has TLS")),
    ];
    for (name, url) in ways {
        let source = HttpSource::new(client.clone(), &url, HeaderMap::new()).expect("a valid address");
        let source = Arc::new(source);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                runtime.block_on(async {
                    let before = thread_time();
                    for _ in 0..times {
                        let collector = Collector::new(RangeRequest::new(0, Some(SIZE)));
                        let writer = collector.writer().expect("the first one");
                        let request = collector.request().clone();
                        source.read(&request, writer).await.expect("nginx serves it");
                    }
                    thread_time() - before
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, parsers, receiving);
criterion_main!(benches);
