//! The bearer token: given, or in a file that is read when needed and again when the server answers
//! 401.
//!
//! Invariant: the token goes to the proxy only (targets do not check it), and into no error or
//! debug text.

use std::{
    cmp::Reverse,
    fmt,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use pget_core::{ErrorKind, SourceError};

/// Tokens that are remembered: each lives for minutes at the least, and no answer is later than
/// some of those.
const KEPT: usize = 4;

pub(crate) struct Token {
    fixed: Option<String>,
    file: Option<PathBuf>,
    /// What the file said, at most [`KEPT`], the last one last: answers to requests with an earlier
    /// one may still come, and quote it.
    read: Mutex<Vec<String>>,
}

impl Token {
    pub(crate) const fn new(fixed: Option<String>, file: Option<PathBuf>) -> Self {
        Self {
            fixed,
            file,
            read: Mutex::new(Vec::new()),
        }
    }

    /// The token, if there is one.
    pub(crate) async fn get(&self) -> Result<Option<String>, SourceError> {
        if let Some(token) = &self.fixed {
            return Ok(Some(token.clone()));
        }
        match self.latest() {
            Some(token) => Ok(Some(token)),
            None => self.read_file().await,
        }
    }

    /// After a 401: another token than `refused`, if the file has one by now.
    pub(crate) async fn renewed(&self, refused: Option<&str>) -> Result<Option<String>, SourceError> {
        if self.fixed.is_some() {
            return Ok(None);
        }
        Ok(self
            .read_file()
            .await?
            .filter(|token| Some(token.as_str()) != refused))
    }

    /// `text` without the token, and without those that it replaced.
    pub(crate) fn struck_out(&self, text: String) -> String {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tokens: Vec<&String> = self.fixed.iter().chain(&*read).collect();
        // Of one that begins with another, all goes.
        tokens.sort_by_key(|token| Reverse(token.len()));
        tokens
            .into_iter()
            .fold(text, |text, token| text.replace(token.as_str(), "***"))
    }

    fn latest(&self) -> Option<String> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.last().cloned()
    }

    fn keep(&self, token: &str) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.retain(|known| known != token);
        if read.len() == KEPT {
            read.remove(0);
        }
        read.push(token.to_owned());
    }

    async fn read_file(&self) -> Result<Option<String>, SourceError> {
        let Some(file) = &self.file else { return Ok(None) };
        let failed = |what: &str| {
            SourceError::fatal(
                ErrorKind::PermissionDenied,
                format!("the AIStore token file {} {what}", file.display()),
            )
        };
        let text = tokio::fs::read_to_string(file)
            .await
            .map_err(|cause| failed("cannot be read").with_cause(cause))?;
        // The cause of a parse error would quote the file.
        let parsed: serde_json::Value = serde_json::from_str(&text).map_err(|_| failed("is not JSON"))?;
        let token = parsed
            .get("token")
            .and_then(serde_json::Value::as_str)
            .ok_or_else(|| failed("has no \"token\""))?;
        if token.is_empty() || token.chars().any(|c| c.is_control() || c == ' ') {
            return Err(failed("has an unusable \"token\""));
        }
        self.keep(token);
        Ok(Some(token.to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
