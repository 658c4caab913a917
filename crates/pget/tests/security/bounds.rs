//! Cases 26, 56 and 69: of an answer that never ends, every caller reads only a few KiB.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use pget::ErrorKind;

use crate::{on_aistore, on_s3, quick, read};

/// Limit of the bytes sent. It is far below the whole answer, and far above the socket buffers of a
/// few attempts.
const MOST: u64 = 256 << 20;
/// Length of the server's answer: a document of a GiB.
const ENDLESS: u64 = 1 << 30;

/// A server that answers every request with a head, and then repeats a pattern until the client
/// closes.
struct Endless {
    url: String,
    sent: Arc<AtomicU64>,
    requests: Arc<AtomicUsize>,
}

impl Endless {
    fn start(head: &str, pattern: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let (sent, requests) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
        let counters = (Arc::clone(&sent), Arc::clone(&requests));
        let (head, pattern) = (head.to_owned(), pattern.repeat((64 << 10) / pattern.len()));
        // The thread waits in accept, and ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (head, pattern, (sent, requests)) = (head.clone(), pattern.clone(), counters.clone());
                std::thread::spawn(move || {
                    serve(stream.expect("a connection"), &head, &pattern, &sent, &requests)
                });
            }
        });
        Self { url, sent, requests }
    }
}

fn serve(mut stream: TcpStream, head: &str, pattern: &str, sent: &AtomicU64, requests: &AtomicUsize) {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(count) => request.extend_from_slice(&piece[..count]),
        }
    }
    requests.fetch_add(1, Ordering::SeqCst);
    if stream.write_all(head.as_bytes()).is_err() {
        return;
    }
    let mut left = ENDLESS;
    while left > 0 && stream.write_all(pattern.as_bytes()).is_ok() {
        sent.fetch_add(pattern.len() as u64, Ordering::SeqCst);
        left = left.saturating_sub(pattern.len() as u64);
    }
}

#[tokio::test]
async fn case_69_an_error_document_of_a_gigabyte_is_hardly_read() {
    let bomb = "<?xml version=\"1.0\"?><!DOCTYPE l [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><Error><Code>AccessDenied</Code><Message>&b;";
    let head = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: {ENDLESS}\r\n\r\n{bomb}"
    );
    for pattern in ["<a>", "{\"a\":[", "&b;"] {
        let server = Endless::start(&head, pattern);
        let http = format!("{}/o", server.url);
        for (what, builder) in [
            ("http", quick(pget::builder(&http))),
            ("s3", on_s3("s3://b/k", &server.url)),
            ("ais", on_aistore("ais://b/o", &server.url)),
        ] {
            let error = read(&builder).await.expect_err("it is refused");
            assert_eq!(
                error.kind(),
                ErrorKind::PermissionDenied,
                "{what}: {}",
                error.to_line()
            );
            assert!(error.to_line().len() < 2000, "{what}: {}", error.to_line());
        }
        assert!(server.requests.load(Ordering::SeqCst) >= 3);
        let sent = server.sent.load(Ordering::SeqCst);
        assert!(sent < MOST, "{sent} bytes were taken");
    }
}

#[tokio::test]
async fn case_26_a_head_that_never_ends_is_given_up() {
    for (head, pattern) in [
        ("HTTP/1.1 206 Partial Content\r\nX: ", "x"),
        ("HTTP/1.1 206 Partial Content\r\n", "A: b\r\n"),
        ("", "\r\n"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        let server = Endless::start(head, pattern);
        let http = format!("{}/o", server.url);
        for (what, builder) in [
            ("http", quick(pget::builder(&http))),
            ("s3", on_s3("s3://b/k", &server.url)),
            ("ais", on_aistore("ais://b/o", &server.url)),
        ] {
            let error = read(&builder).await.expect_err("it is no answer");
            assert_eq!(error.kind(), ErrorKind::Protocol, "{what}: {}", error.to_line());
        }
        let sent = server.sent.load(Ordering::SeqCst);
        assert!(sent < MOST, "{pattern:?}: {sent} bytes were taken");
    }
}
