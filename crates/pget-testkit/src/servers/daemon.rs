//! A server as a child process: finds, starts and ends it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::error::StartError;

/// Time within which a server must become ready.
pub const READY_WITHIN: Duration = Duration::from_secs(20);

/// Time within which a server must end by itself before it is killed.
const STOP_WITHIN: Duration = Duration::from_millis(500);

/// The advice for a missing component.
const INSTALL: &str = "run scripts/test-tools.sh";

/// The start of a child, recorded so that it can be repeated.
#[derive(Debug)]
struct Launch {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
}

impl Launch {
    fn of(command: &Command) -> Self {
        Self {
            program: command.get_program().to_owned(),
            arguments: command.get_args().map(OsStr::to_owned).collect(),
            environment: command
                .get_envs()
                .map(|(name, value)| (name.to_owned(), value.map(OsStr::to_owned)))
                .collect(),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }
}

/// A child process with its own process group, folder and port. Drop ends it.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    launch: Launch,
    pub(super) address: SocketAddr,
    /// The server's files. The folder is removed after the process has ended, because fields drop
    /// after `Drop::drop`.
    folder: TempDir,
}

impl Daemon {
    /// Starts `component` on a free port.
    ///
    /// `command` receives the address and the folder, and returns the command to run. Another
    /// process may take the free port before the server binds it. If the server ends early, the
    /// start is therefore repeated on another port.
    pub(super) fn start(
        component: &'static str,
        command: impl Fn(SocketAddr, &Path) -> Result<Command, StartError>,
    ) -> Result<Self, StartError> {
        let mut last = None;
        for _ in 0..3 {
            match Self::start_once(component, &command) {
                Err(error @ StartError::NotReady { .. }) => last = Some(error),
                other => return other,
            }
        }
        last.map_or_else(
            || unreachable!("every pass that does not return leaves an error"),
            Err,
        )
    }

    fn start_once(
        component: &'static str,
        command: impl Fn(SocketAddr, &Path) -> Result<Command, StartError>,
    ) -> Result<Self, StartError> {
        let io = |doing| {
            move |source| StartError::Io {
                component,
                doing,
                source,
            }
        };
        let folder = TempDir::with_prefix("pget-test-").map_err(io("make a folder"))?;
        let address = free_address().map_err(io("find a free port"))?;
        let log_path = folder.path().join("log");
        let log = File::create(&log_path).map_err(io("create a log"))?;
        let errors = log.try_clone().map_err(io("create a log"))?;
        let mut command = command(address, folder.path())?;
        let launch = Launch::of(&command);
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(io("start the process"))?;
        let mut daemon = Self {
            child,
            launch,
            address,
            folder,
        };
        if daemon.becomes_ready() {
            return Ok(daemon);
        }
        let log = std::fs::read_to_string(&log_path).unwrap_or_default();
        let end = log.char_indices().rev().nth(2000).map_or(0, |(at, _)| at);
        Err(StartError::NotReady {
            component,
            address,
            log: log[end..].to_owned(),
        })
    }

    /// Kills the process and its children, as a crash would. Its port refuses connections from then
    /// on.
    pub(super) fn crash(&mut self) {
        if let Ok(group) = i32::try_from(self.child.id()).map(Pid::from_raw) {
            killpg(group, Signal::SIGKILL).ok();
        }
        self.child.wait().ok();
    }

    /// Sends a signal to the process.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        let id = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        Ok(kill(Pid::from_raw(id), signal)?)
    }

    /// Restarts a process that has ended, on the same port and in the same folder.
    pub(super) fn start_again(&mut self) -> io::Result<()> {
        let log = File::options().append(true).open(self.path("log"))?;
        self.child = self
            .launch
            .command()
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        if self.becomes_ready() {
            Ok(())
        } else {
            Err(io::Error::other("the server did not become ready again"))
        }
    }

    /// Waits until the port accepts connections. Returns false if the process ends or time is up.
    ///
    /// The function polls the port, because the programs send no signal when they are ready.
    fn becomes_ready(&mut self) -> bool {
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return false;
            }
            if TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Ignore a failed signal: it means that the process has already ended.
        let group = i32::try_from(self.child.id()).map(Pid::from_raw);
        if let Ok(group) = group {
            // A master process that receives SIGTERM ends its workers and waits for them. No other
            // process could reap them. They would remain as zombies in a container whose first
            // process reaps none.
            kill(group, Signal::SIGTERM).ok();
            let deadline = Instant::now() + STOP_WITHIN;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            killpg(group, Signal::SIGKILL).ok();
        }
        self.child.wait().ok();
    }
}

pub(super) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Returns the program's path.
///
/// It looks in `$PGET_TOOLS/bin`, the repository's `.tools/bin`, `PATH`, and the folders of system
/// daemons.
pub(super) fn find(component: &'static str) -> Result<PathBuf, StartError> {
    let mut folders = Vec::new();
    if let Some(tools) = std::env::var_os("PGET_TOOLS") {
        folders.push(Path::new(&tools).join("bin"));
    }
    folders.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin"));
    if let Some(path) = std::env::var_os("PATH") {
        folders.extend(std::env::split_paths(&path));
    }
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders
        .into_iter()
        .map(|folder| folder.join(component))
        .find(|file| file.is_file())
        .ok_or(StartError::Missing {
            component,
            install: INSTALL,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_installed_is_missing_and_says_what_installs_it() {
        let error = find("pget-no-such-program").expect_err("no such program");
        assert_eq!(
            error.to_string(),
            "pget-no-such-program is not installed: run scripts/test-tools.sh"
        );
    }
}
