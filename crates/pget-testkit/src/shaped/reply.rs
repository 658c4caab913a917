//! The answer to a request: its head, and the bytes of the object that follow.

use std::{ops::Range, sync::Arc};

use super::{
    content::{Content, Objects},
    request::{self, Request},
};

/// Returns the head of the answer, and the bytes of the object that follow it.
pub(super) fn reply(request: &Request, objects: &Objects) -> (Vec<u8>, Range<u64>, Option<Arc<Content>>) {
    let name = request.path.split('?').next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default();
    let Some((total, content)) = objects.find(name) else {
        let head = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        return (head.into(), 0..0, None);
    };
    let etag = format!("\"shaped-{total}\"");
    if request
        .if_match
        .as_ref()
        .is_some_and(|wanted| wanted != "*" && *wanted != etag)
    {
        let head = "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n";
        return (head.into(), 0..0, None);
    }
    let (status, range) = match request::range(request.range.as_deref(), total) {
        Ok(None) => ("200 OK\r\n".to_owned(), 0..total),
        Ok(Some(range)) => {
            let last = range.end - 1;
            let text = format!(
                "206 Partial Content\r\nContent-Range: bytes {}-{last}/{total}\r\n",
                range.start
            );
            (text, range)
        }
        Err(()) => {
            let head = format!(
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            return (head.into_bytes(), 0..0, None);
        }
    };
    let head = format!(
        "HTTP/1.1 {status}Content-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\n\
         ETag: {etag}\r\nLast-Modified: Sun, 29 Nov 2026 10:00:00 GMT\r\nContent-Length: {}\r\n\r\n",
        range.end - range.start
    );
    let range = if request.head { 0..0 } else { range };
    (head.into_bytes(), range, Some(Arc::clone(content)))
}
