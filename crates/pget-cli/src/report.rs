//! The program's output on standard error: log lines, the progress bar, the summary, the line of an
//! error.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use pget::{Builder, Error, Monitor, Stats, Warnings};
use terminal_size::terminal_size_of;

use crate::args::{Show, When};

/// How often a line is drawn again while nothing changes.
const TICK: Duration = Duration::from_millis(500);

/// Writes a line to standard error. If standard error is closed, the line is discarded.
pub(crate) fn line(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

/// Log lines of the library on standard error.
pub(crate) fn log(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => tracing_subscriber::filter::LevelFilter::DEBUG,
        _ => tracing_subscriber::filter::LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .without_time()
        .with_ansi(false)
        // Where standard error cannot be written to, to say so there would end the attempt by a
        // panic.
        .log_internal_errors(false)
        .init();
}

/// The progress bar and the summary of one read.
pub(crate) struct Report {
    bar: Bar,
    plain: Plain,
    wanted: bool,
    json: bool,
    began: Instant,
    warnings: Warnings,
}

impl Report {
    /// Begins to report, and lets the read report to the bar.
    pub(crate) fn begin(show: &Show, builder: Builder) -> (Self, Builder) {
        let Drawn {
            wanted,
            target,
            plain,
        } = drawn(show);
        let bar = Bar::new(target);
        let builder = if wanted {
            // It has a thread, and panics without.
            if pget::threads_can_start() {
                bar.line.enable_steady_tick(TICK);
            }
            let bar = bar.clone();
            builder.progress(move |progress| bar.update(progress.total, &progress.stats))
        } else {
            builder
        };
        let warnings = Warnings::new();
        let builder = builder.warnings(warnings.clone());
        (
            Self {
                bar,
                plain,
                wanted,
                json: show.json,
                began: Instant::now(),
                warnings,
            },
            builder,
        )
    }

    /// Reports also while no bytes come, which a reader's own progress does not.
    pub(crate) fn watch(&self, monitor: Monitor) {
        if !self.wanted || !pget::threads_can_start() {
            return;
        }
        let bar = self.bar.clone();
        let watch = move || {
            while !bar.line.is_finished() {
                bar.update(monitor.total(), &monitor.stats());
                // It samples, as a clock does: nothing signals that no byte has come. Nothing waits
                // for this thread, which ends at the next tick.
                thread::sleep(TICK);
            }
        };
        // Without it, the line stands still while the read waits.
        drop(thread::Builder::new().name("pget-report".into()).spawn(watch));
    }

    /// Ends the bar and prints the summary, if it is wanted, and what was done without.
    pub(crate) fn end(self, stats: &Stats) {
        self.plain.let_through();
        self.bar.line.finish();
        let warnings = self.warnings.take();
        if self.json {
            let seconds = self.began.elapsed().as_secs_f64();
            let rate = per_second(stats.delivered, seconds);
            line(
                &serde_json::json!({
                    "bytes": stats.delivered,
                    "seconds": seconds,
                    "bytes_per_second": rate,
                    "requests": stats.requests,
                    "retries": stats.retries,
                    "peak_buffered_bytes": stats.peak_buffered,
                    "concurrency": stats.concurrency,
                    "chunk_size": stats.chunk_size,
                    "one_stream": stats.one_stream,
                    "fences": stats.fences,
                    "stalls": stats.stalls,
                    "window_full_seconds": stats.window_full.as_secs_f64(),
                    "consumer_wait_seconds": stats.consumer_wait.as_secs_f64(),
                    "verification": stats.verification.name(),
                    "checksum": stats.verification.algorithm().map(pget::verify::Algorithm::name),
                    "warnings": warnings,
                })
                .to_string(),
            );
        } else {
            for warning in warnings {
                line(&format!("pget: warning: {warning}"));
            }
        }
    }

    /// Takes the bar away, for the error's line to stand alone.
    pub(crate) fn abandon(self) {
        self.bar.line.finish_and_clear();
    }
}

/// The line of one read.
#[derive(Clone)]
struct Bar {
    line: ProgressBar,
    /// The current display, as a number of [`Shows`].
    shows: Arc<AtomicU8>,
    styles: Arc<[ProgressStyle; 3]>,
}

/// The display of one read's line.
#[derive(Clone, Copy)]
enum Shows {
    /// Bytes, of how many is not known yet.
    Bytes = 0,
    /// Why the read waits.
    Waiting = 1,
    /// How much of the object has come.
    Share = 2,
}

impl Bar {
    fn new(target: ProgressDrawTarget) -> Self {
        let line = ProgressBar::no_length();
        line.set_draw_target(target);
        let share = if is_drawn_on() {
            of_bar(width())
        } else {
            of_line(width())
        };
        let styles = [UNKNOWN, WAITING, share].map(style);
        line.set_style(styles[Shows::Bytes as usize].clone());
        Self {
            line,
            shows: Arc::new(AtomicU8::new(Shows::Bytes as u8)),
            styles: Arc::new(styles),
        }
    }

    fn update(&self, total: Option<u64>, stats: &Stats) {
        if let Some(total) = total {
            self.line.set_length(total);
        }
        self.line.set_position(stats.delivered);
        let shows = match (&stats.waiting, total) {
            (Some(_), _) => Shows::Waiting,
            (None, Some(_)) => Shows::Share,
            (None, None) => Shows::Bytes,
        };
        if shows as u8 != self.shows.swap(shows as u8, Ordering::Relaxed) {
            self.line.set_style(self.styles[shows as usize].clone());
        }
        let waiting = stats.waiting.as_ref();
        self.line
            .set_message(waiting.map_or_else(String::new, |waiting| format!("waiting: {waiting}")));
    }
}

/// Returns whole bytes per second.
#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn per_second(bytes: u64, seconds: f64) -> f64 {
    (bytes as f64 / seconds.max(1e-9)).round()
}

/// Columns of the terminal, or of a line in a log.
fn width() -> u16 {
    terminal_size_of(io::stderr()).map_or(100, |(columns, _)| columns.0)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The line of a read on a terminal of `width` columns. A line that is longer than the terminal
/// would be broken, and a part of it would stay after the next one.
const fn of_bar(width: u16) -> &'static str {
    match width {
        60.. => "{percent:>3}% {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
        40.. => "{percent:>3}% of {binary_total_bytes} {binary_bytes_per_sec} {eta}",
        _ => "{percent:>3}% {eta}",
    }
}

/// The line of a read in a log, where a bar would be noise.
const fn of_line(width: u16) -> &'static str {
    match width {
        60.. => "{percent:>3}% {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
        _ => of_bar(width),
    }
}

/// The line of a read of which the size is not known, or not yet.
const UNKNOWN: &str = "{binary_bytes} in {elapsed}";

/// The line of a read that waits; it ends where the terminal does.
const WAITING: &str = "{percent:>3}% {wide_msg}";

/// The line of one of several reads.
const fn of_object(width: u16) -> &'static str {
    match width {
        80.. => "{msg:30!} {percent:>3}% {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}",
        40.. => "{msg:18!} {percent:>3}% {binary_bytes_per_sec}",
        _ => WAITING,
    }
}

/// The line of all reads together.
const fn of_total(width: u16) -> &'static str {
    match width {
        60.. => "{pos}/{len} objects {wide_bar} {msg} {elapsed}",
        _ => "{pos}/{len} {wide_msg}",
    }
}

/// The line of all reads together in a log.
const OF_TOTAL: &str = "{pos}/{len} objects, {msg} in {elapsed}";

/// Whether standard error is a terminal whose cursor moves.
fn is_drawn_on() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Whether a progress bar is wanted, and where it is drawn.
struct Drawn {
    wanted: bool,
    target: ProgressDrawTarget,
    /// Where it is drawn if no cursor moves.
    plain: Plain,
}

fn drawn(show: &Show) -> Drawn {
    let terminal = is_drawn_on();
    let wanted = match show.progress {
        When::Always => true,
        When::Never => false,
        When::Auto => io::stderr().is_terminal(),
    };
    let plain = Plain::default();
    // Ten times a second is enough for an eye.
    let target = match (wanted, terminal) {
        (true, true) => ProgressDrawTarget::stderr_with_hz(10),
        (true, false) => ProgressDrawTarget::term_like_with_hz(Box::new(plain.clone()), 1),
        (false, _) => ProgressDrawTarget::hidden(),
    };
    Drawn {
        wanted,
        target,
        plain,
    }
}

/// The progress bars and the summary of several reads: one line for each object that is being read,
/// and one for all of them.
pub(crate) struct Reports {
    bars: MultiProgress,
    total: ProgressBar,
    /// Whether a terminal shows a line for each object.
    lines: bool,
    wanted: bool,
    json: bool,
    /// Bytes of objects that have begun.
    delivered: Arc<AtomicU64>,
}

/// The line of one of several reads.
pub(crate) struct Line<'a> {
    reports: &'a Reports,
    bar: ProgressBar,
    name: String,
    warnings: Warnings,
}

impl Reports {
    /// Begins to report on so many objects.
    pub(crate) fn begin(show: &Show, objects: usize) -> Self {
        let Drawn { wanted, target, .. } = drawn(show);
        let bars = MultiProgress::with_draw_target(target);
        let total = bars.add(ProgressBar::new(objects as u64));
        total.set_style(style(if is_drawn_on() {
            of_total(width())
        } else {
            OF_TOTAL
        }));
        total.set_message(HumanBytes(0).to_string());
        if wanted && pget::threads_can_start() {
            total.enable_steady_tick(TICK);
        }
        Self {
            bars,
            total,
            lines: wanted && is_drawn_on(),
            wanted,
            json: show.json,
            delivered: Arc::default(),
        }
    }

    /// Adds an object, whose read reports to its line.
    pub(crate) fn add(&self, name: &Path, builder: Builder) -> (Line<'_>, Builder) {
        let bar = if self.lines {
            self.bars.insert_before(&self.total, ProgressBar::no_length())
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(style(of_object(width())));
        bar.set_message(name.display().to_string());
        let warnings = Warnings::new();
        let mut builder = builder.warnings(warnings.clone());
        if self.wanted {
            let (bar, total, delivered) = (bar.clone(), self.total.clone(), Arc::clone(&self.delivered));
            let seen = AtomicU64::new(0);
            builder = builder.progress(move |progress| {
                if let Some(size) = progress.total {
                    bar.set_length(size);
                }
                let now = progress.stats.delivered;
                bar.set_position(now);
                let before = seen.swap(now, Ordering::Relaxed);
                let new = now.saturating_sub(before);
                let all = delivered.fetch_add(new, Ordering::Relaxed) + new;
                total.set_message(HumanBytes(all).to_string());
            });
        }
        let line = Line {
            reports: self,
            bar,
            name: name.display().to_string(),
            warnings,
        };
        (line, builder)
    }

    /// Writes a line above the bars.
    pub(crate) fn line(&self, text: &str) {
        self.bars.suspend(|| line(text));
    }

    /// Takes the bars away, and prints the summary.
    pub(crate) fn end(self, totals: &Totals, elapsed: Duration) {
        self.total.finish_and_clear();
        let seconds = elapsed.as_secs_f64();
        let rate = per_second(totals.bytes, seconds);
        if self.json {
            let errors: Vec<_> = totals.failed.iter().map(Error::to_line).collect();
            line(
                &serde_json::json!({
                    "objects": totals.complete,
                    "failed": totals.failed.len(),
                    "bytes": totals.bytes,
                    "seconds": seconds,
                    "bytes_per_second": rate,
                    "requests": totals.requests,
                    "retries": totals.retries,
                    "errors": errors,
                })
                .to_string(),
            );
            return;
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is a whole number and not negative"
        )]
        let rate = HumanBytes(rate as u64);
        line(&format!(
            "pget: {} objects complete, {} failed, {} in {seconds:.1} s ({rate}/s)",
            totals.complete,
            totals.failed.len(),
            HumanBytes(totals.bytes),
        ));
    }
}

impl Line<'_> {
    /// Takes the line away, and prints what was done without.
    pub(crate) fn end(self) {
        self.bar.finish_and_clear();
        self.reports.bars.remove(&self.bar);
        self.reports.total.inc(1);
        for warning in self.warnings.take() {
            self.reports
                .line(&format!("pget: warning: {}: {warning}", self.name));
        }
    }
}

/// Standard error on which no cursor moves: a log, or a dumb terminal. At most one line a second is
/// written.
#[derive(Clone, Debug, Default)]
struct Plain {
    /// When the last line was written.
    last: Arc<Mutex<Option<Instant>>>,
}

impl Plain {
    /// Writes the next line, however soon it comes.
    fn let_through(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn show(&self, text: &str) {
        // The bar is padded to the width, and at times by nothing else.
        if text.trim().is_empty() {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < Duration::from_secs(1)) {
            return;
        }
        *last = Some(Instant::now());
        line(text.trim_end());
    }
}

impl TermLike for Plain {
    fn width(&self) -> u16 {
        width()
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.show(text);
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.show(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Figures of all objects together.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) complete: usize,
    pub(crate) bytes: u64,
    pub(crate) requests: u64,
    pub(crate) retries: u64,
    pub(crate) failed: Vec<Error>,
}

impl Totals {
    pub(crate) fn add(&mut self, stats: &Stats) {
        self.complete += 1;
        self.bytes += stats.delivered;
        self.requests += stats.requests;
        self.retries += stats.retries;
    }
}
