//! Runs the program with a deadline and without settings in its environment, and checks its end.

use std::{
    io::Read,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::Duration,
};

/// Time limit of any run in these tests. A hang is a failure.
const DEADLINE: Duration = Duration::from_secs(40);

/// The end of a run.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Returns the program with these arguments. Of the test's own environment, it gets only `PATH`.
pub(crate) fn pget<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pget"));
    command.args(arguments);
    plain_environment(&mut command);
    command
}

pub(crate) fn plain_environment(command: &mut Command) {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null());
}

/// Runs the command to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    wait(spawn(command))
}

/// Starts the command with pipes, for [`wait`].
pub(crate) fn spawn(command: &mut Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// Waits for a child whose standard error, and perhaps its standard output, is a pipe.
pub(crate) fn wait(mut child: Child) -> Ended {
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let both = stdout
        .recv_timeout(DEADLINE)
        .and_then(|out| Ok((out, stderr.recv_timeout(DEADLINE)?)));
    let Ok((stdout, stderr)) = both else {
        child.kill().expect("a hanging program can be killed");
        panic!("no end within {DEADLINE:?}");
    };
    Ended {
        status: child.wait().expect("its pipes are closed"),
        stdout,
        stderr: String::from_utf8(stderr).expect("messages are text"),
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        }
        // Ignore an error: after the deadline, the receiver is gone.
        send.send(bytes).ok();
    });
    receive
}

impl Ended {
    /// Checks that the program succeeded and printed no message.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Vec<u8> {
        assert_eq!((self.status.code(), self.stderr.as_str()), (Some(0), ""));
        self.stdout
    }

    /// Checks that the program succeeded with a single warning of one line that contains this text.
    #[track_caller]
    pub(crate) fn warned(self, says: &str) -> Vec<u8> {
        assert_eq!(self.status.code(), Some(0), "{self:?}");
        let line = self.stderr.strip_suffix('\n').unwrap_or_default();
        assert!(line.starts_with("pget: warning: "), "{self:?}");
        assert!(!line.contains('\n'), "more than one line: {line}");
        assert!(line.contains(says), "{line:?} does not say {says:?}");
        self.stdout
    }

    /// Checks the end after the reader of standard output has closed it, which is not reported.
    #[track_caller]
    pub(crate) fn ended_by_its_reader(self) -> Vec<u8> {
        assert_eq!((self.status.code(), self.stderr.as_str()), (Some(141), ""));
        self.stdout
    }

    /// Checks that the program failed with this status, and with a single line that contains this
    /// text.
    #[track_caller]
    pub(crate) fn failed(self, status: i32, says: &str) -> Vec<u8> {
        assert_eq!(self.status.code(), Some(status), "{self:?}");
        let line = self
            .stderr
            .strip_suffix('\n')
            .unwrap_or_else(|| panic!("no line: {self:?}"));
        assert!(!line.contains('\n'), "more than one line: {line}");
        assert!(line.starts_with("pget: "), "{line}");
        assert!(
            !line.contains("panicked") && !line.contains("internal error"),
            "{line}"
        );
        assert!(line.contains(says), "{line:?} does not say {says:?}");
        self.stdout
    }
}

/// Returns whether a file system can be mounted here, according to a trial.
///
/// `why` is the trial's message. In CI, root must be able to mount.
pub(crate) fn can_mount(tried: bool, why: &str) -> bool {
    let must = std::env::var_os("CI").is_some() && nix::unistd::geteuid().is_root();
    assert!(tried || !must, "root in CI, and no mount namespace: {why}");
    if !tried {
        eprintln!("skipped: no mount namespace of one's own here (needs root): {why}");
    }
    tried
}
