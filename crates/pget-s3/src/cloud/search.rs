//! What was looked for on the way to a credential, for the log and for the error when none is
//! found.

use std::time::Instant;

/// A search for credentials.
#[derive(Debug)]
pub(crate) struct Search {
    began: Instant,
    looked: Vec<String>,
}

impl Search {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            looked: Vec::new(),
        }
    }

    /// Notes a place that was looked at in vain, and why.
    pub(crate) fn missed(&mut self, place: impl Into<String>) {
        let place = place.into();
        tracing::debug!(%place, "no credentials");
        self.looked.push(place);
    }

    /// Returns all places in one line, with the time that looking took.
    pub(crate) fn summary(&self) -> String {
        format!(
            "no credentials found in {:.1} s; looked for {}",
            self.began.elapsed().as_secs_f32(),
            self.looked.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_every_place() {
        let mut search = Search::new();
        search.missed("AWS_ACCESS_KEY_ID (not set)");
        search.missed("profile default (no file)");
        let text = search.summary();
        assert!(
            text.ends_with("AWS_ACCESS_KEY_ID (not set), profile default (no file)"),
            "{text}"
        );
    }
}
