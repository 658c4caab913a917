//! The progress display on terminals of several widths, on a dumb one, and in a log.

use std::{fs::File, io::Read, process::Stdio, thread, time::Instant};

use nix::pty::{Winsize, openpty};
use pget_testkit::hostile::{Fault, Hostile, Object, Route, When};

use crate::run::{Ended, pget, plain_environment, wait};

/// Reads an object of 6 MB to nowhere. Returns the output on a terminal of `columns`.
fn shown(columns: u16, term: &str, arguments: &[&str]) -> String {
    let (ended, text) = on_terminal(columns, term, arguments);
    ended.succeeded();
    text
}

/// Runs pget. Returns its end, and the output on a terminal of `columns`.
fn on_terminal(columns: u16, term: &str, arguments: &[&str]) -> (Ended, String) {
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = openpty(Some(&size), None).expect("a terminal");
    let mut command = pget(arguments);
    plain_environment(&mut command);
    command.env("TERM", term).env("NO_COLOR", "1");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(terminal.slave);
    let child = command.spawn().expect("it starts");
    // The command keeps the terminal open as well.
    drop(command);
    let mut master = File::from(terminal.master);
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        let mut part = [0; 4096];
        // A read fails after the last writer has closed the terminal.
        while let Ok(count @ 1..) = master.read(&mut part) {
            text.extend_from_slice(&part[..count]);
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let ended = wait(child);
    (ended, reader.join().expect("it is read"))
}

/// Returns the visible lines, without the codes that move the cursor.
fn lines(text: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, code)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        plain.push('\n');
        let end = code
            .find(|c: char| c.is_ascii_alphabetic())
            .map_or(code.len(), |at| at + 1);
        assert!(!code[..end].ends_with('m'), "a colour: {text:?}");
        rest = &code[end..];
    }
    plain.push_str(rest);
    let lines = plain.split(['\n', '\r']).map(str::trim_end);
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_bar_fits_the_terminal() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, 6_000_000)));
    for columns in [20, 40, 80, 200] {
        for arguments in [&["cat", &url][..], &["get", &url, "-o", "/dev/null"]] {
            let text = shown(columns, "xterm", arguments);
            let lines = lines(&text);
            assert!(
                lines
                    .iter()
                    .all(|line| line.chars().count() <= usize::from(columns)),
                "{columns}: {lines:?}"
            );
            let last = lines
                .last()
                .unwrap_or_else(|| panic!("nothing on {columns} columns"));
            assert!(last.starts_with("100%"), "{columns}: {lines:?}");
            assert_eq!(last.contains('█'), columns >= 80, "{columns}: {lines:?}");
            assert_eq!(last.contains("5.72 MiB"), columns >= 40, "{columns}: {lines:?}");
        }
    }
}

#[test]
fn a_dumb_terminal_gets_lines() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, 6_000_000)));
    for arguments in [&["cat", &url][..], &["cat", &url, "--progress", "always"]] {
        let text = shown(80, "dumb", arguments);
        assert!(text.contains("100%"), "{text:?}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
    let text = shown(80, "dumb", &["cat", &url, "--progress", "never"]);
    assert_eq!(text, "");
}

/// A terminal of 80 columns would break the bar in two. A log needs at most one line per second,
/// however fast the bytes arrive.
#[test]
fn lines_are_few_and_have_no_bar() {
    let server = Hostile::start().expect("a server");
    // The body takes two seconds, in many small pieces.
    let slow = Fault::Pace {
        bytes_per_second: 3_000_000,
    };
    let url = server.route(
        "/o",
        Route::new(Object::new(7, 6_000_000)).fault(When::Always, slow),
    );
    let began = Instant::now();
    let text = shown(80, "dumb", &["cat", &url, "--concurrency", "1"]);
    let seconds = usize::try_from(began.elapsed().as_secs()).expect("few");
    let lines = lines(&text);
    assert!(lines.iter().all(|line| line.chars().count() < 80), "{lines:?}");
    assert!(!text.contains('░') && !text.contains('█'), "{text:?}");
    // The lines are the first, one for each second, and the last.
    assert!(lines.len() <= seconds + 3, "{seconds} s: {lines:?}");
    assert!(
        lines[0].starts_with("0 B in"),
        "the size is not known yet: {lines:?}"
    );
}

/// Many objects have one line together, on a terminal in addition to one for each of them.
#[test]
fn the_lines_of_many_objects_fit() {
    let server = Hostile::start().expect("a server");
    let slow = Fault::Pace {
        bytes_per_second: 3_000_000,
    };
    let route = || Route::new(Object::new(7, 6_000_000)).fault(When::Always, slow.clone());
    let urls = [server.route("/a", route()), server.route("/b", route())];
    for (columns, term) in [(40, "xterm"), (80, "xterm"), (80, "dumb"), (200, "xterm")] {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().to_str().expect("UTF-8");
        let arguments = ["get", &urls[0], &urls[1], "--dir", folder, "--concurrency", "1"];
        let text = shown(columns, term, &arguments);
        let lines = lines(&text);
        let case = format!("{columns} columns, {term}: {lines:?}");
        // A terminal breaks the text after each line, which fills all columns.
        for line in &lines {
            if let Some((before, _)) = line.split_once("/2") {
                let begins = before.chars().count() - 1;
                assert_eq!(begins % usize::from(columns), 0, "{line:?} of {case}");
                let length = line.chars().count() - begins;
                assert!(length <= usize::from(columns), "{line:?} of {case}");
            }
        }
        let is_drawn = term != "dumb";
        assert_eq!(text.contains('░'), is_drawn && columns >= 60, "{case}");
        assert!(lines.iter().any(|line| line.contains("0/2")), "{case}");
        assert!(!text.contains("  0s"), "a gap: {case}");
    }
}

#[test]
fn a_read_that_waits_for_its_server_shows_it() {
    let server = Hostile::start().expect("a server");
    let route = Route::new(Object::new(7, 6_000_000)).fault(When::Later, Fault::status(503));
    let url = server.route("/o", route);
    let (ended, text) = on_terminal(80, "xterm", &["cat", &url, "--retry-timeout", "3s"]);
    assert_eq!(ended.status.code(), Some(6), "{text:?}");
    let lines = lines(&text);
    assert!(lines.iter().any(|line| line.contains("waiting: ")), "{lines:?}");
    let last = lines.last().expect("an error");
    assert!(!last.contains("waiting: "), "the line is taken away: {lines:?}");
}
