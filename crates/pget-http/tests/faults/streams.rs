//! All of an object at concurrency 1: one plain GET without a range, so that there is no range for its answer to lie about. What the body and the
//! headers can still do, and what nobody can tell.

use std::time::Duration;

use pget_core::ErrorKind;
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
};

use crate::{SEED, SIZE, Shape, fails_as, object, once, options, read_with, source, survives_as, with};

const WHOLE: [Shape; 1] = [Shape::Whole];

#[tokio::test]
async fn a_plain_stream_that_breaks_goes_on_at_the_byte_reached() {
    // Cases 19, 22, 24, 25, 30, 32.
    for fault in [
        Fault::Reset { after: 50_000 },
        Fault::Fin { after: 50_000 },
        Fault::Stall { after: 50_000 },
        Fault::Stall { after: 0 },
        Fault::StallBeforeHead,
        Fault::Empty,
        Fault::ResetBeforeHead,
        Fault::status(500),
        Fault::throttle(503, "0"),
        Fault::Drip {
            bytes: 1,
            every: Duration::from_millis(50),
            chunked: false,
        },
    ] {
        let stats = survives_as(&WHOLE, once(When::First, fault)).await;
        assert!(stats.one_stream && stats.retries >= 1, "{stats:?}");
    }
    // The rest is asked for as a range, whose answer can be short.
    survives_as(&WHOLE, once(When::Later, Fault::ShortLength { by: 5 })).await;
    survives_as(&WHOLE, once(When::Later, Fault::ShortChunked { by: 5 })).await;
    survives_as(&WHOLE, once(When::Later, Fault::RangeIgnored)).await;
}

#[tokio::test]
async fn a_plain_stream_is_refused_where_its_answer_is_none() {
    // Cases 4, 6, 7, 11, 12, 23, 33, 34, 39 to 41, 45.
    for (when, fault, kind) in [
        (
            When::Later,
            Fault::ContentEncoding("gzip".into()),
            ErrorKind::Protocol,
        ),
        (When::Always, Fault::status(403), ErrorKind::PermissionDenied),
        (When::Always, Fault::status(404), ErrorKind::NotFound),
        (When::Always, Fault::status(500), ErrorKind::Unavailable),
        (When::Always, Fault::StallBeforeHead, ErrorKind::Timeout),
        (
            When::Always,
            Fault::ContentLength("99999999999999999999999".into()),
            ErrorKind::Protocol,
        ),
        (When::Later, Fault::Shifted { by: 1 }, ErrorKind::Protocol),
        (When::Later, Fault::Extended { by: 1 }, ErrorKind::Protocol),
        (When::Later, Fault::NoContentRange, ErrorKind::Protocol),
        (When::Later, Fault::Multipart, ErrorKind::Protocol),
        // A stream takes a 200 for its rest, if it is of the same object: this one has another length.
        (When::Later, Fault::WrongOk, ErrorKind::ObjectChanged),
        (When::Later, Fault::LongLength { by: 3 }, ErrorKind::Protocol),
        (When::Later, Fault::LongChunked { by: 3 }, ErrorKind::Protocol),
        (When::Later, Fault::error_document(), ErrorKind::Protocol),
        (When::Later, Fault::status(404), ErrorKind::ObjectChanged),
        (When::Later, Fault::status(412), ErrorKind::ObjectChanged),
        (
            When::Later,
            Fault::Etag(Some("\"other\"".into())),
            ErrorKind::ObjectChanged,
        ),
    ] {
        // Nothing is moved where it would end behind the object: the rest of this stream would.
        let shapes = if let Fault::Shifted { .. } = fault {
            &[Shape::Part]
        } else {
            &WHOLE
        };
        fails_as(shapes, with(when, fault), kind).await;
    }
    let revision = Fault::Revision(Object::new(SEED + 1, SIZE));
    let route = with(When::Later, revision).ignoring_conditions();
    fails_as(&WHOLE, route, ErrorKind::ObjectChanged).await;
}

#[tokio::test]
async fn what_a_plain_answer_says_of_its_length_is_the_documented_limit() {
    // Cases 19 to 21 and 23: without a range and a total to hold it against, the length of an answer is the object's. Only a checksum could tell.
    for (fault, size) in [
        (Fault::ShortLength { by: 5 }, SIZE - 5),
        (Fault::ShortChunked { by: 5 }, SIZE - 5),
        (Fault::ShortClosed { by: 5 }, SIZE - 5),
        (Fault::LongLength { by: 3 }, SIZE + 3),
        (Fault::LongChunked { by: 3 }, SIZE + 3),
    ] {
        let server = Hostile::start().expect("a server");
        let url = server.route("/o", Route::new(object()).fault(When::Always, fault));
        let mut options = options();
        options.concurrency = Some(1);
        read_with(source(&url), options)
            .await
            .complete(Pattern::new(SEED), size);
        assert_eq!(server.served("/o"), 1);
    }
}
