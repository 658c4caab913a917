//! Other processes: this program runs again in a role that the environment names.
//!
//! A role prints lines that begin with `> `, because the test harness prints lines of its own. It
//! executes the commands that it reads from standard input, one per line.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, alarm, fork, pause},
};
use pget_core::{Error, ErrorKind};
use pget_shm::{Filler, Placement, RingReader, RingWriter, SharedBuffer};

use crate::{DIGEST, byte, digest};

const ROLE: &str = "PGET_SHM_ROLE";
const ARGUMENT: &str = "PGET_SHM_ARGUMENT";

pub(crate) struct Other {
    child: Child,
    says: Lines<BufReader<ChildStdout>>,
    told: ChildStdin,
}

impl Other {
    pub(crate) fn start(role: &str, argument: &str) -> Self {
        let program = std::env::current_exe().expect("this program");
        Self::of(Command::new(program), role, argument)
    }

    pub(crate) fn of(mut command: Command, role: &str, argument: &str) -> Self {
        let mut child = command
            .args(["--exact", "other::in_a_role", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(ARGUMENT, argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("another process");
        let says = BufReader::new(child.stdout.take().expect("piped")).lines();
        let told = child.stdin.take().expect("piped");
        Self { child, says, told }
    }

    /// Returns the next line of the process, or `None` after its end.
    pub(crate) fn says(&mut self) -> Option<String> {
        loop {
            let line = self.says.next()?.expect("text");
            // The harness may begin the line before the role's first output.
            if let Some((_, said)) = line.split_once("> ") {
                return Some(said.to_owned());
            }
        }
    }

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.told, "{line}").expect("it listens");
    }

    /// Kills the process, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    pub(crate) fn ends_well(mut self) {
        drop(self.told);
        assert!(self.child.wait().expect("its end").success());
    }
}

fn say(line: &str) {
    println!("> {line}");
}

fn listen() -> Option<String> {
    std::io::stdin().lines().next().map(|line| line.expect("text"))
}

/// Runs the role of another process. It is not a test of its own.
#[test]
fn in_a_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let argument = std::env::var(ARGUMENT).expect("an argument");
    match role.as_str() {
        "read" => match read(&argument) {
            Ok(sum) => say(&format!("digest {sum:016x}")),
            Err(error) => say(&format!("{:?} {}", error.kind(), error.to_line())),
        },
        "fill" => fill(&argument),
        "fork" => fork_and_fill(&argument),
        "fork-own" => fork_and_make(&argument),
        "ring" => ring(&argument),
        "ring-fork" => fork_with_a_ring(),
        "ring-stuck" => {
            let mut reader = RingReader::attach(&argument).expect("attached");
            reader.next_object().expect("an answer").expect("an object");
            reader.next_bytes().expect("some").expect("not the end");
            say("has some");
            pause();
        }
        "ring-write" | "ring-between" => {
            let name = Some(argument.as_str()).filter(|name| *name != "-");
            let mut ring = RingWriter::create(name, 4096).expect("a ring");
            ring.begin("", None).expect("begun");
            ring.put(b"some").expect("room");
            say(ring.name());
            if role == "ring-between" {
                ring.end(Ok(())).expect("taken");
                say("taken");
            }
            pause();
        }
        "closed" => crate::host::without_standard_streams(&argument),
        "limited" => crate::host::where_files_are_short(),
        "read-on" => crate::reuse::where_a_child_reads_on(&argument),
        "full" => crate::space::in_a_small_device(),
        "no-page" => crate::space::where_no_page_is_free(),
        "use-up" => crate::space::where_others_use_up_the_device(),
        _ => panic!("no role {role}"),
    }
}

/// Attaches to a segment, and digests its bytes as they arrive.
fn read(name: &str) -> Result<u64, Error> {
    let shared = SharedBuffer::attach(name)?;
    say("attached");
    let (mut sum, mut done) = (DIGEST, 0);
    while done < shared.len() {
        let there = shared.wait_for(done + 1)?;
        sum = digest(&there[done..], sum);
        done = there.len();
    }
    shared.wait_for(shared.len())?;
    Ok(sum)
}

/// Digests the objects of a ring one after another.
fn ring(name: &str) {
    let mut reader = RingReader::attach(name).expect("attached");
    while let Some(object) = reader.next_object().expect("an answer") {
        let mut sum = DIGEST;
        let told = loop {
            match reader.next_bytes() {
                Ok(Some(bytes)) => sum = digest(bytes, sum),
                Ok(None) => break format!("digest {sum:016x}"),
                Err(error) => break format!("failed {:?}", error.kind()),
            }
        };
        say(&format!("{} {:?} {told}", object.revision, object.size));
    }
    say("no more");
}

/// Creates a segment and fills it on command.
///
/// Each line is the offset up to which to fill it, `end` for success, `fail` for a failure, or
/// `close`.
fn fill(argument: &str) {
    let mut words = argument.split(' ');
    let mut word = || words.next().expect("a word");
    let placement = match word() {
        "-" => Placement::Anonymous,
        name => Placement::Named(name.to_owned()),
    };
    let length: u64 = word().parse().expect("a length");
    let (mut shared, filler) = SharedBuffer::create(placement, length, "version 7").expect("a segment");
    say(shared.name());
    let mut done = 0;
    while let Some(line) = listen() {
        match line.as_str() {
            "end" => filler.finish(Ok(())).expect("complete"),
            "fail" => {
                let error = Error::new(ErrorKind::ObjectChanged, "http://host/object", "it was replaced");
                filler.finish(Err(&error)).expect_err("it failed");
            }
            "close" => shared.close(),
            "go on" => go_on(&filler, length),
            line => {
                let until = line.parse().expect("an offset");
                put(&filler, done..until);
                done = until;
            }
        }
        say("done");
    }
}

fn put(filler: &Filler, range: std::ops::Range<u64>) {
    let at = |offset| usize::try_from(offset).expect("an offset");
    let bytes: Vec<u8> = (at(range.start)..at(range.end)).map(byte).collect();
    filler.put(range.start, &bytes).expect("room");
    filler.landed(range);
}

/// Fills the segment in small steps until the process is killed.
fn go_on(filler: &Filler, length: u64) {
    say("going on");
    for start in (0..length).step_by(4096) {
        put(filler, start..(start + 4096).min(length));
    }
}

/// Forks a child that does nothing, and waits to be killed.
#[allow(unsafe_code, reason = "forks")]
fn fork_and_fill(name: &str) {
    let placement = Placement::Named(name.to_owned());
    let (shared, filler) = SharedBuffer::create(placement, 100, "version 7").expect("a segment");
    put(&filler, 0..10);
    // SAFETY: the child calls only `kill`, `pause` and functions that this library allows in a
    // forked child.
    match unsafe { fork() }.expect("a child") {
        ForkResult::Child => {
            let error = shared.wait_for(11).expect_err("the parent's");
            assert_eq!(error.kind(), ErrorKind::Forked, "{error}");
            assert_eq!(shared.as_slice().len(), 10);
            // The child's drop must not remove the parent's names.
            drop((shared, filler));
            say("a child");
            pause();
        }
        ForkResult::Parent { child } => {
            say(&child.to_string());
            pause();
        }
    }
}

/// Forks a child that creates a segment and drops its copies of the parent's.
///
/// Both then wait to be killed.
#[allow(unsafe_code, reason = "forks")]
fn fork_and_make(names: &str) {
    let (name, of_child) = names.split_once(' ').expect("two names");
    let (shared, filler) =
        SharedBuffer::create(Placement::Named(name.to_owned()), 100, "").expect("a segment");
    let ring = RingWriter::create(None, 4096).expect("a ring");
    let reader = RingReader::attach(ring.name()).expect("attached");
    put(&filler, 0..10);
    // SAFETY: the child calls only functions that this library allows in a forked child, and waits
    // to be killed.
    match unsafe { fork() }.expect("a child") {
        ForkResult::Child => {
            // The alarm ends a child that panics, because no process would notice it.
            alarm::set(60);
            let placement = Placement::Named(of_child.to_owned());
            let (own, own_filler) = SharedBuffer::create(placement, 100, "").expect("a segment");
            let _other = RingWriter::create(None, 4096).expect("a ring");
            let told = filler.put(10, b"x").map_err(|error| error.kind());
            drop((shared, filler, reader, ring));
            put(&own_filler, 0..20);
            say(&format!("a child {told:?} {:?}", own.state()));
            pause();
        }
        ForkResult::Parent { child } => {
            alarm::set(60);
            say(&child.to_string());
            let mut ring = ring;
            while let Some(line) = listen() {
                put(&filler, 10..100);
                filler.finish(Ok(())).expect("complete");
                ring.begin(&line, None).expect("the reader is there");
                say(&format!("{:?}", shared.state()));
            }
            drop(reader);
        }
    }
}

/// Forks a child that has copies of both ends of a ring, and uses them.
#[allow(unsafe_code, reason = "forks")]
fn fork_with_a_ring() {
    let mut ring = RingWriter::create(None, 4096).expect("a ring");
    let mut reader = RingReader::attach(ring.name()).expect("attached");
    ring.begin("", None).expect("begun");
    ring.put(&[1; 4096]).expect("room");
    reader.next_object().expect("an answer").expect("an object");
    assert_eq!(reader.next_bytes().expect("some").expect("some").len(), 4096);
    // SAFETY: the child calls only functions that this library allows in a forked child, and ends.
    match unsafe { fork() }.expect("a child") {
        ForkResult::Child => {
            let forked = |error: Error| assert_eq!(error.kind(), ErrorKind::Forked, "{error}");
            forked(reader.next_bytes().map(drop).expect_err("the parent's"));
            forked(reader.next_object().map(drop).expect_err("the parent's"));
            forked(ring.put(b"x").expect_err("the parent's"));
            forked(ring.end(Ok(())).expect_err("the parent's"));
            forked(ring.begin("", None).expect_err("the parent's"));
            std::process::exit(0);
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).expect("its end");
            assert_eq!(status, WaitStatus::Exited(child, 0));
            // The reader may still use the bytes that it borrowed.
            ring.stop_when(|| true);
            let error = ring.put(b"x").expect_err("no room");
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        }
    }
}

pub(crate) fn stop(child: &str) {
    let child = child.parse().expect("a process's number");
    kill(Pid::from_raw(child), Signal::SIGKILL).expect("it was there");
}
