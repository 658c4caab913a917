//! AIStore's errors: JSON `{"status", "message", "tcode", …}` in the body of a GET, in the header
//! `Hdr-Error` of a HEAD. Pure; called by the source.

use serde::Deserialize;

/// The part of an error that is worth telling.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct Failure {
    #[serde(default)]
    pub(crate) message: String,
    /// `ErrBckNotFound` (of the proxy), `ErrNotFound` (of the target), …
    #[serde(default)]
    pub(crate) tcode: String,
}

impl Failure {
    /// Reads the JSON; anything else is reported as far as it is text.
    pub(crate) fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| Self {
            message: printable(text),
            tcode: String::new(),
        })
    }

    /// Whether the name is not one of an object, whatever the status says. A target answers a GET
    /// of a folder with status 500: its file system has something of that name.
    pub(crate) fn is_no_object(&self) -> bool {
        self.tcode == "ErrLmetaNotFound"
    }
}

/// The first line's worth of `text`, without control characters.
fn printable(text: &str) -> String {
    text.trim()
        .chars()
        .take(200)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.tcode.is_empty(), self.message.is_empty()) {
            (_, true) => f.write_str(&printable(&self.tcode)),
            (true, false) => f.write_str(&printable(&self.message)),
            (false, false) => write!(f, "{}: {}", printable(&self.tcode), printable(&self.message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_live_cluster() {
        let text = r#"{"tcode":"ErrNotFound","message":"t[target1-8080]: ais://pget/nosuch does not exist","method":"HEAD","status":404}"#;
        let failure = Failure::parse(text);
        assert_eq!(
            failure.to_string(),
            "ErrNotFound: t[target1-8080]: ais://pget/nosuch does not exist"
        );
        let hostile = Failure::parse(r#"{"tcode":"a\r\nb","message":"c\u001bd"}"#);
        assert_eq!(hostile.to_string(), "a  b: c d");
        assert_eq!(Failure::parse("").to_string(), "");
        assert_eq!(Failure::parse("<html>\r\n no").to_string(), "<html>   no");
    }
}
