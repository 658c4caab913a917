//! The environment, files, programs and HTTP as the providers of credentials see them.
//!
//! Invariants: HTTP goes through the caller's [`Client`], so that proxy, roots and time-outs are
//! those of the data; metadata services are asked directly. No answer's body and no program's
//! output is part of an error's text, except the code that a service names its refusal by.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pget_core::SourceError;
use pget_http::{Client, Method, RedirectPolicy, RequestHead};
use tokio::time::timeout;
use url::Url;
use zeroize::Zeroizing;

use super::keys::{Secret, denied, unavailable, unusable};

/// The largest answer or file that is read.
const LIMIT: usize = 1 << 20;
/// For one request to a service that issues credentials.
const ANSWER: Duration = Duration::from_secs(10);
/// Attempts of a request that fails in passing.
const ATTEMPTS: u32 = 3;
/// The first pause between two attempts; doubled with each.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a program may take that prints credentials: it may ask a person for a second factor.
const PROGRAM: Duration = Duration::from_secs(60);

/// What providers see. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    client: Client,
    home: Arc<Home>,
}

/// The environment's variables, and the folder that `~` stands for.
pub(crate) struct Home(pub(crate) BTreeMap<String, String>);

impl std::fmt::Debug for Home {
    /// Names only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Home {
    /// Returns a variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Returns `path` with `~` replaced by the home folder, if there is one.
    pub(crate) fn path(&self, path: &str) -> Option<PathBuf> {
        match path.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                let home = self.variable("HOME")?;
                Some(PathBuf::from(format!("{home}{rest}")))
            }
            _ => Some(PathBuf::from(path)),
        }
    }
}

/// A request to a service that issues credentials.
pub(crate) struct Call {
    /// The service, for messages: "the token service".
    pub(crate) service: String,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Zeroizing<Vec<u8>>,
    /// Not through a proxy.
    pub(crate) direct: bool,
    pub(crate) within: Duration,
    pub(crate) attempts: u32,
}

impl Call {
    pub(crate) fn new(service: impl Into<String>, method: Method, url: Url) -> Self {
        Self {
            service: service.into(),
            method,
            url,
            headers: HeaderMap::new(),
            content: Zeroizing::new(Vec::new()),
            direct: false,
            within: ANSWER,
            attempts: ATTEMPTS,
        }
    }

    /// Asks a metadata service, which answers at once or is not there.
    pub(crate) fn metadata(service: impl Into<String>, method: Method, url: Url) -> Self {
        Self {
            direct: true,
            ..Self::new(service, method, url)
        }
    }

    /// Adds a header, whose value may be secret.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Result<Self, SourceError> {
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| unusable(format!("{name} for {} cannot be sent", self.service)))?;
        value.set_sensitive(true);
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(self)
    }

    /// Sets the content, with its type.
    pub(crate) fn content(mut self, kind: &'static str, content: String) -> Self {
        self.headers
            .insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
        self.content = Zeroizing::new(content.into_bytes());
        self
    }

    /// Sets the content to a form of names and values.
    pub(crate) fn form(self, pairs: &[(&str, &str)]) -> Self {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(pairs);
        self.content("application/x-www-form-urlencoded", form.finish())
    }

    pub(crate) fn within(mut self, within: Duration, attempts: u32) -> Self {
        self.within = within;
        self.attempts = attempts;
        self
    }
}

/// A service's answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// Returns the body as JSON.
    pub(crate) fn json(&self, service: &str) -> Result<serde_json::Value, SourceError> {
        // The cause would quote the body.
        serde_json::from_slice(&self.body).map_err(|_| denied(format!("the answer of {service} is not JSON")))
    }

    pub(crate) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// Returns the refusal as an error, with `code` if the service named one.
    pub(crate) fn refusal(&self, service: &str, code: Option<&str>) -> SourceError {
        let code = code
            .filter(|code| !code.is_empty() && code.len() <= 80)
            .filter(|code| {
                code.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte))
            })
            .map_or_else(String::new, |code| format!(": {code}"));
        let text = format!("{service} answers {}{code}", self.status);
        match self.status.as_u16() {
            408 | 429 | 500..=599 => unavailable(text),
            _ => denied(text),
        }
    }
}

impl Context {
    pub(crate) fn new(client: Client, variables: BTreeMap<String, String>) -> Self {
        Self {
            client,
            home: Arc::new(Home(variables)),
        }
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// Returns a variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.home.variable(name)
    }

    /// Returns `path` with `~` replaced by the home folder, if there is one.
    pub(crate) fn path(&self, path: &str) -> Option<PathBuf> {
        self.home.path(path)
    }

    /// Reads a small file.
    pub(crate) async fn file(&self, path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || read(&path))
            .await
            .map_err(io::Error::other)?
    }

    /// Reads a small file that a setting names and that holds a secret text.
    pub(crate) async fn secret_file(&self, what: &str, path: &str) -> Result<Secret, SourceError> {
        let full = self.path(path).unwrap_or_else(|| PathBuf::from(path));
        let bytes = self
            .file(&full)
            .await
            .map_err(|error| denied(format!("cannot read {what} {}: {}", full.display(), error.kind())))?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim();
        if text.is_empty() {
            return Err(denied(format!("{what} {} is empty", full.display())));
        }
        Ok(Secret::new(text))
    }

    /// Sends a request, again after failures that may pass, and returns the last answer.
    pub(crate) async fn call(&self, call: &Call) -> Result<Answer, SourceError> {
        let mut pause = PAUSE;
        let mut attempt = 1;
        loop {
            let outcome = match timeout(call.within, self.exchange(call)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(unavailable(format!(
                    "{} does not answer within {:.1} s",
                    call.service,
                    call.within.as_secs_f32()
                ))),
            };
            let passing = match &outcome {
                Ok(answer) => matches!(answer.status.as_u16(), 408 | 429 | 500 | 502..=504),
                Err(error) => !matches!(error.retry(), pget_core::Retry::Never),
            };
            if !passing || attempt >= call.attempts {
                return outcome;
            }
            tracing::debug!(service = %call.service, attempt, "asking again for credentials");
            tokio::time::sleep(pause).await;
            pause *= 2;
            attempt += 1;
        }
    }

    async fn exchange(&self, call: &Call) -> Result<Answer, SourceError> {
        let mut head = RequestHead::get(call.url.clone());
        head.method = call.method;
        head.headers = call.headers.clone();
        head.follow = RedirectPolicy::No;
        head.direct = call.direct;
        head.content = call.content.to_vec().into();
        let sent = self.client.get(head).await;
        let response = sent.map_err(|error| {
            let text = format!("{} cannot be asked", call.service);
            match error.retry() {
                pget_core::Retry::Never => SourceError::fatal(error.kind(), text).with_cause(error),
                _ => SourceError::retryable(error.kind(), text).with_cause(error),
            }
        })?;
        let (status, headers) = (response.status, response.headers);
        let body = Zeroizing::new(response.body.bytes(LIMIT).await?);
        tracing::debug!(service = %call.service, status = status.as_u16(), "a service for credentials answered");
        Ok(Answer {
            status,
            headers,
            body,
        })
    }

    /// Runs a program that prints credentials, without a shell, and returns its output.
    ///
    /// The program gets this process's environment, and no input. Neither its output nor what it
    /// writes to standard error becomes part of an error.
    pub(crate) async fn run(
        &self,
        what: &str,
        words: Vec<String>,
    ) -> Result<Zeroizing<Vec<u8>>, SourceError> {
        let name = words.first().cloned().unwrap_or_default();
        let ran = tokio::task::spawn_blocking(move || run(&words)).await;
        let failed = |why: String| denied(format!("{what} {name:?} {why}"));
        match ran {
            Ok(Ok((Some(0), output))) => Ok(output),
            Ok(Ok((Some(code), _))) => Err(failed(format!("ended with status {code}"))),
            Ok(Ok((None, _))) => Err(failed(format!(
                "was ended by a signal, or did not end within {} s",
                PROGRAM.as_secs()
            ))),
            Ok(Err(error)) => Err(failed(format!("cannot be run: {}", error.kind()))),
            Err(_) => Err(failed("cannot be run".into())),
        }
    }
}

pub(crate) fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() && !path.starts_with("/dev/") && !path.starts_with("/proc/") {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    file.take(LIMIT as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns the exit status (none if a signal or the deadline ended it) and the output.
fn run(words: &[String]) -> io::Result<(Option<i32>, Zeroizing<Vec<u8>>)> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = child.stdout.take();
    let reader = std::thread::Builder::new().spawn(move || {
        let mut output = Zeroizing::new(Vec::new());
        if let Some(stdout) = stdout {
            stdout.take(LIMIT as u64).read_to_end(&mut output)?;
        }
        Ok::<_, io::Error>(output)
    })?;
    let deadline = Instant::now() + PROGRAM;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status.code();
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            // A grandchild may hold the pipe: its output is of no interest.
            return Ok((None, Zeroizing::new(Vec::new())));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let output = reader
        .join()
        .map_err(|_| io::Error::other("reading the output panicked"))??;
    Ok((status, output))
}

#[cfg(test)]
mod tests {
    use pget_http::ClientOptions;

    use super::*;

    fn context(variables: &[(&str, &str)]) -> Context {
        let client = Client::new(&ClientOptions::default()).expect("a client");
        let pairs = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        Context::new(client, pairs.collect())
    }

    #[test]
    fn a_tilde_is_the_home_folder_only_at_the_beginning() {
        let context = context(&[("HOME", "/home/u"), ("EMPTY", "")]);
        for (given, meant) in [
            ("~/.aws/config", "/home/u/.aws/config"),
            ("~", "/home/u"),
            ("/a/~b", "/a/~b"),
            ("~u/x", "~u/x"),
        ] {
            assert_eq!(context.path(given).as_deref(), Some(Path::new(meant)), "{given}");
        }
        assert_eq!(context.variable("EMPTY"), None);
    }

    #[tokio::test]
    async fn a_program_s_failure_shows_nothing_that_it_printed() {
        let context = context(&[]);
        for script in ["echo canary; exit 3", "echo canary >&2; exit 3", "kill -9 $$"] {
            let words = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
            let error = context.run("credential_process", words).await.expect_err(script);
            let text = format!("{error} {error:?}");
            assert!(!text.contains("canary") && text.contains("/bin/sh"), "{text}");
        }
        let words = ["/bin/sh", "-c", "cat; echo out"].map(str::to_owned).to_vec();
        let output = context.run("credential_process", words).await.expect("it ends");
        assert_eq!(output.as_slice(), b"out\n");
    }
}
