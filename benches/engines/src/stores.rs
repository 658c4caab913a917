//! The stores that are compared. A store is a word and an address: `bare` and `pget` are
//! `HttpStore` at a base URL, `aistore` is the bucket `engines` of the cluster at an endpoint.

use std::{collections::BTreeMap, path::Path as Folder, sync::Arc};

use datafusion::object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt as _,
    http::{HttpBuilder, HttpStore},
    path::Path,
};
use pget_aistore::{Bucket, Config};
use pget_http::{Client, ClientOptions as PgetClientOptions};
use pget_object_store::{
    Options,
    v0_13::{AistoreStore, PgetStore},
};
use tokio::runtime::Builder;

use crate::Failure;

/// The bucket that holds the tables.
pub const BUCKET: &str = "engines";

/// Makes a store. `options` are those of pget's stores.
pub fn open(store: &str, address: &str, options: Options) -> Result<Arc<dyn ObjectStore>, Failure> {
    Ok(match store {
        "bare" => Arc::new(http(address)?),
        "pget" => {
            let store = PgetStore::new(http(address)?).with_options(options)?;
            match std::env::var("RUNTIME").unwrap_or_default().as_str() {
                "" => Arc::new(store),
                "own" => {
                    let own = Builder::new_multi_thread()
                        .worker_threads(1)
                        .enable_all()
                        .build()?;
                    let store = store.with_runtime(own.handle().clone());
                    // It lives as long as the process does.
                    std::mem::forget(own);
                    Arc::new(store)
                }
                other => return Err(format!("there is no runtime {other}: use own, or nothing").into()),
            }
        }
        "aistore" => Arc::new(aistore(address)?.with_options(options)?),
        _ => return Err(format!("there is no store {store}: use bare, pget or aistore").into()),
    })
}

fn http(address: &str) -> Result<HttpStore, Failure> {
    Ok(HttpBuilder::new()
        .with_url(address)
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .build()?)
}

fn aistore(address: &str) -> Result<AistoreStore, Failure> {
    let settings = BTreeMap::from([("ais.endpoint".to_owned(), address.to_owned())]);
    let config = Config::new(|_| None, &settings)?;
    let bucket = Bucket {
        name: BUCKET.into(),
        namespace: None,
        provider: "ais".into(),
    };
    Ok(AistoreStore::new(
        Client::new(&PgetClientOptions::default())?,
        config,
        bucket,
    ))
}

/// Puts all files of `folder` into the bucket, which must exist.
pub async fn upload(folder: &Folder, address: &str) -> Result<(), Failure> {
    let store = aistore(address)?;
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        store
            .put(&Path::parse(&name)?, std::fs::read(file.path())?.into())
            .await?;
    }
    Ok(())
}
