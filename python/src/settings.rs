//! From keyword arguments to a builder.

use std::{sync::Arc, time::Duration};

use pget_rs::{Builder, ObjectInfo, Options, Revision, Verify};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyDict, PyString},
};

/// Ends every call that has it, once it is triggered.
#[pyclass(frozen, module = "pget")]
pub(crate) struct Cancel(pub(crate) pget_rs::Cancel);

#[pymethods]
impl Cancel {
    #[new]
    fn new() -> Self {
        Self(pget_rs::Cancel::new())
    }

    /// Ends the calls that have this, and later ones: they raise `CancelledError`.
    fn trigger(&self, py: Python<'_>) {
        py.detach(|| self.0.trigger());
    }

    /// Whether it was triggered.
    #[getter]
    fn triggered(&self) -> bool {
        self.0.is_triggered()
    }

    fn __repr__(&self) -> String {
        let state = if self.0.is_triggered() {
            "triggered"
        } else {
            "armed"
        };
        format!("<pget.Cancel: {state}>")
    }
}

/// How to read, for one call.
pub(crate) struct Settings {
    pub(crate) builder: Builder,
    /// The caller's handle.
    pub(crate) cancel: Option<pget_rs::Cancel>,
    /// The caller's function.
    pub(crate) progress: Option<Py<PyAny>>,
    pub(crate) offset: u64,
    pub(crate) length: Option<u64>,
}

impl Settings {
    /// # Errors
    /// `TypeError` for an unknown name or a value of another type, `ValueError` for one out of its
    /// range.
    pub(crate) fn new(url: &Bound<'_, PyAny>, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let url = address(url)?;
        let mut settings = Self {
            builder: pget_rs::builder(&url),
            cancel: None,
            progress: None,
            offset: 0,
            length: None,
        };
        for (name, value) in options {
            if !value.is_none() {
                let name: String = name.extract()?;
                settings = settings.set(&name, &value)?;
            }
        }
        Ok(settings)
    }

    fn set(mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let builder = self.builder;
        self.builder = match name {
            "chunk_size" => builder.chunk_size(within(name, value, 1, Options::MAX_CHUNK_SIZE)?),
            "concurrency" => {
                builder.concurrency(small(within(name, value, 1, Options::MAX_CONCURRENCY.into())?))
            }
            "window" => builder.window(small(within(name, value, 1, Options::MAX_WINDOW.into())?)),
            "gap" => builder.gap(within(name, value, 0, u64::MAX)?),
            "retry_timeout" => builder.retry_timeout(seconds(name, value)?),
            "retries" => builder.retries(small(within(name, value, 0, Options::MAX_RETRIES.into())?)),
            "memory_limit" => builder.memory_limit(within(name, value, 0, u64::MAX)?),
            "connect_timeout" => builder.connect_timeout(seconds(name, value)?),
            "first_byte_timeout" => builder.first_byte_timeout(seconds(name, value)?),
            "stall_timeout" => builder.stall_timeout(seconds(name, value)?),
            "resume" => builder.resume(value.extract()?),
            "sync" => builder.sync(value.extract()?),
            "verify" => builder.verify(verify(value)?),
            "pin" => builder.pin(info(value)?),
            "offset" => {
                self.offset = within(name, value, 0, u64::MAX - 1)?;
                builder.offset(self.offset)
            }
            "length" => {
                let length = within(name, value, 0, u64::MAX - 1)?;
                self.length = Some(length);
                builder.length(length)
            }
            "properties" => pairs(name, value)?
                .into_iter()
                .fold(builder, |builder, (key, value)| builder.property(key, value)),
            "headers" => pairs(name, value)?
                .into_iter()
                .fold(builder, |builder, (key, value)| builder.header(key, value)),
            "cancel" => {
                self.cancel = Some(value.cast::<Cancel>()?.get().0.clone());
                builder
            }
            "progress" => {
                if !value.is_callable() {
                    return Err(PyTypeError::new_err("progress must be callable"));
                }
                self.progress = Some(value.clone().unbind());
                builder
            }
            unknown => {
                let message = format!("there is no option {unknown:?}");
                return Err(PyTypeError::new_err(message));
            }
        };
        Ok(self)
    }
}

/// An address: a text, or a path as `os.fspath` takes it.
pub(crate) fn address(url: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(text) = url.cast::<PyString>() {
        return Ok(text.to_cow()?.into_owned());
    }
    let path = url.py().import("os")?.call_method1("fspath", (url,))?;
    path.extract()
        .map_err(|_| PyTypeError::new_err("an address must be a str or a path that is UTF-8"))
}

fn within(name: &str, value: &Bound<'_, PyAny>, least: u64, most: u64) -> PyResult<u64> {
    let index = value.py().import("operator")?.call_method1("index", (value,));
    let index = index.map_err(|_| PyTypeError::new_err(format!("{name} must be an int")))?;
    match index.extract::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(PyValueError::new_err(format!(
            "{name} must be {least} to {most}, not {index}"
        ))),
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

pub(crate) fn seconds(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds: f64 = value
        .extract()
        .map_err(|_| PyTypeError::new_err(format!("{name} must be a number of seconds")))?;
    let duration = Duration::try_from_secs_f64(seconds).ok();
    duration
        .filter(|duration| !duration.is_zero() && *duration <= Duration::from_secs(86_400))
        .ok_or_else(|| {
            PyValueError::new_err(format!(
                "{name} must be more than 0 and at most 86400 seconds, not {seconds}"
            ))
        })
}

fn verify(value: &Bound<'_, PyAny>) -> PyResult<Verify> {
    let word: String = value
        .extract()
        .map_err(|_| PyTypeError::new_err("verify must be a str"))?;
    Verify::from_name(&word).ok_or_else(|| {
        PyValueError::new_err(format!("verify must be 'auto', 'require' or 'off', not {word:?}"))
    })
}

/// A mapping, or an iterable of pairs.
fn pairs(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    let items = match value.call_method0("items") {
        Ok(items) => items,
        Err(_) => value.clone(),
    };
    let wrong = || PyTypeError::new_err(format!("{name} must map str to str"));
    items
        .try_iter()
        .map_err(|_| wrong())?
        .map(|pair| pair?.extract().map_err(|_| wrong()))
        .collect()
}

/// The revision of a `pget.ObjectInfo`.
fn info(value: &Bound<'_, PyAny>) -> PyResult<ObjectInfo> {
    let wrong = |_| PyTypeError::new_err("pin must be a pget.ObjectInfo");
    let text = |name: &str| value.getattr(name).and_then(|text| text.extract()).map_err(wrong);
    let checksum: Option<(String, String)> = value
        .getattr("checksum")
        .and_then(|pair| pair.extract())
        .map_err(wrong)?;
    let size = value
        .getattr("size")
        .and_then(|size| size.extract())
        .map_err(wrong)?;
    let revision = Revision {
        etag: text("etag")?,
        version: text("version")?,
        checksum: checksum.map(|(algorithm, value)| pget_rs::Checksum { algorithm, value }),
        last_modified: text("last_modified")?,
    };
    Ok(ObjectInfo {
        size,
        revision,
        ..ObjectInfo::default()
    })
}

/// A `pget.ObjectInfo`.
pub(crate) fn object_info<'py>(py: Python<'py>, info: &ObjectInfo) -> PyResult<Bound<'py, PyAny>> {
    let revision = &info.revision;
    let checksum = revision
        .checksum
        .as_ref()
        .map(|checksum| (checksum.algorithm.as_str(), checksum.value.as_str()));
    let fields = (
        info.size,
        revision.etag.as_deref(),
        revision.version.as_deref(),
        checksum,
        revision.last_modified.as_deref(),
        info.chunk_hint,
    );
    py.import("pget._types")?.getattr("ObjectInfo")?.call1(fields)
}

/// A `pget.Stats`.
pub(crate) fn stats<'py>(py: Python<'py>, stats: &pget_rs::Stats) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("delivered", stats.delivered)?;
    fields.set_item("received", stats.received)?;
    fields.set_item("requests", stats.requests)?;
    fields.set_item("retries", stats.retries)?;
    fields.set_item("fences", stats.fences)?;
    fields.set_item("stalls", stats.stalls)?;
    fields.set_item("window_full", stats.window_full.as_secs_f64())?;
    fields.set_item("consumer_wait", stats.consumer_wait.as_secs_f64())?;
    fields.set_item("peak_buffered", stats.peak_buffered)?;
    fields.set_item("concurrency", stats.concurrency)?;
    fields.set_item("chunk_size", stats.chunk_size)?;
    fields.set_item("one_stream", stats.one_stream)?;
    let waiting = stats.waiting.as_ref();
    fields.set_item("waiting", waiting.map(|waiting| waiting.lasted().as_secs_f64()))?;
    fields.set_item("verification", stats.verification.name())?;
    let checksum = stats.verification.algorithm();
    fields.set_item("checksum", checksum.map(|algorithm| algorithm.name()))?;
    let made = py.import("pget._types")?.getattr("Stats")?;
    made.call((), Some(&fields))
}

/// The latest progress, for the caller's function.
#[derive(Default)]
pub(crate) struct LatestProgress(std::sync::Mutex<Option<pget_rs::Progress>>);

impl LatestProgress {
    /// Makes `builder` keep its progress here, on any thread: no Python runs then.
    pub(crate) fn by(builder: Builder) -> (Builder, Arc<Self>) {
        let latest = Arc::new(Self::default());
        let keep = Arc::clone(&latest);
        let builder = builder.progress(move |progress| {
            *keep.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(progress);
        });
        (builder, latest)
    }

    /// Calls the caller's function with what is new.
    pub(crate) fn call(&self, function: &Bound<'_, PyAny>) -> PyResult<()> {
        let new = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        let Some(progress) = new else { return Ok(()) };
        let py = function.py();
        let fields = (
            progress.stats.delivered,
            progress.total,
            stats(py, &progress.stats)?,
        );
        let progress = py.import("pget._types")?.getattr("Progress")?.call1(fields)?;
        function.call1((progress,))?;
        Ok(())
    }
}
