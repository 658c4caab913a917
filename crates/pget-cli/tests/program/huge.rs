//! Offsets that do not fit into 32 bits and are near no power of two.
//!
//! Ranges at the end of a sparse object of 8 TiB go into memory and files.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
    process::Command,
    time::Duration,
};

use pget::{Builder, ErrorKind};
use pget_testkit::{
    aistore::{ClusterOptions, Object},
    servers::{Nginx, NginxOptions, require},
};

use crate::{
    run::{pget, run},
    servers::{Aistore, PATTERN, ais},
};

const SIZE: u64 = (8 << 40) + 12_345;
/// Length of the end that is not zero.
const TAIL: u64 = (3 << 20) + 1;
const CHUNK: &str = "64KiB";

/// Returns offsets and lengths.
fn ranges() -> Vec<(u64, Option<u64>)> {
    vec![
        (SIZE - TAIL + 1, None),
        (SIZE - 1_000_003, Some(700_001)),
        (SIZE - 70_001, Some(u64::MAX / 2)),
        (SIZE - 1, None),
        (SIZE, None),
    ]
}

/// Returns the number of bytes in such a range.
fn bytes_of((offset, length): (u64, Option<u64>)) -> u64 {
    length.map_or(SIZE - offset, |length| length.min(SIZE - offset))
}

#[track_caller]
fn is_right(what: &str, range: (u64, Option<u64>), bytes: &[u8]) {
    let found = (bytes.len() as u64, PATTERN.check(range.0, bytes));
    assert_eq!(found, (bytes_of(range), Ok(())), "{what} {range:?}");
}

/// Creates the file in memory, where any length is allowed.
fn sparse(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("object");
    let file = File::create_new(&path).expect("a file");
    file.set_len(SIZE).expect("it takes no room");
    let length = usize::try_from(TAIL).expect("small");
    file.write_all_at(&PATTERN.bytes(SIZE - TAIL, length), SIZE - TAIL)
        .expect("written");
    path
}

/// Reads with the program and the library. `make` and `builder` are for the same object.
fn all_ways(what: &str, make: impl Fn(&[&str]) -> Command, builder: &Builder) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("x");
    for range in ranges() {
        let offset = range.0.to_string();
        let mut options = vec!["--chunk-size", CHUNK, "--offset", &offset];
        let length = range.1.map(|length| length.to_string());
        if let Some(length) = &length {
            options.extend(["--length", length]);
        }
        is_right(what, range, &run(make(&["cat"]).args(&options)).succeeded());
        run(make(&["get"]).args(&options).arg("-o").arg(&file)).succeeded();
        is_right(what, range, &fs::read(&file).expect("a file"));

        let mut of_range = builder.clone().offset(range.0);
        if let Some(length) = range.1 {
            of_range = of_range.length(length);
        }
        // The buffer has one byte more than the range, which must stay.
        let mut buffer = vec![0xa5; usize::try_from(bytes_of(range) + 1).expect("small")];
        let length = of_range
            .blocking()
            .expect("an object")
            .read_into(&mut buffer)
            .expect("it is read");
        is_right(what, range, &buffer[..length]);
        assert_eq!(buffer[length], 0xa5, "{what} {range:?}");
        let stats = of_range
            .blocking()
            .expect("an object")
            .get_file(&file)
            .expect("it is read");
        assert_eq!(stats.delivered, bytes_of(range), "{what} {range:?}");
        is_right(what, range, &fs::read(&file).expect("a file"));
    }
    // Read several ranges at once and out of order. One crosses the middle of the object, and one
    // is its last byte.
    let wanted = [
        SIZE - 1..SIZE,
        SIZE / 2..SIZE / 2 + 5,
        SIZE - 2_000_003..SIZE - 1_999_000,
        0..7,
    ];
    let mut buffers: Vec<Vec<u8>> = wanted
        .iter()
        .map(|range| vec![0xa5; usize::try_from(range.end - range.start).expect("small")])
        .collect();
    let mut list: Vec<_> = wanted
        .iter()
        .cloned()
        .zip(buffers.iter_mut().map(Vec::as_mut_slice))
        .collect();
    builder
        .blocking()
        .expect("an object")
        .read_ranges(&mut list, |_, _| {})
        .expect("they are read");
    for (range, bytes) in wanted.iter().zip(&buffers) {
        // Everything except the end of a sparse object is zero.
        let zeros = what != "aistore" && range.start < SIZE - TAIL;
        if zeros {
            assert!(bytes.iter().all(|byte| *byte == 0), "{what} {range:?}");
        } else {
            assert_eq!(PATTERN.check(range.start, bytes), Ok(()), "{what} {range:?}");
        }
    }
    let behind = (SIZE + 1).to_string();
    run(make(&["get"])
        .args(["--offset", &behind, "-o"])
        .arg(folder.path().join("y")))
    .failed(1, "range not satisfiable");
    let error = builder
        .clone()
        .offset(SIZE + 1)
        .blocking()
        .expect("an object")
        .read_into(&mut []);
    assert_eq!(
        error.expect_err("past the end").kind(),
        ErrorKind::Range,
        "{what}"
    );
}

fn tuned(builder: Builder) -> Builder {
    builder
        .chunk_size(64 << 10)
        .stall_timeout(Duration::from_secs(10))
}

/// Returns the words of the command, then the URL.
fn with_url(words: &[&str], url: &str) -> Vec<String> {
    words.iter().copied().chain([url]).map(str::to_owned).collect()
}

#[test]
fn the_end_of_eight_tebibytes_of_a_file_and_over_http() {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let path = sparse(folder.path());
    let path = path.to_str().expect("text");
    all_ways(
        "file",
        |words| pget(with_url(words, path)),
        &tuned(pget::builder(path)),
    );
    let Some(nginx) = require(Nginx::start(&NginxOptions::default())) else {
        return;
    };
    std::os::unix::fs::symlink(path, nginx.root().join("object")).expect("a link");
    let url = nginx.url("/object");
    all_ways(
        "nginx",
        |words| pget(with_url(words, &url)),
        &tuned(pget::builder(&url)),
    );
}

#[test]
fn the_end_of_eight_tebibytes_of_aistore() {
    let aistore = Aistore::start(ClusterOptions::default());
    let object = Object::pattern(7, SIZE).with_stated_checksum("xxhash2", "0123456789abcdef");
    aistore.cluster.put("bucket", "o", object);
    let (url, endpoint) = ("ais://bucket/o", aistore.cluster.endpoint());
    let make = |words: &[&str]| {
        let words = with_url(words, url);
        ais(&endpoint, &words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let builder = pget::builder(url).property("ais.endpoint", endpoint.clone());
    all_ways("aistore", make, &tuned(builder));
}
