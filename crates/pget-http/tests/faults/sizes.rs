//! Cases 53 to 56. Option values (57) are the core's to refuse.

use pget_core::{BufMut as _, Collector, ErrorKind, RangeRequest, RangeSource as _};
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
    modes::Expected,
};

use crate::{CHUNK, SEED, expected, fails, kinds, options, read_with, reads, source, with, within};

#[tokio::test]
async fn case_53_every_size_around_the_chunk_is_exact() {
    let server = Hostile::start().expect("a server");
    let sizes = [
        0,
        1,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        5 * CHUNK - 1,
        5 * CHUNK,
        5 * CHUNK + 3,
        3_000_000,
    ];
    for size in sizes {
        let path = format!("/{size}");
        let url = server.route(&path, Route::new(Object::new(SEED, size)));
        reads(&url, size).await;
        let mut options = options();
        options.chunk_size = Some(1 << 30);
        read_with(source(&url), options)
            .await
            .complete(Pattern::new(SEED), size);
    }
}

#[tokio::test]
async fn case_54_offsets_far_out_are_exact() {
    let server = Hostile::start().expect("a server");
    for size in [(4 << 30) + 5, (5 << 40) + 5, (1 << 53) + 5, u64::MAX - 1] {
        let path = format!("/{size}");
        let url = server.route(&path, Route::new(Object::new(SEED, size)));
        let mut options = options();
        options.offset = size - 250_000;
        let end = Expected {
            offset: size - 250_000,
            ..expected(250_000)
        };
        assert_eq!(kinds(source(&url), options, end).await, None);
    }
}

#[tokio::test]
async fn case_56_a_length_to_make_us_allocate_is_only_a_number() {
    for length in [
        "9223372036854775808",
        "18446744073709551615",
        "99999999999999999999999",
        "-1",
        "1e9",
    ] {
        fails(
            with(When::Always, Fault::ContentLength(length.into())),
            ErrorKind::Protocol,
        )
        .await;
    }
}

#[tokio::test]
async fn a_single_range_lands_where_it_belongs_and_its_writer_is_let_go() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(SEED, 1 << 20)));
    let source = source(&url);
    for (start, end) in [(0, 1), (5, 700_000), ((1 << 20) - 1, 1 << 20)] {
        let collector = Collector::new(RangeRequest::new(start, Some(end)));
        let writer = collector.writer().expect("nobody else writes");
        within(source.read(collector.request(), writer))
            .await
            .expect("it is served");
        assert_eq!(collector.bytes().len() as u64, end - start);
        assert_eq!(Pattern::new(SEED).check(start, &collector.bytes()), Ok(()));
        let again = collector.writer().expect("the writer was dropped");
        assert!(!again.has_remaining_mut());
    }
}
