//! Python's `http.server`: a common server that ignores `Range` and answers 200 with the whole
//! file.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use super::{
    daemon::{Daemon, find},
    error::StartError,
};

/// A running `python3 -m http.server`.
#[derive(Debug)]
pub struct PythonServer {
    daemon: Daemon,
}

impl PythonServer {
    const NAME: &'static str = "python3";

    /// Starts the server.
    ///
    /// # Errors
    /// Returns a [`StartError`].
    pub fn start() -> Result<Self, StartError> {
        let program = find(Self::NAME)?;
        let daemon = Daemon::start(Self::NAME, |address, folder| {
            let root = folder.join("root");
            std::fs::create_dir(&root).map_err(|source| StartError::Io {
                component: Self::NAME,
                doing: "make its folder",
                source,
            })?;
            let mut command = Command::new(&program);
            command
                .args(["-m", "http.server", "--bind"])
                .arg(address.ip().to_string());
            command
                .arg("--directory")
                .arg(root)
                .arg(address.port().to_string());
            Ok(command)
        })?;
        Ok(Self { daemon })
    }

    /// Returns `http://127.0.0.1:PORT` with `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.daemon.address)
    }

    /// Returns the folder of the served files.
    pub fn root(&self) -> PathBuf {
        self.daemon.path("root")
    }

    /// Writes a file with this content under `name`.
    ///
    /// # Errors
    /// As [`std::fs::write`] does.
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) -> io::Result<()> {
        std::fs::write(self.root().join(name), content)
    }
}
