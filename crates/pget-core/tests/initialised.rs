//! Case 132: safe code never sees or creates an uninitialised byte in the memory of a writer.
//!
//! The tests read every byte that they get. Valgrind reports a decision that depends on an
//! uninitialised byte, so another test runs them under it.

use std::{process::Command, sync::Arc};

use async_trait::async_trait;
use pget_core::{
    BufMut as _, ChunkWriter, Collector, Download, ErrorKind, ObjectInfo, Options, RangeRequest, RangeSource,
    Reply, Revision, SourceError, memory::PAGE,
};

fn reply(length: u64) -> Reply {
    Reply {
        start: 0,
        length: Some(length),
        total: Some(length),
        whole: false,
        revision: Revision {
            etag: Some("\"a\"".into()),
            ..Revision::default()
        },
        chunk_hint: None,
        checksum: None,
    }
}

/// Makes a decision for each byte, which valgrind checks.
fn look_at(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte > 100).count()
}

#[test]
fn case_132_what_a_writer_lends_is_initialised() {
    // The sizes are less than a page, a full page, and two pages.
    for size in [10, PAGE, 2 * PAGE] {
        let collector = Collector::new(RangeRequest::new(0, Some(size as u64)));
        let mut writer = collector.writer().expect("the first");
        writer.begin(reply(size as u64)).expect("it fits");
        // Put nothing, then a few bytes with `BufMut`, then as many bytes as fit.
        let failed = writer.put_with(size, |room| Err::<usize, _>(look_at(room)));
        assert_eq!(failed.map_err(|large| large == usize::MAX), Err(false));
        writer.put_slice(&[1, 2, 3]);
        while writer.remaining_mut() > 0 {
            let count = writer.put_with(usize::MAX, |room| {
                look_at(room);
                room.fill(7);
                Ok::<_, ()>(room.len())
            });
            assert!(count.is_ok_and(|count| count > 0));
        }
        drop(writer);
        let bytes = collector.bytes();
        assert_eq!((bytes.len(), &bytes[..3]), (size, &[1, 2, 3][..]));
        assert!(bytes[3..].iter().all(|byte| *byte == 7));
    }
}

/// A source that writes half of the writer's memory, and fails.
#[derive(Debug)]
struct Fails;

#[async_trait]
impl RangeSource for Fails {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        Err(SourceError::fatal(ErrorKind::NotFound, ""))
    }

    async fn read(&self, _: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        chunk.begin(reply(1000))?;
        chunk.put_with(1000, |room| {
            look_at(room);
            room[..500].fill(1);
            Err(SourceError::fatal(ErrorKind::Protocol, "half-way"))
        })?;
        Ok(())
    }

    fn name(&self) -> String {
        "fails".into()
    }
}

#[tokio::test]
async fn case_132_the_callers_buffer_is_initialised_after_a_failure() {
    let download = Download::new(Arc::new(Fails), Options::default()).expect("sound options");
    let (result, buffer) = download.read_into(vec![0; 1000]).await;
    assert_eq!(result.expect_err("it fails").kind(), ErrorKind::Protocol);
    assert!(look_at(&buffer.expect("it is back")) <= 1000);
}

#[test]
fn case_132_under_valgrind() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: there is no valgrind");
        return;
    }
    let output = Command::new("valgrind")
        .args(["--quiet", "--error-exitcode=99"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["case_132_what", "case_132_the", "--test-threads=1"])
        .output()
        .expect("valgrind starts");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {report}", output.status);
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("2 passed"),
        "{report}"
    );
}
