//! The source of one object, and how to read it: what [`Object`](crate::Object) and its blocking
//! twin have in common.
//!
//! Invariants:
//! - making one sends nothing;
//! - all reads of an object share its source, and so its connections and credentials;
//! - a forked child makes a source of its own.

use std::{path::PathBuf, sync::Arc};

use pget_core::{
    BlockingReader, Download, Error, ErrorKind, ObjectInfo, RangeSource, Reader,
    fork::{Generation, PerProcess},
};

use crate::{
    Address, Builder, Settings,
    connect::{self, Located},
    fingerprint::{fingerprint, of_source},
    runtime,
};

/// The source of one object, and how to read it.
#[derive(Debug)]
pub(crate) struct ObjectSource {
    settings: Settings,
    origin: Origin,
}

/// Where the source comes from.
#[derive(Debug)]
enum Origin {
    /// An address: each process makes a source of its own.
    Address(Box<Builder>, PerProcess<Opened>),
    /// The caller's source, which belongs to the process that made it.
    Source(Box<Opened>),
}

/// A source, and what distinguishes its object from others.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) download: Download,
    pub(crate) source: Arc<dyn RangeSource>,
    /// A digest of address and endpoint, for the journal of a file.
    pub(crate) fingerprint: String,
    /// The process that the source was made in.
    generation: Generation,
}

impl Opened {
    fn new(source: Arc<dyn RangeSource>, settings: &Settings, fingerprint: String) -> Result<Self, Error> {
        Ok(Self {
            download: Download::new(Arc::clone(&source), settings.options.clone())?,
            source,
            fingerprint,
            generation: Generation::current(),
        })
    }
}

impl ObjectSource {
    /// Returns the source that the builder names.
    pub(crate) fn at(builder: Builder) -> Result<Arc<Self>, Error> {
        builder.settings.check()?;
        let source = Self {
            settings: builder.settings.clone(),
            origin: Origin::Address(Box::new(builder), PerProcess::new()),
        };
        source.opened()?;
        Ok(Arc::new(source))
    }

    /// Wraps a source of the caller's own.
    pub(crate) fn of(source: Arc<dyn RangeSource>, settings: Settings) -> Result<Arc<Self>, Error> {
        settings.check()?;
        if !(settings.properties.is_empty() && settings.headers.is_empty()) {
            let message = "properties and headers are for addresses, and a source of one's own has none";
            return Err(Error::new(ErrorKind::InvalidArgument, source.name(), message));
        }
        let digest = of_source(&source.name(), source.endpoint().as_deref());
        let origin = Origin::Source(Box::new(Opened::new(source, &settings, digest)?));
        Ok(Arc::new(Self { settings, origin }))
    }

    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the file that is read, if it is one.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        match &self.origin {
            Origin::Address(builder, _) => match Address::parse(&builder.address) {
                Ok(Address::File(path)) => Some(path),
                _ => None,
            },
            Origin::Source(_) => None,
        }
    }

    /// Returns the source of this process.
    ///
    /// # Errors
    /// Those of [`at`](Self::at), in a forked child at its first use; [`Forked`](ErrorKind::Forked)
    /// there for a source of the caller's own.
    pub(crate) fn opened(&self) -> Result<&Opened, Error> {
        match &self.origin {
            Origin::Source(opened) => {
                opened.generation.check("the object")?;
                Ok(opened)
            }
            Origin::Address(builder, opened) => opened.get_or_try_init(|| {
                let address = Address::parse(&builder.address)?;
                let Located { source, endpoint_id } = connect::source(address.clone(), builder)?;
                let address = match address {
                    // A relative path names another file in another folder.
                    Address::File(path) => Address::File(std::path::absolute(&path).unwrap_or(path)),
                    address => address,
                };
                Opened::new(source, &builder.settings, fingerprint(&address, &endpoint_id))
            }),
        }
    }

    pub(crate) fn download(&self) -> Result<&Download, Error> {
        Ok(&self.opened()?.download)
    }

    /// Begins to read in order on the caller's runtime, and waits for the first reply.
    pub(crate) async fn reader(&self) -> Result<Reader, Error> {
        let reader = self.download()?.reader();
        reader.info().await?;
        Ok(reader)
    }

    /// Begins to read in order on the process's runtime, and waits for the first reply.
    pub(crate) fn blocking_reader(&self) -> Result<BlockingReader, Error> {
        let runtime = runtime::handle()?;
        let reader = self.download()?.blocking_reader_on(runtime);
        reader.info()?;
        Ok(reader)
    }

    pub(crate) async fn stat(&self) -> Result<ObjectInfo, Error> {
        let opened = self.opened()?;
        pget_core::head(&*opened.source, &self.settings.options).await
    }
}
