//! The credentials of one object's requests, shared by all of its ranges.
//!
//! Invariants: credentials are looked for by one request at a time (single flight); those that are
//! still good serve the others in that time; they are renewed ahead of their end, and at once when
//! a server has refused them, once for all the requests that went out with them; a region that a
//! server names is believed once; the clock of a server that refuses this machine's time is signed
//! for from then on.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use http::StatusCode;
use pget_core::{ErrorKind, Retry, SourceError};
use pget_http::Method;
use url::Url;

use crate::{
    clock::Offset,
    cloud::{
        contract::{Access, Ask, Cloud, Signed},
        keys::{Credential, Keys, denied},
        search::Search,
    },
};

/// Credentials are renewed with so much left, or with a third of what they had.
const AHEAD: Duration = Duration::from_secs(5 * 60);
/// After renewing has failed, the old ones serve so long before the next attempt.
const AGAIN: Duration = Duration::from_secs(10);

/// A request that is ready to be sent.
#[derive(Debug)]
pub(crate) struct SignedRequest {
    pub(crate) parts: Signed,
    /// Distinguishes credentials: what a server refused is refused for all requests of that issue.
    issue: u64,
    /// The credentials were looked for after asking had begun.
    pub(crate) fresh: bool,
    /// What carries the credential, and where it came from; `None`: there was none.
    authority: Option<Authority>,
    region: Option<String>,
    offset: Offset,
}

/// How a request proves who asks, for people. Holds no credential.
#[derive(Clone, Debug)]
struct Authority {
    /// What it is called, such as "signed in its headers".
    how: &'static str,
    /// Where the credential came from.
    source: Arc<str>,
}

/// What a request is to ask for.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// When asking began.
    pub(crate) since: Instant,
    pub(crate) method: Method,
    pub(crate) range: Option<&'a str>,
    pub(crate) pin: Option<&'a str>,
    /// Where a redirect leads.
    pub(crate) to: Option<&'a Url>,
}

/// Makes the requests for one object.
pub(crate) struct Session {
    cloud: Box<dyn Cloud>,
    state: Mutex<State>,
    search: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    issue: u64,
    region: Option<String>,
    offset: Offset,
    /// What was looked for when nothing was found.
    missing: Option<String>,
    /// Whether credentials were ever had: a first failure is final, a later one likely to pass.
    ever: bool,
}

#[derive(Clone)]
struct Held {
    since: Instant,
    keys: Option<Arc<Keys>>,
    authority: Option<Authority>,
    renew: Option<Instant>,
    end: Option<Instant>,
}

impl Held {
    fn is_due(&self, now: Instant) -> bool {
        self.renew.is_some_and(|renew| renew <= now)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| end <= now)
    }
}

impl Session {
    pub(crate) fn new(cloud: Box<dyn Cloud>) -> Self {
        Self {
            cloud,
            state: Mutex::default(),
            search: tokio::sync::Mutex::default(),
        }
    }

    /// Returns a request for what is `wanted`. Waits while another request looks for credentials.
    /// Cancelling is safe.
    pub(crate) async fn sign(&self, wanted: &Wanted<'_>) -> Result<SignedRequest, SourceError> {
        let held = self.held().await?;
        let (issue, region, offset) = {
            let state = self.state();
            (state.issue, state.region.clone(), state.offset)
        };
        let ask = Ask {
            method: wanted.method,
            keys: held.keys.as_deref(),
            time: offset.apply(SystemTime::now()),
            region: region.as_deref(),
            to: wanted.to,
            range: wanted.range,
            pin: wanted.pin,
        };
        Ok(SignedRequest {
            parts: self.cloud.request(&ask)?,
            issue,
            fresh: held.since >= wanted.since,
            authority: held.authority.clone(),
            region: self.cloud.region(region.as_deref()).map(str::to_owned),
            offset,
        })
    }

    /// Returns the credentials.
    async fn held(&self) -> Result<Held, SourceError> {
        let now = Instant::now();
        let held = self.state().held.clone();
        let _flight = match held {
            Some(held) if !held.is_due(now) => return Ok(held),
            Some(held) if !held.is_over(now) => match self.search.try_lock() {
                Ok(flight) => flight,
                // Another request is renewing them.
                Err(_) => return Ok(held),
            },
            _ => self.search.lock().await,
        };
        // They may have come while this request waited.
        let held = self.state().held.clone();
        if let Some(held) = held.filter(|held| !held.is_due(Instant::now())) {
            return Ok(held);
        }
        self.renewed().await
    }

    /// Looks for credentials; the caller has the flight.
    async fn renewed(&self) -> Result<Held, SourceError> {
        let mut search = Search::new();
        let found = match self.cloud.access() {
            Access::Anonymous => Ok(None),
            Access::Found | Access::Required => self.cloud.find(&mut search).await,
        };
        let mut state = self.state();
        match found {
            Ok(Some(found)) => Ok(state.take(found)),
            Ok(None) if self.cloud.access() == Access::Required => Err(denied(search.summary())),
            Ok(None) => {
                if self.cloud.access() == Access::Found {
                    state.missing = Some(search.summary());
                    tracing::debug!(missing = %search.summary(), "asking without a signature");
                }
                Ok(state.hold(None, None))
            }
            Err(error) => state.keep(error),
        }
    }

    /// Notes that the server refuses `signed`: the next one comes from new credentials. Others that
    /// were refused with the same ones find it done.
    pub(crate) fn refused(&self, signed: &SignedRequest) {
        let mut state = self.state();
        if state.issue == signed.issue {
            state.held = None;
            state.issue += 1;
        }
    }

    /// Notes that the server says that the bucket is in `region`, which [can be
    /// one](crate::errors::Refusal::region). `Ok(false)`: that is where the request went.
    ///
    /// # Errors
    /// If that is not the first one that is named.
    pub(crate) fn moved(&self, signed: &SignedRequest, region: &str) -> Result<bool, SourceError> {
        let mut state = self.state();
        if signed.region.as_deref().is_none_or(|signed| signed == region) {
            return Ok(false);
        }
        match &state.region {
            Some(before) if before == region => Ok(true),
            Some(before) => {
                let text = format!("the bucket is said to be in region {before}, and there, in {region}");
                Err(SourceError::fatal(ErrorKind::Protocol, text))
            }
            None => {
                state.region = Some(region.to_owned());
                Ok(true)
            }
        }
    }

    /// Notes that the server refuses the time of `signed`, its own being `offset` from this
    /// machine's. `false`: it was signed for that time.
    pub(crate) fn late(&self, signed: &SignedRequest, offset: Offset) -> bool {
        if signed.authority.is_none() {
            return false;
        }
        let mut state = self.state();
        if signed.offset.is_like(offset) {
            return false;
        }
        state.offset = offset;
        true
    }

    /// Whether a redirect to `url` may be followed, with a signature for it.
    pub(crate) fn may_follow(&self, url: &Url) -> bool {
        self.cloud.may_follow(url)
    }

    /// Adds to a refusal how the request was signed, or what was looked for if it was not.
    pub(crate) fn explained(
        &self,
        signed: &SignedRequest,
        status: StatusCode,
        error: SourceError,
    ) -> SourceError {
        let is_about_asker = matches!(status.as_u16(), 400 | 401 | 403);
        if !is_about_asker && error.kind() != ErrorKind::PermissionDenied {
            return error;
        }
        let why = match &signed.authority {
            Some(Authority { how, source }) => format!("the request was {how} with {source}"),
            None => match self.state().missing.clone() {
                Some(missing) => missing,
                None => return error,
            },
        };
        let text = format!("{error}; {why}");
        match error.retry() {
            Retry::Refused => SourceError::refused(error.kind(), text),
            Retry::Never => SourceError::fatal(error.kind(), text),
            _ => error,
        }
    }

    /// Returns where the bucket is looked for.
    pub(crate) fn endpoint_id(&self) -> String {
        self.cloud.endpoint_id()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs as a machine would whose clock is `offset` late.
    #[cfg(test)]
    pub(crate) fn be_late(&self, offset: Offset) {
        self.state().offset = offset;
    }

    /// Returns the clock that is signed for.
    #[cfg(test)]
    pub(crate) fn offset(&self) -> Offset {
        self.state().offset
    }
}

impl State {
    fn take(&mut self, found: Credential) -> Held {
        tracing::debug!(source = %found.source, seconds_left = found.left.map(|left| left.as_secs()), "credentials");
        self.ever = true;
        self.missing = None;
        let authority = Authority {
            how: found.keys.how(),
            source: found.source.into(),
        };
        self.hold(Some((Arc::new(found.keys), authority)), found.left)
    }

    fn hold(&mut self, found: Option<(Arc<Keys>, Authority)>, left: Option<Duration>) -> Held {
        let now = Instant::now();
        // What is said to be over already may be so by this machine's clock alone.
        let left = left.map(|left| if left.is_zero() { AHEAD } else { left });
        let (keys, authority) = found.unzip();
        let held = Held {
            since: now,
            keys,
            authority,
            renew: left.map(|left| now + left - AHEAD.min(left / 3)),
            end: left.map(|left| now + left),
        };
        self.held = Some(held.clone());
        self.issue += 1;
        held
    }

    /// Keeps credentials that are still good if new ones cannot be had.
    fn keep(&mut self, error: SourceError) -> Result<Held, SourceError> {
        let now = Instant::now();
        if let Some(held) = self.held.as_mut().filter(|held| !held.is_over(now)) {
            tracing::warn!(%error, "the credentials cannot be renewed yet");
            held.renew = Some(now + AGAIN);
            return Ok(held.clone());
        }
        if self.ever && error.retry() == Retry::Never {
            let text = error.to_string();
            return Err(SourceError::retryable(ErrorKind::Unavailable, text).with_cause(error));
        }
        Err(error)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("cloud", &self.cloud)
            .finish_non_exhaustive()
    }
}
