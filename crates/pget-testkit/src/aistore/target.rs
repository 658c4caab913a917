//! A target: HEAD, GET, PUT and DELETE of its objects, and uploads by parts.

use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use super::bucket::{Bucket, decode_path, query_value};
use super::failure::Failure;
use super::fault::Node;
use super::object::Object;
use super::range::{self, Asked};
use super::shared::Shared;
use super::store::{ReadLock, Slot, Store, Stored};
use super::upload::UniqueName;
use super::wire::{Answer, Body, Request, Wire};

/// Largest object in bytes that PUT accepts.
const PUT_LIMIT: usize = 1 << 30;
/// Largest JSON of an action in bytes.
const MESSAGE_LIMIT: usize = 1 << 20;
/// The accepted values of `props`.
const PROPERTIES: [&str; 12] = [
    "name",
    "size",
    "version",
    "checksum",
    "atime",
    "copies",
    "ec",
    "custom",
    "location",
    "chunked",
    "last-modified",
    "etag",
];

/// A target's reaction to a request.
pub(super) enum Reaction {
    Answer(Answer),
    /// An answer to a GET of a cold object. When the answer ends, complete or not, the object has
    /// arrived.
    Streaming(Answer, Arriving),
    /// The connection ends without an answer.
    Hangup,
}

/// Marks its object as present when it is dropped.
pub(super) struct Arriving(Arc<Store>, Bucket, String);

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.arrived(&self.1, &self.2);
    }
}

/// A request for an object at a target.
struct Asking<'a> {
    shared: &'a Shared,
    index: usize,
    request: &'a Request,
    bucket: Bucket,
    name: String,
}

/// Answers a request at a target. `ignore_range` is a fault.
pub(super) async fn react(
    shared: &Shared,
    index: usize,
    request: &Request,
    ignore_range: bool,
    wire: &mut Wire,
) -> Result<Reaction, Failure> {
    let path = decode_path(&request.path).ok_or_else(|| Failure::new(400, "", "invalid URL path"))?;
    if path == "/v1/health" {
        return Ok(Reaction::Answer(Answer::new(200)));
    }
    let names = path
        .strip_prefix("/v1/objects/")
        .and_then(|names| names.split_once('/'));
    let Some((bucket, name)) = names.filter(|(_, name)| !name.is_empty()) else {
        return Err(Failure::new(400, "", format!("invalid URL path: {path}")));
    };
    let bucket = Bucket::of_request(bucket, &request.query)
        .map_err(|provider| Failure::new(400, "ErrInvalidBackendProvider", provider))?;
    let asking = Asking {
        shared,
        index,
        request,
        bucket,
        name: name.to_owned(),
    };
    asking.admit(&path)?;
    match request.method.as_str() {
        "HEAD" => asking.head().map(Reaction::Answer),
        "GET" => asking.get(ignore_range).await,
        "PUT" => asking.put(wire).await.map(Reaction::Answer),
        "DELETE" => asking.delete(wire).await.map(Reaction::Answer),
        "POST" => asking.act(wire).await.map(Reaction::Answer),
        method => Err(Failure::new(405, "", format!("invalid method '{method}'"))),
    }
}

impl Asking<'_> {
    /// Checks that the request comes from a redirect, if the cluster requires that.
    fn admit(&self, path: &str) -> Result<(), Failure> {
        let mark = |name| query_value(&self.request.query, name);
        let marked = mark("pid").is_some() && mark("utm").is_some();
        let protected = self.shared.options.signing || self.shared.required_token().is_some();
        let writes = matches!(self.request.method.as_str(), "PUT" | "DELETE" | "POST");
        if !marked && protected {
            return Err(Failure::new(403, "", "direct target access denied"));
        }
        if !marked && writes {
            let (node, method) = (self.node(), &self.request.method);
            let message = format!("{node}: {method}(obj) is expected to be redirected");
            return Err(Failure::new(400, "", message));
        }
        let nonce = mark("x").unwrap_or_default();
        if self.shared.options.signing && mark("u") != Some(self.shared.signature(path, &nonce)) {
            return Err(Failure::new(401, "", "invalid request signature"));
        }
        Ok(())
    }

    fn node(&self) -> &str {
        self.shared.printed(Node::Target(self.index))
    }

    fn full_name(&self) -> String {
        format!("{}/{}", self.bucket.display(), self.name)
    }

    fn missing(&self) -> Failure {
        if !self.request.is_head() && self.shared.store.is_folder(&self.bucket, &self.name) {
            let message = format!("{}, err: no data available", self.full_name());
            return Failure::new(500, "ErrLmetaNotFound", message);
        }
        let message = format!("{}: {} does not exist", self.node(), self.full_name());
        Failure::new(404, "ErrNotFound", message)
    }

    /// Calls `look` with the object's slot, if the object is on this target.
    fn slot<T>(&self, look: impl FnOnce(&mut Slot) -> T) -> Result<T, Failure> {
        let here = |slot: &mut Slot| (slot.target == self.index).then(|| look(slot));
        self.shared
            .store
            .with(&self.bucket, &self.name, here)
            .flatten()
            .ok_or_else(|| self.missing())
    }

    fn head(&self) -> Result<Answer, Failure> {
        let (stored, present) = self.slot(|slot| (Arc::clone(&slot.stored), slot.is_present()))?;
        let asked = query_value(&self.request.query, "props");
        let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
            return Ok(self.old_head(&stored, present));
        };
        let properties: Vec<&str> = asked.split(',').map(str::trim).collect();
        let answer = Answer::new(200)
            .body(Body::Bare)
            .with("Ais-Present", present.to_string());
        if let Some(unknown) = properties.iter().find(|name| !PROPERTIES.contains(name)) {
            let message = format!("invalid property \"{unknown}\" in props list");
            let mut failure = Failure::new(400, "", message).answer(self.node(), self.request);
            failure.headers.insert(0, ("Ais-Present", present.to_string()));
            return Ok(failure);
        }
        let mut answer = answer.with("Content-Length", stored.object.size().to_string());
        let chunks = &stored.object.chunks;
        for property in properties {
            answer = match property {
                "version" => answer.with("Ais-Version", stored.version.to_string()),
                "checksum" => with_checksum(answer, &stored),
                "atime" => answer.with("Ais-Atime", stored.accessed.to_string()),
                "copies" => self.with_copies(answer, false),
                "location" => answer.with("Ais-Location", self.location()),
                "last-modified" => answer.with("Last-Modified", httpdate::fmt_http_date(stored.modified)),
                "chunked" if !chunks.is_empty() => {
                    answer.with("Ais-Chunks-Count", chunks.len().to_string()).with(
                        "Ais-Chunks-Max-Chunk-Size",
                        chunks.iter().max().map_or(0, |max| *max).to_string(),
                    )
                }
                "etag" => match &stored.etag {
                    Some(etag) => answer.with("Etag", etag.clone()),
                    None => answer,
                },
                // A real target accepts `name` without an effect. `ec` and `custom` have no effect
                // on this object.
                _ => answer,
            };
        }
        Ok(answer)
    }

    /// Returns the answer to HEAD without `props`. It has no `Content-Length` for an empty object.
    fn old_head(&self, stored: &Stored, present: bool) -> Answer {
        let answer = Answer::new(200)
            .body(Body::Bare)
            .with("Ais-Atime", stored.accessed.to_string())
            .with("Ais-Bucket-Name", self.bucket.name.clone())
            .with("Ais-Bucket-Provider", self.bucket.provider.clone());
        let answer = with_checksum(answer, stored).with("Ais-Location", self.location());
        let answer = self
            .with_copies(answer, true)
            .with("Ais-Name", self.name.clone())
            .with("Ais-Present", present.to_string())
            .with("Ais-Version", stored.version.to_string());
        match stored.object.size() {
            0 => answer,
            size => answer.with("Content-Length", size.to_string()),
        }
    }

    fn mountpath(&self) -> String {
        format!("/data/mp{0}/{0}", self.index + 1)
    }

    fn location(&self) -> String {
        format!("{}:mp[{}, vda, hdd]", self.node(), self.mountpath())
    }

    fn with_copies(&self, answer: Answer, bracketed: bool) -> Answer {
        let path = self.mountpath();
        let paths = if bracketed { format!("[{path}]") } else { path };
        answer
            .with("Ais-Mirror-Copies", "1")
            .with("Ais-Mirror-Paths", paths)
    }

    async fn get(&self, ignore_range: bool) -> Result<Reaction, Failure> {
        let query = |name| query_value(&self.request.query, name).filter(|value| !value.is_empty());
        let asked = self.request.header("range").filter(|_| !ignore_range);
        if let Some(path) = query("archpath") {
            return self.member(&path, asked).map(Reaction::Answer);
        }
        if query("etl_name").is_some() {
            return self.transformed().map(Reaction::Answer);
        }
        if self.request.header("ais-blob-download") == Some("true") {
            return self.blob();
        }
        self.slot(|_| ())?;
        if query("latest-ver").as_deref() == Some("true") {
            self.shared.ledger.count(|counts| counts.latest_checks += 1);
        }
        let limit = self.shared.options.cold_get_conflict;
        if !self.shared.store.arrive(&self.bucket, &self.name, limit).await {
            return Err(Failure::busy(self.node(), &self.full_name()));
        }
        let (stored, lock) = self.slot(|slot| (Arc::clone(&slot.stored), slot.lock.read()))?;
        match asked {
            None => Ok(Reaction::Answer(whole(stored, lock))),
            Some(header) => self.ranged(header, stored, lock),
        }
    }

    fn ranged(&self, header: &str, stored: Arc<Stored>, lock: ReadLock) -> Result<Reaction, Failure> {
        let size = stored.object.size();
        match range::parse(header, size) {
            Asked::Bytes(range) => Ok(Reaction::Answer(self.part(stored, range, lock))),
            Asked::Nothing => {
                lock.wedge();
                Ok(Reaction::Hangup)
            }
            Asked::Malformed(message) => Err(Failure::new(416, "", message)),
            Asked::Several => {
                let name = self.full_name();
                let message = format!("cannot multi-range read {name} - operation not supported");
                Err(Failure::new(416, "ErrUnsupp", message))
            }
            Asked::Unsatisfiable(ranges) => {
                let message = format!("size={size}: not satisfiable range [{ranges}]");
                let failure = Failure::new(416, "ErrRangeNotSatisfiable", message);
                let mut answer = failure.answer(self.node(), self.request);
                answer
                    .headers
                    .insert(0, ("Content-Range", format!("bytes */{size}")));
                Ok(Reaction::Answer(answer))
            }
        }
    }

    fn part(&self, stored: Arc<Stored>, range: Range<u64>, lock: ReadLock) -> Answer {
        self.shared.ledger.count(|counts| counts.ranges += 1);
        let (size, length) = (stored.object.size(), range.end - range.start);
        let status = if self.shared.options.before_4_1 { 200 } else { 206 };
        let answer = Answer::new(status)
            .with("Accept-Ranges", "bytes")
            .with("Ais-Atime", stored.accessed.to_string());
        let answer = if stored.range_checksums && length < size {
            let checksum = stored.object.hash(&stored.checksum_kind, range.start, length);
            match checksum {
                Some(sum) => answer
                    .with("Ais-Checksum-Type", sum.kind)
                    .with("Ais-Checksum-Value", sum.value),
                None => answer,
            }
        } else {
            with_checksum(answer, &stored)
        };
        answer
            .with("Ais-Version", stored.version.to_string())
            .with("Content-Length", length.to_string())
            .with("Content-Range", range::content_range(&range, size))
            .with("Content-Type", "application/octet-stream")
            .body(Body::Content(stored, range, lock))
    }

    fn member(&self, path: &str, range: Option<&str>) -> Result<Answer, Failure> {
        if let Some(range) = range {
            let why =
                format!("cannot range-read archived content range: {range}, arch query: (archpath={path})");
            return Err(Failure::new(
                400,
                "ErrUnsupp",
                format!("{why} - operation not supported"),
            ));
        }
        let member = self.slot(|slot| slot.stored.object.member.clone())?;
        let found = member.filter(|(name, _)| name == path).ok_or_else(|| {
            let message = format!("{}: {path} in {} does not exist", self.node(), self.full_name());
            Failure::new(404, "ErrNotFound", message)
        })?;
        Ok(Answer::new(200)
            .with("Content-Type", "application/octet-stream")
            .body(Body::Bytes(found.1)))
    }

    /// Returns a transform of the object.
    ///
    /// The stand-in's transform is the object itself, with neither length nor identity.
    fn transformed(&self) -> Result<Answer, Failure> {
        let (stored, lock) = self.slot(|slot| (Arc::clone(&slot.stored), slot.lock.read()))?;
        let all = 0..stored.object.size();
        Ok(Answer::new(200)
            .with("Content-Type", "application/octet-stream")
            .body(Body::Chunked(stored, all, lock)))
    }

    fn blob(&self) -> Result<Reaction, Failure> {
        if self.bucket.is_ais() {
            let bucket = self.bucket.display();
            let message = format!("blob-downloader is not supported for local buckets: {bucket}");
            return Err(Failure::new(400, "", message));
        }
        let hold = |slot: &mut Slot| (Arc::clone(&slot.stored), slot.lock.read(), slot.is_present());
        let (stored, lock, present) = self.slot(hold)?;
        if present {
            return Ok(Reaction::Answer(whole(stored, lock)));
        }
        if !self.shared.store.begin_stream(&self.bucket, &self.name) {
            return Err(Failure::busy(self.node(), &self.full_name()));
        }
        let arriving = Arriving(
            Arc::clone(&self.shared.store),
            self.bucket.clone(),
            self.name.clone(),
        );
        Ok(Reaction::Streaming(whole(stored, lock), arriving))
    }

    async fn put(&self, wire: &mut Wire) -> Result<Answer, Failure> {
        let body = wire.body(self.request, PUT_LIMIT).await.ok().flatten();
        let body = body.ok_or_else(|| Failure::new(400, "", "failed to receive the object"))?;
        if let Some(id) = query_value(&self.request.query, "uploadId") {
            let number = query_value(&self.request.query, "partNumber").unwrap_or_default();
            let uploads = &self.shared.uploads;
            return uploads.put_part(&self.unique_name(), &id, &number, body);
        }
        self.unread().await;
        if !self
            .shared
            .store
            .put(&self.bucket, &self.name, Object::bytes(body))
        {
            let message = format!("bucket \"{}\" does not exist", self.bucket.display());
            return Err(Failure::new(404, "ErrBckNotFound", message));
        }
        let stored = self.slot(|slot| Arc::clone(&slot.stored))?;
        let answer = Answer::new(200).with("Ais-Atime", stored.accessed.to_string());
        Ok(with_checksum(answer, &stored).with("Ais-Version", stored.version.to_string()))
    }

    /// Returns the name that no other object of the cluster has.
    fn unique_name(&self) -> UniqueName {
        (self.bucket.clone(), self.name.clone())
    }

    /// Returns the JSON of an action, or null without one.
    async fn message(&self, wire: &mut Wire) -> Value {
        let body = wire.body(self.request, MESSAGE_LIMIT).await.ok().flatten();
        serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default()
    }

    async fn act(&self, wire: &mut Wire) -> Result<Answer, Failure> {
        let message = self.message(wire).await;
        let id = query_value(&self.request.query, "uploadId").unwrap_or_default();
        let uploads = &self.shared.uploads;
        match message["action"].as_str() {
            Some("mpt-upload") => {
                let id = uploads.begin(self.unique_name());
                let answer = Answer::new(200).with("Content-Type", "text/plain; charset=utf-8");
                Ok(answer.body(Body::Bytes(id.into())))
            }
            Some("mpt-complete") => {
                let object = uploads.complete(&self.unique_name(), &id, &message["value"])?;
                self.unread().await;
                self.shared.store.put(&self.bucket, &self.name, object);
                Ok(Answer::new(200))
            }
            action => Err(Failure::new(400, "", format!("invalid action '{action:?}'"))),
        }
    }

    async fn delete(&self, wire: &mut Wire) -> Result<Answer, Failure> {
        if self.message(wire).await["action"] == "mpt-abort" {
            let id = query_value(&self.request.query, "uploadId").unwrap_or_default();
            return self.shared.uploads.abort(&self.unique_name(), &id);
        }
        self.unread().await;
        let gone = |_| Failure::new(404, "", format!("{} doesn't exist", self.full_name()));
        self.slot(|_| ()).map_err(gone)?;
        self.shared.store.delete(&self.bucket, &self.name);
        Ok(Answer::new(200))
    }

    /// Waits for the object's readers, as each write does.
    async fn unread(&self) {
        if let Ok(unread) = self.slot(|slot| slot.lock.unread()) {
            unread.await;
        }
    }
}

fn whole(stored: Arc<Stored>, lock: ReadLock) -> Answer {
    let size = stored.object.size();
    let answer = Answer::new(200).with("Ais-Atime", stored.accessed.to_string());
    with_checksum(answer, &stored)
        .with("Ais-Version", stored.version.to_string())
        .with("Content-Length", size.to_string())
        .with("Content-Type", "application/octet-stream")
        .body(Body::Content(stored, 0..size, lock))
}

fn with_checksum(answer: Answer, stored: &Stored) -> Answer {
    match &stored.checksum {
        Some(sum) => answer
            .with("Ais-Checksum-Type", sum.kind.clone())
            .with("Ais-Checksum-Value", sum.value.clone()),
        None => answer,
    }
}
