//! Records of TLS as no ordinary server sends them: cut anywhere, tiny, empty, too long, out of
//! place.

use std::{
    io::{self, Read as _, Write as _},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use pget_core::ErrorKind;
use pget_testkit::{content::Pattern, servers::Authority};
use rustls::{
    ServerConnection, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};

use super::sealed::{
    ALERT, CLOSE_NOTIFY, DATA, HANDSHAKE, LENGTH, Scripted, answer, body, config, head, record, send,
};
use crate::{SEED, options, patient, read_with};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Reads the object once for each of `times`, over one client, without a second attempt.
async fn reads_well(server: &Scripted, times: usize) {
    let client = server.client();
    for time in 0..times {
        let outcome = read_with(server.source(&client), patient()).await;
        let stats = outcome.complete(Pattern::new(SEED), LENGTH);
        assert_eq!((stats.requests, stats.retries), (1, 0), "{time}: {stats:?}");
    }
}

#[tokio::test]
async fn records_cut_at_every_byte_are_read() {
    const SMALL: u64 = 300;
    for version in VERSIONS {
        let server = Scripted::start(version, false, |peer, _| {
            let small = &body()[..usize::try_from(SMALL).expect("small")];
            for cut in 0.. {
                peer.request()?;
                let head = head(&format!("Content-Length: {SMALL}\r\n"));
                let mut sealed = peer.here.seal(DATA, &head);
                sealed.extend(peer.here.seal(DATA, &small[..100]));
                sealed.extend(peer.here.seal(DATA, &small[100..]));
                let (first, second) = sealed.split_at(cut % sealed.len());
                peer.socket.write_all(first)?;
                // Time to be received by itself.
                thread::sleep(Duration::from_micros(500));
                peer.socket.write_all(second)?;
            }
            Ok(())
        });
        let client = server.client();
        for cut in 0..460 {
            let outcome = read_with(server.source(&client), patient()).await;
            let stats = outcome.complete(Pattern::new(SEED), SMALL);
            assert_eq!(stats.requests, 1, "{cut}: {stats:?}");
        }
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn a_handshake_and_an_answer_that_come_byte_by_byte_are_read() {
    for version in VERSIONS {
        let server = Scripted::start(version, true, |peer, _| {
            loop {
                peer.request()?;
                let sealed = [
                    peer.here.seal(DATA, &answer()[..5000]),
                    peer.here.seal(DATA, &answer()[5000..5003]),
                ]
                .concat();
                send(&mut peer.socket, &sealed, true)?;
                for piece in answer()[5003..].chunks(16_000) {
                    peer.send(DATA, piece)?;
                }
            }
        });
        reads_well(&server, 2).await;
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn many_small_and_some_empty_records_are_read_also_in_chunks() {
    for chunked in [false, true] {
        for version in VERSIONS {
            let server = Scripted::start(version, false, move |peer, _| {
                loop {
                    peer.request()?;
                    let answer = if chunked {
                        let mut answer = head("Transfer-Encoding: chunked\r\n");
                        for piece in body().chunks(777) {
                            answer.extend(format!("{:x};x=y\r\n", piece.len()).into_bytes());
                            answer.extend(piece);
                            answer.extend(b"\r\n");
                        }
                        answer.extend(b"0\r\nTrailer: x\r\n\r\n");
                        answer
                    } else {
                        answer()
                    };
                    let mut sealed = Vec::new();
                    for (index, piece) in answer.chunks(3).enumerate() {
                        if index % 100 == 0 {
                            sealed.extend(peer.here.seal(DATA, &[]));
                        }
                        sealed.extend(peer.here.seal(DATA, piece));
                    }
                    peer.socket.write_all(&sealed)?;
                }
            });
            reads_well(&server, 2).await;
            assert_eq!(server.connections(), 1, "chunked: {chunked}");
        }
    }
}

/// The server could not read the next request if it did not know the keys.
#[tokio::test]
async fn a_change_of_keys_in_a_body_is_answered_before_the_next_request() {
    let authority = Authority::new().expect("an authority");
    let config = Arc::new(config(&authority, &TLS13));
    let server = Scripted::accepting(authority, move |mut socket, _| {
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut session = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                session.complete_io(&mut socket)?;
                let mut piece = [0; 4096];
                match session.reader().read(&mut piece) {
                    Ok(count) => head.extend(&piece[..count]),
                    Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
                    Err(cause) => return Err(cause),
                }
            }
            for piece in answer().chunks(15_000) {
                session.writer().write_all(piece)?;
                session.refresh_traffic_keys().map_err(io::Error::other)?;
                while session.wants_write() {
                    session.write_tls(&mut socket)?;
                }
            }
        }
    });
    reads_well(&server, 4).await;
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_close_notify_in_a_body_of_known_length_is_a_broken_connection() {
    for version in VERSIONS {
        let server = Scripted::start(version, false, |peer, number| {
            peer.request()?;
            if number == 0 {
                peer.send(DATA, &answer()[..10_000])?;
                peer.send(ALERT, &CLOSE_NOTIFY)?;
            } else {
                for piece in answer().chunks(16_000) {
                    peer.send(DATA, piece)?;
                }
            }
            // The client closes.
            drop(record(&mut peer.socket));
            Ok(())
        });
        let outcome = read_with(server.source(&server.client()), options()).await;
        let stats = outcome.complete(Pattern::new(SEED), LENGTH);
        assert!(stats.retries >= 1, "{stats:?}");
    }
}

#[tokio::test]
async fn a_close_notify_ends_a_body_without_length_and_what_comes_after_it_is_ignored() {
    for (version, apart) in VERSIONS
        .into_iter()
        .flat_map(|version| [(version, false), (version, true)])
    {
        let server = Scripted::start(version, false, move |peer, _| {
            peer.request()?;
            let mut sealed = peer.here.seal(DATA, &head("Connection: close\r\n"));
            for piece in body().chunks(16_000) {
                sealed.extend(peer.here.seal(DATA, piece));
            }
            sealed.extend(peer.here.seal(ALERT, &CLOSE_NOTIFY));
            if apart {
                peer.socket.write_all(&sealed)?;
                sealed.clear();
                thread::sleep(Duration::from_millis(20));
            }
            sealed.extend(peer.here.seal(DATA, b"more"));
            peer.socket.write_all(&sealed)?;
            drop(record(&mut peer.socket));
            Ok(())
        });
        reads_well(&server, 1).await;
    }
}

/// What was received before the alert counts.
#[tokio::test]
async fn an_alert_in_a_body_is_a_broken_connection_that_goes_on_elsewhere() {
    for version in VERSIONS {
        let server = Scripted::start(version, false, |peer, number| {
            peer.request()?;
            if number == 0 {
                let mut sealed = peer.here.seal(DATA, &answer()[..10_000]);
                // internal_error
                sealed.extend(peer.here.seal(ALERT, &[2, 80]));
                peer.socket.write_all(&sealed)?;
            } else {
                for piece in answer().chunks(16_000) {
                    peer.send(DATA, piece)?;
                }
            }
            drop(record(&mut peer.socket));
            Ok(())
        });
        let outcome = read_with(server.source(&server.client()), options()).await;
        let stats = outcome.complete(Pattern::new(SEED), LENGTH);
        assert!(stats.retries >= 1, "{stats:?}");
    }
}

#[tokio::test]
async fn a_renegotiation_is_declined_and_the_body_goes_on() {
    let heard = Arc::<Mutex<Vec<_>>>::default();
    let server = Scripted::start(&TLS12, false, {
        let heard = Arc::clone(&heard);
        move |peer, _| {
            for exchange in 0.. {
                peer.request()?;
                let besides = std::mem::take(&mut peer.besides);
                heard.lock().expect("not poisoned").extend(besides);
                let answer = answer();
                let mut sealed = peer.here.seal(DATA, &answer[..10_000]);
                // A HelloRequest; a second one would end the connection.
                if exchange == 0 {
                    sealed.extend(peer.here.seal(HANDSHAKE, &[0, 0, 0, 0]));
                }
                for piece in answer[10_000..].chunks(16_000) {
                    sealed.extend(peer.here.seal(DATA, piece));
                }
                peer.socket.write_all(&sealed)?;
            }
            Ok(())
        }
    });
    reads_well(&server, 2).await;
    assert_eq!(server.connections(), 1);
    // no_renegotiation, a warning.
    assert_eq!(*heard.lock().expect("not poisoned"), [(ALERT, vec![1, 100])]);
}

#[tokio::test]
async fn tickets_that_come_late_leave_a_connection_quiet() {
    for parts in 1..=2 {
        let server = Scripted::start(&TLS13, false, move |peer, _| {
            loop {
                peer.request()?;
                for piece in answer().chunks(16_000) {
                    peer.send(DATA, piece)?;
                }
                thread::sleep(Duration::from_millis(20));
                let mut ticket = vec![4, 0, 0, 113];
                // Lifetime, age, nonce, a ticket of 100 bytes, no extensions.
                ticket.extend([0, 0, 14, 16, 1, 2, 3, 4, 0, 0, 100]);
                ticket.extend([7; 100]);
                ticket.extend([0, 0]);
                for part in ticket.chunks(ticket.len().div_ceil(parts)) {
                    peer.send(HANDSHAKE, part)?;
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        let client = server.client();
        for _ in 0..3 {
            let outcome = read_with(server.source(&client), patient()).await;
            let stats = outcome.complete(Pattern::new(SEED), LENGTH);
            assert_eq!((stats.requests, stats.retries), (1, 0), "{stats:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(server.connections(), 1, "in {parts} parts");
    }
}

/// Half a record on an idle connection would become the beginning of the next answer.
#[tokio::test]
async fn a_connection_with_half_a_record_is_not_used_again() {
    let server = Scripted::start(&TLS13, false, |peer, _| {
        peer.request()?;
        for piece in answer().chunks(16_000) {
            peer.send(DATA, piece)?;
        }
        let sealed = peer.here.seal(DATA, &answer()[..1000]);
        thread::sleep(Duration::from_millis(20));
        peer.socket.write_all(&sealed[..500])?;
        peer.request()?;
        peer.socket.write_all(&sealed[500..])
    });
    let client = server.client();
    for connections in 1..=3 {
        let outcome = read_with(server.source(&client), patient()).await;
        let stats = outcome.complete(Pattern::new(SEED), LENGTH);
        assert_eq!((stats.requests, stats.retries), (1, 0), "{stats:?}");
        assert_eq!(server.connections(), connections);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_record_that_is_too_long_is_refused() {
    // With more than 16 KiB in it, and longer than any may be.
    for (version, long) in VERSIONS
        .into_iter()
        .flat_map(|version| [(version, false), (version, true)])
    {
        let heard = Arc::<Mutex<Vec<_>>>::default();
        let server = Scripted::start(version, false, {
            let heard = Arc::clone(&heard);
            move |peer, _| {
                peer.request()?;
                peer.send(DATA, &answer()[..10_000])?;
                if long {
                    let [high, low] = (16 * 1024 + 2049_u16).to_be_bytes();
                    peer.socket.write_all(&[DATA, 3, 3, high, low])?;
                    peer.socket.write_all(&[7; 20_000])?;
                } else {
                    peer.send(DATA, &answer()[10_000..10_000 + 16 * 1024 + 1])?;
                }
                let (kind, content) = peer.there.open(&record(&mut peer.socket)?);
                heard.lock().expect("not poisoned").push((kind, content));
                Ok(())
            }
        });
        let outcome = read_with(server.source(&server.client()), options()).await;
        assert!(outcome.bytes.len() <= 10_000, "{} bytes", outcome.bytes.len());
        assert_eq!(Pattern::new(SEED).check(0, &outcome.bytes), Ok(()));
        let error = outcome.end.expect_err("it never comes");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.to_line());
        let heard = heard.lock().expect("not poisoned");
        assert!(!heard.is_empty());
        // record_overflow or decode_error
        for (kind, content) in &*heard {
            assert!(
                *kind == ALERT && matches!(content[..], [2, 22 | 50]),
                "{kind} {content:?}"
            );
        }
    }
}
