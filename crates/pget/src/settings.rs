//! How to read an object: everything except its address.
//!
//! One [`Settings`] is filled by the [`Builder`](crate::Builder), by the C ABI and by the program.
//!
//! Invariant: [`Settings::check`] knows the bounds of every value. No other code has them.

use std::{collections::BTreeMap, fmt};

use pget_core::{Error, ErrorKind, Options};

/// How to read an object. Start from [`Settings::default`] and set the fields that differ.
///
/// Settings name no object, so one value serves any number of reads.
///
/// # Examples
/// ```no_run
/// let mut settings = pget::Settings::default();
/// settings.options.chunk_size = Some(8 << 20);
/// settings.file.resume = true;
/// settings.check()?;
/// for name in ["a", "b"] {
///     let url = format!("s3://bucket/{name}");
///     let object = pget::builder(&url).settings(settings.clone());
/// }
/// # Ok::<(), pget::Error>(())
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Settings {
    /// Which bytes to read, in what ranges, with how much memory and how much patience.
    pub options: Options,
    /// How a file is written. Only reads into a file use it.
    pub file: pget_file::Settings,
    /// Settings of the transport by name (`ais.endpoint`, `aws.region`, …). They take precedence
    /// over the environment.
    pub properties: BTreeMap<String, String>,
    /// Headers for `http` and `https`, as name and value.
    pub headers: Vec<(String, String)>,
    /// Threads of the process's runtime, 1 to 1,024; `None`: the environment variable
    /// `PGET_THREADS`, else as many as there are processors, at most 8. The first blocking call of
    /// the process starts the runtime, and later values have no effect.
    pub threads: Option<u32>,
}

impl Settings {
    /// The most threads of the process's runtime.
    pub const MAX_THREADS: u32 = 1024;

    /// Compares every value with its bounds. Sends nothing, and reads no file.
    ///
    /// Names and values of [`properties`](Self::properties) and [`headers`](Self::headers) depend
    /// on the address. They are checked with it.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument); the message names the value and its bounds.
    ///
    /// # Examples
    /// ```
    /// let mut settings = pget::Settings::default();
    /// settings.options.concurrency = Some(2000);
    /// let error = settings.check().unwrap_err();
    /// assert_eq!(error.kind(), pget::ErrorKind::InvalidArgument);
    /// assert!(error.to_line().contains("concurrency must be 1 to 1024, not 2000"));
    /// ```
    pub fn check(&self) -> Result<(), Error> {
        self.options.check()?;
        self.file.check()?;
        match self.threads {
            Some(threads) if !(1..=Self::MAX_THREADS).contains(&threads) => {
                let message = format!("threads must be 1 to {}, not {threads}", Self::MAX_THREADS);
                Err(Error::new(ErrorKind::InvalidArgument, "", message))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Settings {
    /// Shows no value of a header or a property, because it may be a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Settings")
            .field("options", &self.options)
            .field("file", &self.file)
            .field("properties", &self.properties.keys())
            .field("headers", &headers)
            .field("threads", &self.threads)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    type Change = fn(&mut Settings);

    #[test]
    fn a_value_out_of_its_bounds_is_named_with_them() {
        let day = Duration::from_secs(86_400);
        let cases: [(&str, &str, Change); 9] = [
            ("threads", "1 to 1024, not 0", |s| s.threads = Some(0)),
            ("threads", "1 to 1024, not 1025", |s| s.threads = Some(1025)),
            ("chunk_size", "1 to 1073741824, not 0", |s| {
                s.options.chunk_size = Some(0);
            }),
            ("concurrency", "1 to 1024, not 1025", |s| {
                s.options.concurrency = Some(1025);
            }),
            ("window", "1 to 65536, not 65537", |s| {
                s.options.window = Some(65_537);
            }),
            ("retries", "0 to 1000, not 1001", |s| {
                s.options.retries = Some(1001);
            }),
            ("connect_timeout", "at most 86400s, not 0ns", |s| {
                s.options.deadlines.connect = Duration::ZERO;
            }),
            ("journal_interval", "10ms to 86400s, not 9ms", |s| {
                s.file.journal_interval = Duration::from_millis(9);
            }),
            ("journal_interval", "10ms to 86400s, not 86401s", |s| {
                s.file.journal_interval = Duration::from_secs(86_401);
            }),
        ];
        for (name, bounds, change) in cases {
            let mut settings = Settings::default();
            change(&mut settings);
            let error = settings.check().expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            let line = error.to_line();
            assert!(line.contains(name) && line.contains(bounds), "{line}");
        }
        let mut settings = Settings {
            threads: Some(Settings::MAX_THREADS),
            ..Settings::default()
        };
        settings.file.journal_interval = day;
        settings.options.retry_timeout = day;
        settings.check().expect("all at their bounds");
    }

    #[test]
    fn no_credential_is_shown() {
        let mut settings = Settings::default();
        let secret = || "hunter2".to_owned();
        settings.properties.insert("aws.token".into(), secret());
        settings.headers.push(("authorization".into(), secret()));
        let text = format!("{settings:?} {settings:#?}");
        assert!(text.contains("aws.token") && text.contains("authorization"));
        assert!(!text.contains("hunter2"), "{text}");
    }
}
