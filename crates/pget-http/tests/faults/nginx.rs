//! What a right server does to a reader by its settings, or by what happens to its files: nginx.

use std::{
    fs::{self, File},
    sync::Arc,
    time::{Duration, SystemTime},
};

use pget_core::{Download, ErrorKind, Reader};
use pget_testkit::{
    content::Pattern,
    servers::{Nginx, NginxOptions, require, socket_buffers},
};

use crate::{SEED, SIZE, expected, kinds, options, reads, source, within};

const OTHER: Pattern = Pattern::new(SEED + 1);

fn start(http: &str, server: &str) -> Option<Nginx> {
    let nginx = require(Nginx::start(&NginxOptions {
        http: http.into(),
        server: server.into(),
        ..NginxOptions::default()
    }))?;
    put(&nginx, Pattern::new(SEED), SIZE);
    Some(nginx)
}

fn put(nginx: &Nginx, pattern: Pattern, size: u64) {
    let bytes = pattern.bytes(0, usize::try_from(size).expect("small"));
    nginx.put("o", bytes).expect("a file");
}

#[tokio::test]
async fn case_30_nginx_that_limits_requests_is_read_at_its_pace() {
    let zone = "limit_req_zone $server_name zone=z:1m rate=40r/s; limit_req_status 429;";
    let Some(nginx) = start(zone, "limit_req zone=z burst=2 nodelay;") else {
        return;
    };
    let mut options = options();
    options.retries = Some(20);
    // Not all modes at once: together they are the crowd that the limit is against.
    options.concurrency = Some(16);
    let download = Download::new(Arc::new(source(&nginx.url("/o"))), options).expect("sound options");
    let mut reader = download.reader();
    let bytes = within(rest(&mut reader)).await.expect("it comes at last");
    assert_eq!(bytes.len() as u64, SIZE);
    assert_eq!(Pattern::new(SEED).check(0, &bytes), Ok(()));
    let log = nginx.access_log().expect("a log");
    let refused = log.iter().filter(|line| line.split(' ').nth(2) == Some("429"));
    assert!(refused.count() > 0, "the limit was not met: {log:?}");
    assert!(reader.stats().retries > 0);
}

async fn rest(reader: &mut Reader) -> Result<Vec<u8>, pget_core::Error> {
    let mut bytes = Vec::new();
    while let Some(lease) = reader.next().await? {
        bytes.extend_from_slice(&lease);
    }
    Ok(bytes)
}

/// Reads the first bytes, lets `change` happen, and reads the others, which have not been asked for by then.
async fn changed_in_mid_read(nginx: &Nginx, change: impl FnOnce()) -> Result<Vec<u8>, pget_core::Error> {
    put(nginx, Pattern::new(SEED), SIZE);
    let mut options = options();
    options.window = Some(1);
    let download = Download::new(Arc::new(source(&nginx.url("/o"))), options).expect("sound options");
    let mut reader = download.reader();
    let first = within(reader.next()).await?.expect("it is not empty");
    let mut bytes = first.to_vec();
    drop(first);
    change();
    bytes.extend(within(rest(&mut reader)).await?);
    Ok(bytes)
}

#[tokio::test]
async fn case_43_nginx_without_etag_is_pinned_by_its_date() {
    let Some(nginx) = start("", "etag off;") else {
        return;
    };
    reads(&nginx.url("/o"), SIZE).await;
    let error = changed_in_mid_read(&nginx, || {
        put(&nginx, OTHER, SIZE);
        let file = File::options().write(true).open(nginx.root().join("o"));
        let later = SystemTime::now() + Duration::from_secs(5);
        file.and_then(|file| file.set_modified(later)).expect("a date");
    })
    .await
    .expect_err("its date is another");
    assert_eq!(error.kind(), ErrorKind::ObjectChanged, "{}", error.to_line());
}

#[tokio::test]
async fn case_48_an_overwrite_within_a_second_is_the_documented_limit() {
    let Some(nginx) = start("", "") else { return };
    let file = nginx.root().join("o");
    // Its ETag is made of the second and the size: with both alike nothing tells, and the test holds the limit where it is.
    let bytes = changed_in_mid_read(&nginx, || {
        let modified = fs::metadata(&file)
            .and_then(|meta| meta.modified())
            .expect("a date");
        put(&nginx, OTHER, SIZE);
        let opened = File::options().write(true).open(&file);
        opened
            .and_then(|file| file.set_modified(modified))
            .expect("a date");
    })
    .await
    .expect("nothing told");
    let tail = usize::try_from(SIZE).expect("small") - 1000;
    assert_eq!(OTHER.check(tail as u64, &bytes[tail..]), Ok(()));
    // Another size is another ETag: 412.
    let error = changed_in_mid_read(&nginx, || put(&nginx, OTHER, SIZE - 1))
        .await
        .expect_err("its size is another");
    assert_eq!(error.kind(), ErrorKind::ObjectChanged, "{}", error.to_line());
    let error = changed_in_mid_read(&nginx, || fs::remove_file(&file).expect("it is there"))
        .await
        .expect_err("it is gone");
    assert_eq!(error.kind(), ErrorKind::ObjectChanged, "{}", error.to_line());
}

#[tokio::test]
async fn case_70_a_consumer_that_stops_resets_no_connection() {
    let Some(nginx) = start("", "send_timeout 1s;") else {
        return;
    };
    // More than the window and the sockets hold, so that nginx waits.
    let big = socket_buffers() + (16 << 20);
    put(&nginx, Pattern::new(SEED), big);
    let read = |concurrency: u32| {
        let url = nginx.url("/o");
        async move {
            let mut options = options();
            (options.chunk_size, options.window) = (Some(2 << 20), Some(4));
            options.concurrency = Some(concurrency);
            let download = Download::new(Arc::new(source(&url)), options).expect("sound options");
            let mut reader = download.reader();
            let first = reader.next().await.expect("it reads").expect("it is not empty");
            let mut bytes = first.to_vec();
            drop(first);
            // The pause is the fault: longer than nginx waits for a socket that takes nothing.
            tokio::time::sleep(Duration::from_millis(2500)).await;
            bytes.extend(rest(&mut reader).await.expect("it reads on"));
            assert_eq!(bytes.len() as u64, big);
            assert_eq!(Pattern::new(SEED).check(0, &bytes), Ok(()));
            reader.stats().retries
        }
    };
    let (ranges, stream) = within(async { tokio::join!(read(4), read(1)) }).await;
    assert_eq!(ranges, 0, "what is asked for has a place");
    // A single stream cannot promise that; it goes on where it was cut.
    assert!(stream >= 1);
    assert_eq!(
        kinds(source(&nginx.url("/o")), options(), expected(big)).await,
        None
    );
}
