//! Lists of a bucket, page by page.
//!
//! AIStore lists names that begin with a text, and all that lie below a folder.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use pget_aistore::{Continuation, Entry, Listing, Page};

use super::super::super::object_store::{
    self, ListResult, ObjectMeta, Result,
    list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore},
    path::Path,
};
use super::{AistoreStore, Patience, STORE, meta};

/// What separates folders.
const DELIMITER: &str = "/";

/// Entries of a page of AIStore.
const LARGEST_PAGE: usize = 10_000;

impl AistoreStore {
    async fn page(&self, listing: &Listing, after: Option<Continuation>) -> Result<Page> {
        let (objects, listing) = (Arc::clone(&self.objects), listing.clone());
        let attempt = move |_| {
            let (objects, listing, after) = (Arc::clone(&objects), listing.clone(), after.clone());
            async move { objects.list(&listing, after.as_ref()).await }
        };
        self.ask(&Path::default(), Patience::AGAIN, attempt).await
    }

    /// Lists everything below `prefix` that comes after `offset`.
    pub(super) fn list_below(
        &self,
        prefix: Option<&Path>,
        offset: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let listing = Listing {
            prefix: folder(prefix),
            start_after: offset.map(ToString::to_string),
            ..Listing::default()
        };
        let offset = offset.cloned();
        let store = self.clone();
        stream::try_unfold(Some(None), move |after| {
            let (store, listing, offset) = (store.clone(), listing.clone(), offset.clone());
            async move {
                let Some(after) = after else {
                    return Ok::<_, object_store::Error>(None);
                };
                let page = store.page(&listing, after).await?;
                let next = page.next.clone().map(Some);
                let metas: Vec<_> = page.entries.iter().map(listed).collect();
                let is_after = move |meta: &Result<ObjectMeta>| match (meta, &offset) {
                    (Ok(meta), Some(offset)) => meta.location > *offset,
                    _ => true,
                };
                Ok(Some((stream::iter(metas.into_iter().filter(is_after)), next)))
            }
        })
        .try_flatten()
        .boxed()
    }

    /// Lists what lies in the folder `prefix` itself.
    pub(super) async fn list_folder(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut group = self.group(&folder(prefix), None, usize::MAX).await?;
        // An object of the folder's own name lies beside it.
        group.objects.retain(|meta| Some(&meta.location) != prefix);
        Ok(result!(ListResult {
            common_prefixes: group.folders()?,
            objects: group.objects
        }))
    }

    /// Lists at most `most` names that begin with `prefix` and come after `start_after`. A name
    /// that has a `/` after the prefix is represented by its folder.
    ///
    /// AIStore has such a list, too. It has the folders of objects that were removed, as well.
    async fn group(&self, prefix: &str, start_after: Option<String>, most: usize) -> Result<Group> {
        let mut listing = Listing {
            prefix: prefix.to_owned(),
            start_after,
            page_size: if most < LARGEST_PAGE { most } else { 0 },
        };
        let mut group = Group::default();
        let mut after = None;
        loop {
            let page = self.page(&listing, after).await?;
            for entry in &page.entries {
                let below = entry.name.strip_prefix(prefix).unwrap_or_default();
                let folder = below
                    .find(DELIMITER)
                    .map(|end| prefix.to_owned() + &below[..=end]);
                listing.start_after = Some(match &folder {
                    Some(folder) => format!("{folder}{}", char::MAX),
                    None => entry.name.clone(),
                });
                match folder {
                    Some(folder) => _ = group.folders.insert(folder),
                    None => group.objects.push(listed(entry)?),
                }
                if group.objects.len() + group.folders.len() >= most {
                    group.next = listing.start_after;
                    return Ok(group);
                }
            }
            let Some(next) = page.next else {
                return Ok(group);
            };
            // What else lies in the last folder is passed over, if the provider can.
            after = (!self.can_start_after()).then_some(next);
        }
    }

    /// Buckets of other providers list from their beginning, or from the end of a page.
    fn can_start_after(&self) -> bool {
        self.objects.bucket().provider == "ais"
    }
}

/// A part of a list of a folder.
#[derive(Default)]
struct Group {
    objects: Vec<ObjectMeta>,
    /// Their names end in `/`.
    folders: BTreeSet<String>,
    /// Where the list continues.
    next: Option<String>,
}

impl Group {
    fn folders(&self) -> Result<Vec<Path>> {
        let folders = self.folders.iter();
        folders.map(|name| Ok(Path::parse(name)?)).collect()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl PaginatedListStore for AistoreStore {
    /// Lists a page. Only buckets of AIStore itself have a delimiter, which must be `/`, and an
    /// offset.
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        opts: PaginatedListOptions,
    ) -> Result<PaginatedListResult> {
        let prefix = prefix.unwrap_or_default();
        let delimiter = opts.delimiter.as_deref().unwrap_or_default();
        if !matches!(delimiter, "" | DELIMITER) {
            let source = format!("AIStore has no delimiter {delimiter:?}, only {DELIMITER:?}").into();
            return Err(object_store::Error::NotSupported { source });
        }
        if (!delimiter.is_empty() || opts.offset.is_some()) && !self.can_start_after() {
            let source = "only buckets of AIStore itself have pages with a delimiter or an offset";
            return Err(object_store::Error::NotSupported {
                source: source.into(),
            });
        }
        if !delimiter.is_empty() {
            let most = opts.max_keys.unwrap_or(LARGEST_PAGE);
            let group = self.group(prefix, opts.page_token.or(opts.offset), most).await?;
            return Ok(PaginatedListResult {
                result: result!(ListResult {
                    common_prefixes: group.folders()?,
                    objects: group.objects
                }),
                page_token: group.next,
            });
        }
        let after = opts.page_token.as_deref().map(str::parse::<Continuation>);
        let after = after.transpose().map_err(|error| object_store::Error::Generic {
            store: STORE,
            source: error.into(),
        })?;
        let listing = Listing {
            prefix: prefix.to_owned(),
            start_after: opts.offset,
            page_size: opts.max_keys.unwrap_or(0),
        };
        let page = self.page(&listing, after).await?;
        let objects = page.entries.iter().map(listed).collect::<Result<_>>()?;
        Ok(PaginatedListResult {
            result: result!(ListResult {
                common_prefixes: Vec::new(),
                objects
            }),
            page_token: page.next.map(|next| next.to_string()),
        })
    }
}

/// A prefix is a folder here, and the beginning of a name there.
fn folder(prefix: Option<&Path>) -> String {
    let prefix = prefix.map(ToString::to_string).unwrap_or_default();
    if prefix.is_empty() {
        return prefix;
    }
    prefix + DELIMITER
}

fn listed(entry: &Entry) -> Result<ObjectMeta> {
    Ok(meta(Path::parse(&entry.name)?, entry))
}
