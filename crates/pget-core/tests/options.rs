//! Invalid options are refused before any request.

use std::time::Duration;

use pget_core::{Download, ErrorKind, Options};
use pget_testkit::sources::{Object, Staged};

/// Makes options unusable.
type Spoil = fn(&mut Options);

#[test]
fn case_57_options_out_of_range_are_refused() {
    let wrong: [(&str, Spoil); 16] = [
        ("chunk_size", |options| options.chunk_size = Some(0)),
        ("chunk_size", |options| options.chunk_size = Some((1 << 30) + 1)),
        ("concurrency", |options| options.concurrency = Some(0)),
        ("concurrency", |options| options.concurrency = Some(1025)),
        ("window", |options| options.window = Some(0)),
        ("window", |options| options.window = Some(65_537)),
        ("retries", |options| options.retries = Some(1001)),
        ("connect_timeout", |options| {
            options.deadlines.connect = Duration::ZERO
        }),
        ("first_byte_timeout", |options| {
            options.deadlines.first_byte = Duration::ZERO
        }),
        ("stall_timeout", |options| {
            options.deadlines.stall = Duration::ZERO
        }),
        ("stall_timeout", |options| options.deadlines.stall = Duration::MAX),
        ("retry_timeout", |options| options.retry_timeout = Duration::ZERO),
        ("retry_timeout", |options| options.retry_timeout = Duration::MAX),
        ("offset", |options| options.offset = u64::MAX),
        ("offset", |options| {
            (options.offset, options.length) = (2, Some(u64::MAX - 1))
        }),
        ("offset", |options| {
            (options.offset, options.length) = (u64::MAX - 1, Some(2))
        }),
    ];
    for (named, spoil) in wrong {
        let mut options = Options::default();
        spoil(&mut options);
        let error = Download::new(Staged::right(Object::new(1, 10)), options).expect_err(named);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_line().contains(named), "{}", error.to_line());
    }
    let mut options = Options::default();
    options.window = Some(1);
    assert!(
        Download::new(Staged::right(Object::new(1, 10)), options).is_ok(),
        "a window below the concurrency is small, not wrong"
    );
}
