//! Functions that the benches share.
//!
//! Each measured run is a child process, so that only the client's CPU time counts.

pub mod bare;

use std::{
    error::Error,
    fs::File,
    io::{self, BufWriter, Write as _},
    process::{Command, Stdio},
    time::Instant,
};

use nix::sys::resource::{UsageWho, getrusage};
use pget_testkit::{
    content::Pattern,
    servers::{Nginx, NginxOptions},
};

/// Starts nginx with an object of `mib` MiB, and returns it with the object's URL.
///
/// # Errors
/// If nginx is not installed, or if the disk is full.
pub fn serve(mib: u64) -> Result<(Nginx, String), Box<dyn Error>> {
    let nginx = Nginx::start(&NginxOptions::default())?;
    fill(&nginx, mib)?;
    let url = nginx.url("/object");
    Ok((nginx, url))
}

/// Writes the object that `nginx` serves as `/object`.
///
/// # Errors
/// If the disk is full.
pub fn fill(nginx: &Nginx, mib: u64) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(nginx.root().join("object"))?);
    let pattern = Pattern::new(1);
    let mut piece = vec![0; 1 << 20];
    for at in 0..mib {
        pattern.fill(at << 20, &mut piece);
        file.write_all(&piece)?;
    }
    file.into_inner()?;
    Ok(())
}

/// The cost of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "for the benches alone")]
pub struct Cost {
    /// CPU seconds, user and system, of the whole process.
    pub cpu: f64,
    /// Duration of the transfer in seconds.
    pub seconds: f64,
    /// Number of bytes transferred.
    pub bytes: u64,
}

impl Cost {
    /// Returns the cost of this process so far, for a transfer of `bytes` in `seconds`.
    ///
    /// # Errors
    /// If the system does not report the CPU time.
    pub fn of_this_process(bytes: u64, seconds: f64) -> io::Result<Self> {
        Ok(Self {
            cpu: cpu_seconds(UsageWho::RUSAGE_SELF)?,
            seconds,
            bytes,
        })
    }

    /// Returns the cost of this process for a transfer that began at `began`.
    ///
    /// The process had used `before` CPU seconds at that time.
    ///
    /// # Errors
    /// If the system does not report the CPU time.
    pub fn since(before: f64, bytes: u64, began: Instant) -> io::Result<Self> {
        Ok(Self {
            cpu: cpu_of_this_process()? - before,
            seconds: began.elapsed().as_secs_f64(),
            bytes,
        })
    }

    /// Runs `program`, which transfers `bytes`, and discards its output.
    ///
    /// # Errors
    /// If the program cannot be started, or fails.
    pub fn of_program(program: &mut Command, bytes: u64) -> io::Result<Self> {
        // These are the CPU seconds of children that have ended. They exclude the server, which
        // still runs.
        let (before, began) = (cpu_seconds(UsageWho::RUSAGE_CHILDREN)?, Instant::now());
        let status = program.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        if !status.success() {
            return Err(io::Error::other(format!("{program:?} failed: {status}")));
        }
        Ok(Self {
            cpu: cpu_seconds(UsageWho::RUSAGE_CHILDREN)? - before,
            seconds: began.elapsed().as_secs_f64(),
            bytes,
        })
    }

    /// Returns the line with which a child reports its cost.
    #[must_use]
    pub fn to_line(&self) -> String {
        format!("{} {} {}", self.cpu, self.seconds, self.bytes)
    }

    /// Runs `child` and parses its line.
    ///
    /// # Errors
    /// If the child fails or prints something else.
    pub fn of_child(child: &mut Command) -> io::Result<Self> {
        let output = child.stderr(Stdio::inherit()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut words = text.split_whitespace();
        let mut word = || words.next().unwrap_or_default();
        let parsed = (word().parse(), word().parse(), word().parse());
        match parsed {
            (Ok(cpu), Ok(seconds), Ok(bytes)) if output.status.success() => Ok(Self { cpu, seconds, bytes }),
            _ => Err(io::Error::other(format!(
                "the run failed: {}: {text}",
                output.status
            ))),
        }
    }

    /// Returns the CPU seconds per GiB.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "bytes of a bench are few")]
    pub fn per_gib(&self) -> f64 {
        self.cpu / (self.bytes as f64 / f64::from(1 << 30))
    }

    /// Returns the speed in GiB per second.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "bytes of a bench are few")]
    pub fn speed(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 30) / self.seconds
    }
}

/// Returns the CPU seconds, user and system, that this process has used.
///
/// # Errors
/// If the system does not report them.
pub fn cpu_of_this_process() -> io::Result<f64> {
    cpu_seconds(UsageWho::RUSAGE_SELF)
}

fn cpu_seconds(whose: UsageWho) -> io::Result<f64> {
    let usage = getrusage(whose)?;
    let (user, system) = (usage.user_time(), usage.system_time());
    #[allow(clippy::cast_precision_loss, reason = "CPU seconds of a bench are few")]
    let seconds = |seconds: i64, micros: i64| seconds as f64 + micros as f64 / 1e6;
    Ok(seconds(user.tv_sec(), user.tv_usec()) + seconds(system.tv_sec(), system.tv_usec()))
}

/// Prints a figure with its name. `all.sh` reads the line and compares the figure with its goal.
pub fn figure(name: &str, value: f64) {
    println!("figure {value:.3} {name}");
}

/// Returns the median of `values`: of an even number the upper one, and 0 if they are empty.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
