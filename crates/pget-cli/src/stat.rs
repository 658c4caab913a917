//! `pget stat`: size and revision.

use pget::{Error, ObjectInfo};

use crate::{args::Stat, output};

pub(crate) fn run(stat: &Stat) -> Result<(), Error> {
    let info = stat.object.builder(None).blocking()?.stat()?;
    let text = if stat.json { json(&info) } else { plain(&info) };
    output::print(&text)
}

fn json(info: &ObjectInfo) -> String {
    let revision = &info.revision;
    serde_json::json!({
        "size": info.size,
        "revision": {
            "etag": revision.etag,
            "version": revision.version,
            "checksum": revision.checksum.as_ref().map(|sum| serde_json::json!({ "algorithm": sum.algorithm, "value": sum.value })),
            "last_modified": revision.last_modified,
        },
        "chunk_size": info.chunk_hint,
        "ranges": info.ranges,
    })
    .to_string()
}

fn plain(info: &ObjectInfo) -> String {
    let size = info
        .size
        .map_or_else(|| "unknown".to_owned(), |size| format!("{size} bytes"));
    let mut text = format!("size: {size}\nrevision: {}", info.revision);
    if let Some(chunk) = info.chunk_hint {
        text.push_str(&format!("\nchunk size: {chunk} bytes"));
    }
    text
}
