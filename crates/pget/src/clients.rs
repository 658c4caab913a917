//! The HTTP clients: which one a download gets. Called by `connect`.
//!
//! Invariants: downloads that ask for the same get the same client, and so find connections open;
//! the process keeps few of them, however many settings were asked for; a TLS file that was
//! replaced is read again.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pget_core::{Error, ErrorKind, fork::PerProcess};
use pget_http::{Client, ClientIdentity, ClientOptions, TlsOptions};

use crate::Builder;

/// Clients kept. One costs some 140 KiB, and a program may compute another time-out for each
/// download.
const KEPT: usize = 16;

/// Files that a TLS connection takes, all in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    /// Roots in the place of the platform's.
    pub(crate) roots: Option<PathBuf>,
    pub(crate) skip_verify: bool,
}

impl TlsFiles {
    fn read(&self) -> Result<TlsOptions, Error> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|cause| {
                let message = format!("cannot read {}", path.display());
                Error::with_cause(ErrorKind::InvalidArgument, "", message, cause)
            })
        };
        let mut options = TlsOptions::default();
        let files = self.authorities.iter().chain(&self.roots);
        options.extra_roots = files.map(read).collect::<Result<_, _>>()?;
        options.platform_roots = self.roots.is_none();
        options.identity = match (&self.certificate, &self.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(ClientIdentity::from_pem(read(certificate)?, read(key)?)),
            _ => {
                let message = "a client certificate and its key go together";
                return Err(Error::new(ErrorKind::InvalidArgument, "", message));
            }
        };
        options.skip_verify = self.skip_verify;
        Ok(options)
    }

    /// Returns the stamps of the files that the paths name now.
    fn stamps(&self) -> [Option<Stamp>; 4] {
        [&self.authorities, &self.certificate, &self.key, &self.roots]
            .map(|path| path.as_deref().and_then(Stamp::of))
    }
}

/// Distinguishes a file from what had its name before, and from what it held before: certificates
/// are rotated by a rename, by another target of a link, or written in place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// `None` if it cannot be looked at: reading the file will say why.
    fn of(path: &Path) -> Option<Self> {
        let of = |metadata: Metadata| Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            // An old modification time can be put on a new content, the time of this change cannot.
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        std::fs::metadata(path).ok().map(of)
    }
}

/// The settings for which each distinct value needs a client of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    connect_timeout: Duration,
    tls: TlsFiles,
    stamps: [Option<Stamp>; 4],
}

/// The last used clients, the latest at the end. One that is dropped here lives on in the downloads
/// that use it.
struct Clients(Vec<(Key, Client)>);

impl Clients {
    fn get(&mut self, connect_timeout: Duration, tls: TlsFiles) -> Result<Client, Error> {
        let key = Key {
            // Before they are read: of a file that is replaced in between, the next download knows.
            stamps: tls.stamps(),
            connect_timeout,
            tls,
        };
        let client = match self.0.iter().position(|(known, _)| *known == key) {
            Some(at) => self.0.remove(at).1,
            None => make(connect_timeout, &key.tls)?,
        };
        if self.0.len() == KEPT {
            self.0.remove(0);
        }
        self.0.push((key, client.clone()));
        Ok(client)
    }
}

/// The clients of the process's own runtime.
static CLIENTS: PerProcess<Mutex<Clients>> = PerProcess::new();

fn of_process() -> MutexGuard<'static, Clients> {
    let clients = CLIENTS.get_or_init(|| Mutex::new(Clients(Vec::new())));
    clients.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The builder's client; else one of the process's, for reads on its runtime; else a new one, whose
/// connections end with the caller's runtime.
pub(crate) fn client(builder: &Builder, tls: TlsFiles) -> Result<Client, Error> {
    if let Some(client) = &builder.client {
        return Ok(client.clone());
    }
    let connect_timeout = builder.settings.options.deadlines.connect;
    if !builder.on_process_runtime {
        return make(connect_timeout, &tls);
    }
    of_process().get(connect_timeout, tls)
}

fn make(connect_timeout: Duration, tls: &TlsFiles) -> Result<Client, Error> {
    let mut options = ClientOptions::default();
    options.connect_timeout = connect_timeout;
    options.tls = tls.read()?;
    Client::new(&options)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pget_testkit::servers::Authority;

    use super::*;

    #[test]
    fn few_clients_are_kept_and_those_in_use_longest() {
        let mut clients = Clients(Vec::new());
        let mut ask = |milliseconds| {
            let timeout = Duration::from_millis(milliseconds);
            clients.get(timeout, TlsFiles::default()).expect("a client");
            let kept = clients.0.iter();
            kept.map(|(key, _)| key.connect_timeout).collect::<Vec<_>>()
        };
        let favourite = Duration::from_millis(1);
        for milliseconds in 2..=100 {
            ask(1);
            let kept = ask(milliseconds);
            assert!(kept.len() <= KEPT && kept.contains(&favourite), "{kept:?}");
        }
        let kept = ask(100);
        assert_eq!(kept.len(), KEPT);
        assert!(kept.contains(&Duration::from_millis(87)) && !kept.contains(&Duration::from_millis(85)));
    }

    #[test]
    fn a_child_of_a_process_whose_clients_are_locked_has_its_own() {
        let held = of_process();
        pget_testkit::forked::in_child(Duration::from_secs(30), || {
            let mut own = of_process();
            assert!(own.0.is_empty());
            own.get(Duration::from_secs(1), TlsFiles::default())
                .expect("a client");
        });
        drop(held);
    }

    #[test]
    fn a_rotated_certificate_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("authority.pem");
        let rotate = |content: &str| {
            let next = folder.path().join("next.pem");
            fs::write(&next, content).expect("written");
            fs::rename(next, &path).expect("renamed");
        };
        let mut clients = Clients(Vec::new());
        let mut ask = || {
            let tls = TlsFiles {
                authorities: Some(path.clone()),
                ..TlsFiles::default()
            };
            let client = clients.get(Duration::from_secs(5), tls);
            client.map(|_| clients.0.len())
        };
        for made in 1..=3 {
            rotate(&Authority::new().expect("an authority").pem());
            assert_eq!(ask().expect("a client"), made, "another one");
            assert_eq!(ask().expect("a client"), made, "the same");
        }
        rotate("no certificate");
        let error = ask().expect_err("the new content is what counts");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", error.to_line());
        fs::remove_file(&path).expect("removed");
        let error = ask().expect_err("and its lack");
        assert!(error.to_line().contains("cannot read"), "{}", error.to_line());
    }
}
