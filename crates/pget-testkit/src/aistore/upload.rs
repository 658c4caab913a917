//! Uploads by parts, as a target of AIStore 5.0 does them.
//!
//! A target removes the content of a part that comes again, and completes the upload nevertheless.
//! Its GETs then end before that part. The stand-in refuses to complete the upload instead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::bucket::Bucket;
use super::failure::Failure;
use super::object::Object;
use super::wire::Answer;

/// Bucket and name of an object.
pub(super) type UniqueName = (Bucket, String);

#[derive(Debug, Default)]
struct Upload {
    parts: BTreeMap<u32, Bytes>,
    /// Parts that came twice.
    lost: BTreeSet<u32>,
}

/// The uploads that are neither complete nor aborted.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    begun: AtomicU64,
    open: Mutex<BTreeMap<(UniqueName, String), Upload>>,
}

fn missing(name: &UniqueName, id: &str) -> Failure {
    let message = format!("o[{}/{}(-)]: {id} does not exist", name.0.name, name.1);
    Failure::new(404, "ErrNotFound", message)
}

impl Uploads {
    /// Returns how many uploads are neither complete nor aborted.
    pub(super) fn open(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn begin(&self, name: UniqueName) -> String {
        let id = format!("mpt-{}", self.begun.fetch_add(1, Ordering::Relaxed));
        self.lock().insert((name, id.clone()), Upload::default());
        id
    }

    pub(super) fn put_part(
        &self,
        name: &UniqueName,
        id: &str,
        number: &str,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let full_name = format!("{}/{}", name.0.display(), name.1);
        let number: u32 = number.parse().map_err(|_| {
            let message = format!("{full_name}: invalid part number {number:?} for uploadID {id:?}");
            Failure::new(400, "", message)
        })?;
        let mut open = self.lock();
        let upload = open.get_mut(&(name.clone(), id.to_owned()));
        let upload = upload.ok_or_else(|| missing(name, id))?;
        if body.is_empty() {
            let message = format!("{full_name}: put-part invalid size (0)");
            return Err(Failure::new(400, "", message));
        }
        if upload.parts.insert(number, body).is_some() {
            upload.lost.insert(number);
        }
        Ok(Answer::new(200))
    }

    /// Returns the object that the parts make.
    pub(super) fn complete(&self, name: &UniqueName, id: &str, parts: &Value) -> Result<Object, Failure> {
        let key = (name.clone(), id.to_owned());
        let mut open = self.lock();
        let upload = open.get(&key).ok_or_else(|| missing(name, id))?;
        let asked: Vec<u64> = parts.as_array().map_or_else(Vec::new, |parts| {
            let numbers = parts.iter().filter_map(|part| part["part-number"].as_u64());
            numbers.collect()
        });
        let refused = |message: String| Err(Failure::new(400, "", message));
        let count = upload.parts.len();
        if count == 0 {
            return refused("no chunks".into());
        }
        let wrong = (1..).zip(upload.parts.keys()).find(|(want, have)| want != *have);
        if let Some((want, have)) = wrong {
            let at = want - 1;
            return refused(format!(
                "chunk at ({at}) has invalid number {have} (count={count})"
            ));
        }
        if asked.len() != count {
            let asked = asked.len();
            return refused(format!(
                "partial completion is not allowed: requested {asked} parts, have {count}"
            ));
        }
        if let Some(lost) = upload.lost.first() {
            let message = format!("{}.{id}.{lost:04}: chunk does not exist", name.1);
            return Err(Failure::new(500, "PathError", message));
        }
        let Some(upload) = open.remove(&key) else {
            return Err(missing(name, id));
        };
        let sizes: Vec<u64> = upload.parts.values().map(|part| part.len() as u64).collect();
        let mut bytes = BytesMut::new();
        for part in upload.parts.values() {
            bytes.extend_from_slice(part);
        }
        Ok(Object::bytes(bytes.freeze()).with_chunks(sizes))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(UniqueName, String), Upload>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn abort(&self, name: &UniqueName, id: &str) -> Result<Answer, Failure> {
        let removed = self.lock().remove(&(name.clone(), id.to_owned()));
        removed.map(|_| Answer::new(200)).ok_or_else(|| {
            let message = format!(
                "failed to load partial chunk-manifest[{}/{}, id={id}]",
                name.0.display(),
                name.1
            );
            Failure::new(404, "wrapError", message)
        })
    }
}
