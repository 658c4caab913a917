//! Twenty-nine lies of a server about ranges, bodies and versions, for any reader to detect.
//!
//! A reader needs no checksum to detect any of them.

use super::{Fault, Object, Route, When};

/// A case of [`lies`].
#[derive(Clone, Debug)]
pub struct Lie {
    /// Its number in the catalogue of faults.
    pub case: u32,
    /// The server's behaviour.
    pub name: &'static str,
    /// The route that serves the object with the lie.
    pub route: Route,
    /// Whether a reader that retries can still obtain all bytes of the object.
    pub survivable: bool,
}

/// Returns the lies about the object of this seed and size.
///
/// Where possible, a lie concerns answers for later bytes, so that it misleads a reader that trusts
/// its first answer. `unit` is about a quarter of the bytes that a reader requests at a time.
pub fn lies(seed: u64, size: u64, unit: u64) -> Vec<Lie> {
    let object = Object::new(seed, size);
    let other = Object::new(seed + 1, size);
    let plain = || Route::new(object.clone());
    let later = |fault| plain().fault(When::Later, fault);
    let label = |value: &str| later(Fault::content_range(value));
    let lie = |case, name, survivable, route| Lie {
        case,
        name,
        route,
        survivable,
    };
    let shrunk = Object {
        size: size - unit,
        etag: object.etag.clone(),
        ..other.clone()
    };
    let longer = format!("bytes {{start}}-{{end}}/{}", size + 1);
    vec![
        lie(
            1,
            "every range ignored, 200",
            true,
            plain().fault(When::Always, Fault::RangeIgnored),
        ),
        lie(2, "later ranges ignored, 200", false, later(Fault::RangeIgnored)),
        lie(
            2,
            "200 as long as the range, bytes from 0",
            false,
            later(Fault::WrongOk),
        ),
        lie(
            4,
            "another range of equal length",
            false,
            later(Fault::Shifted { by: unit }),
        ),
        lie(
            5,
            "ranges clipped",
            true,
            plain().fault(When::Always, Fault::Clipped { length: unit }),
        ),
        lie(
            6,
            "ranges extended by a byte",
            false,
            later(Fault::Extended { by: 1 }),
        ),
        lie(
            7,
            "206 without Content-Range",
            false,
            later(Fault::NoContentRange),
        ),
        lie(8, "total unknown (*)", true, label("bytes {start}-{end}/*")),
        lie(9, "total a byte larger", false, label(&longer)),
        lie(
            10,
            "Content-Range ends at u64::MAX",
            false,
            label("bytes {start}-18446744073709551615/*"),
        ),
        lie(
            10,
            "two Content-Ranges",
            false,
            later(Fault::ContentRange(vec![
                "bytes {start}-{end}/{total}".into(),
                "bytes 0-1/{total}".into(),
            ])),
        ),
        lie(
            11,
            "multipart/byteranges for one range",
            false,
            later(Fault::Multipart),
        ),
        lie(
            12,
            "Content-Encoding: gzip on a range",
            false,
            later(Fault::ContentEncoding("gzip".into())),
        ),
        lie(
            14,
            "416 inside the object",
            false,
            later(Fault::unsatisfiable(Some(unit))),
        ),
        lie(
            19,
            "short body with its own length",
            false,
            later(Fault::ShortLength { by: 5 }),
        ),
        lie(
            20,
            "short chunked body, ended properly",
            false,
            later(Fault::ShortChunked { by: 5 }),
        ),
        lie(
            21,
            "short body ended by the close",
            false,
            later(Fault::ShortClosed { by: 5 }),
        ),
        lie(
            22,
            "reset in mid body, twice",
            true,
            plain().fault(When::UpTo(2), Fault::Reset { after: unit }),
        ),
        lie(
            22,
            "closed in mid body, twice",
            true,
            plain().fault(When::UpTo(2), Fault::Fin { after: unit }),
        ),
        lie(
            23,
            "long body with its own length",
            false,
            later(Fault::LongLength { by: 3 }),
        ),
        lie(
            23,
            "long chunked body",
            false,
            later(Fault::LongChunked { by: 3 }),
        ),
        lie(
            23,
            "bytes after the body",
            true,
            plain().fault(When::Always, Fault::Excess { by: 9 }),
        ),
        lie(
            25,
            "stalls in mid body, twice",
            true,
            plain().fault(When::UpTo(2), Fault::Stall { after: unit }),
        ),
        lie(
            33,
            "200 with an error document",
            false,
            later(Fault::error_document()),
        ),
        lie(
            40,
            "overwritten, If-Match ignored",
            false,
            later(Fault::Revision(other.clone())).ignoring_conditions(),
        ),
        lie(
            41,
            "overwritten between a reset and the resume",
            false,
            plain()
                .ignoring_conditions()
                .fault_times(When::Always, 1, Fault::Reset { after: unit })
                .fault(When::AfterFault, Fault::Revision(other)),
        ),
        lie(
            47,
            "shrunk, the same ETag",
            false,
            later(Fault::Revision(shrunk)).ignoring_conditions(),
        ),
        lie(
            50,
            "HEAD says half",
            true,
            plain().fault(When::Head, Fault::HeadLength(size / 2)),
        ),
        lie(
            50,
            "HEAD says double",
            true,
            plain().fault(When::Head, Fault::HeadLength(size * 2)),
        ),
    ]
}
