//! What the program tells on standard error: log lines, the progress bar, the summary, the one line of an error.

use std::{
    io::{self, IsTerminal, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use pget::{Builder, Stats, Warnings};

use crate::args::{Show, When};

/// Writes a line to standard error; a closed one is nobody's loss.
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
        // Where standard error cannot be written to, to say so there would end the attempt by a panic.
        .log_internal_errors(false)
        .init();
}

/// The progress bar and the summary of one read.
pub(crate) struct Report {
    bar: Arc<ProgressBar>,
    json: bool,
    began: Instant,
    warnings: Warnings,
}

impl Report {
    /// Begins to report, and lets the read report to the bar.
    pub(crate) fn begin(show: &Show, builder: Builder) -> (Self, Builder) {
        let terminal = io::stderr().is_terminal();
        let wanted = match show.progress {
            When::Always => true,
            When::Never => false,
            When::Auto => terminal,
        };
        let bar = Arc::new(ProgressBar::no_length());
        // Ten times a second is enough for an eye.
        bar.set_draw_target(match (wanted, terminal) {
            (true, true) => ProgressDrawTarget::stderr_with_hz(10),
            // Once a second is enough for a log.
            (true, false) => ProgressDrawTarget::term_like_with_hz(Box::new(Plain), 1),
            (false, _) => ProgressDrawTarget::hidden(),
        });
        if let Ok(style) = ProgressStyle::with_template(
            "{bar:40} {percent:>3}% {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} {msg}",
        ) {
            bar.set_style(style);
        }
        let builder = if wanted {
            // It has a thread, and panics without.
            if pget::threads_can_start() {
                bar.enable_steady_tick(Duration::from_millis(500));
            }
            let bar = Arc::clone(&bar);
            builder.progress(move |progress| {
                if let Some(total) = progress.total {
                    bar.set_length(total);
                }
                bar.set_position(progress.stats.delivered);
                let waiting = progress.stats.waiting;
                bar.set_message(waiting.map_or_else(String::new, |waiting| format!("waiting: {waiting}")));
            })
        } else {
            builder
        };
        let warnings = Warnings::new();
        let builder = builder.warnings(warnings.clone());
        (
            Self {
                bar,
                json: show.json,
                began: Instant::now(),
                warnings,
            },
            builder,
        )
    }

    /// Ends the bar and prints the summary, if it is wanted, and what was done without.
    pub(crate) fn end(self, stats: &Stats) {
        self.bar.finish();
        let warnings = self.warnings.take();
        if self.json {
            let seconds = self.began.elapsed().as_secs_f64();
            #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
            let rate = stats.delivered as f64 / seconds.max(1e-9);
            line(
                &serde_json::json!({
                    "bytes": stats.delivered,
                    "seconds": seconds,
                    "bytes_per_second": rate.round(),
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
        self.bar.finish_and_clear();
    }
}

/// Standard error that is no terminal: the bar comes line by line.
#[derive(Debug)]
struct Plain;

impl TermLike for Plain {
    fn width(&self) -> u16 {
        100
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
        line(text.trim_end());
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        // The bar is padded to the width, and at times by nothing else.
        if !text.trim().is_empty() {
            line(text.trim_end());
        }
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
