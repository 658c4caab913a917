//! What the program tells on standard error: log lines, the progress bar, the summary, the one line of an error.

use std::{
    io::{IsTerminal, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pget::{Builder, Stats};

use crate::args::{Show, When};

/// Writes a line to standard error; a closed one is nobody's loss.
pub(crate) fn line(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
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
        .with_writer(std::io::stderr)
        .without_time()
        .with_ansi(false)
        .init();
}

/// The progress bar and the summary of one read.
pub(crate) struct Report {
    bar: Arc<ProgressBar>,
    json: bool,
    began: Instant,
}

impl Report {
    /// Begins to report, and lets the read report to the bar.
    pub(crate) fn begin(show: &Show, builder: Builder) -> (Self, Builder) {
        let wanted = match show.progress {
            When::Always => true,
            When::Never => false,
            When::Auto => std::io::stderr().is_terminal(),
        };
        let bar = Arc::new(ProgressBar::no_length());
        // Ten times a second is enough for an eye.
        bar.set_draw_target(if wanted {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        });
        if let Ok(style) = ProgressStyle::with_template(
            "{bar:40} {percent:>3}% {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
        ) {
            bar.set_style(style);
        }
        let builder = if wanted {
            bar.enable_steady_tick(Duration::from_millis(500));
            let bar = Arc::clone(&bar);
            builder.progress(move |progress| {
                if let Some(total) = progress.total {
                    bar.set_length(total);
                }
                bar.set_position(progress.stats.delivered);
            })
        } else {
            builder
        };
        (
            Self {
                bar,
                json: show.json,
                began: Instant::now(),
            },
            builder,
        )
    }

    /// Ends the bar and prints the summary, if it is wanted.
    pub(crate) fn end(self, stats: &Stats) {
        self.bar.finish();
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
                    "one_stream": stats.one_stream,
                })
                .to_string(),
            );
        }
    }

    /// Takes the bar away, for the error's line to stand alone.
    pub(crate) fn abandon(self) {
        self.bar.finish_and_clear();
    }
}
