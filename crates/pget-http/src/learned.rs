//! What a source has learned of its object's servers, kept for as long as it works.
//!
//! - [`Way`]: where requests go: to the object's address, or straight to where that redirects;
//! - [`Ranges`]: whether they are served;
//! - [`Conditions`]: whether `If-Match` is understood;
//! - [`Codings`]: how the bodies of a download are coded.
//!
//! Invariants of the way:
//! - a target is remembered with all hops that led there, and a request is turned along each of
//!   them, so that a header which a hop took away stays away;
//! - it is remembered once it has served, and forgotten once it has refused;
//! - one request at a time asks the origin where to go; the others wait for what it finds.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode};
use pget_core::{ErrorKind, Match, RangeRequest, Reply, Retry, SourceError};
use tokio::time::timeout;
use url::Url;

use crate::{
    client::{Client, Response},
    conditions::Conditions,
    pool::Origin,
    ranges::Ranges,
    redirect::{self, MOST_REDIRECTS},
    reply::coding,
    request::{Method, RequestHead},
    status::error_for_status,
};

/// A refusal's body, read so that the connection can be used again.
const ERROR_BODY: u64 = 16 * 1024;

/// A target that fails in passing may be restarting. Only after this long, or when a range was
/// tried twice, the origin is asked whether there is another one: its copy may differ.
const RESTARTS_WITHIN: Duration = Duration::from_secs(2);

/// The shortest and the longest pause between two questions to an origin that did not help.
const ASKED_AGAIN_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How long a request waits for another one to find the way before it looks for itself.
const FOUND_WITHIN: Duration = Duration::from_secs(2);

/// The memory of one source.
#[derive(Default)]
pub(crate) struct Learned {
    state: Mutex<State>,
    /// Held by the request that asks the origin.
    asking: tokio::sync::Mutex<()>,
    codings: Codings,
    pub(crate) ranges: Ranges,
    pub(crate) conditions: Conditions,
}

#[derive(Default)]
struct State {
    way: Way,
    /// Counts the ways that were found.
    found: u64,
    trouble: Option<Trouble>,
    /// The server of the first reply of the latest download.
    served_by: Option<Origin>,
}

/// Where requests go.
#[derive(Clone, Default)]
enum Way {
    #[default]
    Unknown,
    /// The origin serves by itself.
    Origin,
    /// The origin redirects: over these hops, to the last one.
    Target(Arc<[Url]>),
}

/// The target fails, and nothing has come from it since.
struct Trouble {
    since: Instant,
    /// It let a deadline pass without an answer: it is not worth another one.
    silent: bool,
    /// When the origin may be asked next, and the pause after that.
    ask: Instant,
    pause: Duration,
}

/// What an answer of a remembered target means for it.
enum Verdict {
    Works,
    /// It does not serve this any more: it has expired, or the object was moved.
    Refuses,
    /// It may be restarting, or be gone.
    Fails,
    /// Nothing.
    Neither,
}

impl Learned {
    /// Sends `head` where the object was last served from, else to its address and where that
    /// redirects. `attempt` is how often its range was tried in vain.
    pub(crate) async fn fetch(
        &self,
        client: &Client,
        head: &RequestHead,
        attempt: u32,
    ) -> Result<Response, SourceError> {
        let mut failed: Option<(u64, SourceError, bool)> = None;
        let mut targets = 0;
        loop {
            let (way, found) = self.way();
            let is_new = failed.as_ref().is_none_or(|(known, ..)| *known != found);
            match way {
                Way::Origin => return self.ask(client, head, found).await.0,
                // A second one was found by another request; there is no third.
                Way::Target(_) if is_new && self.is_silent(found) && self.may_ask(found, attempt) => {
                    let message = "the redirect's target did not answer in time";
                    let error = SourceError::retryable(ErrorKind::Timeout, message);
                    failed = Some((found, error, true));
                }
                Way::Target(hops) if is_new && targets < 2 => {
                    targets += 1;
                    let mut more = Vec::new();
                    let unanswered = Unanswered::of(self, found);
                    let answer = client.follow(redirect::along(head, &hops)?, &mut more).await;
                    unanswered.answered();
                    match verdict(head.method, &answer) {
                        Verdict::Works => {
                            self.works(found, &hops, more);
                            return answer;
                        }
                        Verdict::Neither => return answer,
                        Verdict::Refuses => {
                            self.refuses(found);
                            failed = Some((found, into_error(answer).await, false));
                        }
                        Verdict::Fails if self.may_ask(found, attempt) => {
                            failed = Some((found, into_error(answer).await, true));
                        }
                        Verdict::Fails => return answer,
                    }
                    if let Some((_, error, _)) = &failed {
                        tracing::debug!(%error, "the redirect's target fails; asking the origin again");
                    }
                }
                Way::Unknown | Way::Target(_) => {
                    // HEAD may be left without an answer where GET is served.
                    let asking = match head.method {
                        Method::Get => timeout(FOUND_WITHIN, self.asking.lock()).await.ok(),
                        Method::Head
                        | Method::Post
                        | Method::Put
                        | Method::Delete
                        | Method::DeleteWithContent
                        | Method::GetWithContent => None,
                    };
                    // Another request may have found it since.
                    if self.way().1 != found && targets < 2 {
                        continue;
                    }
                    let (answer, redirected) = self.ask(client, head, found).await;
                    drop(asking);
                    return match (answer, failed) {
                        // The origin does not answer now: its target may come back first.
                        (Err(_), Some((_, error, true))) if !redirected => Err(error),
                        (Ok(response), Some((_, error, true)))
                            if !redirected && is_passing(response.status) =>
                        {
                            response.body.drain_small(ERROR_BODY).await;
                            Err(error)
                        }
                        (answer, _) => answer,
                    };
                }
            }
        }
    }

    /// Asks the origin. Returns its answer or its target's, and whether it redirected.
    async fn ask(
        &self,
        client: &Client,
        head: &RequestHead,
        found: u64,
    ) -> (Result<Response, SourceError>, bool) {
        let mut hops = Vec::new();
        let answer = client.follow(head.clone(), &mut hops).await;
        let redirected = !hops.is_empty();
        if matches!(verdict(head.method, &answer), Verdict::Works) {
            self.leads(found, hops);
        }
        (answer, redirected)
    }

    fn way(&self) -> (Way, u64) {
        let state = self.lock();
        (state.way.clone(), state.found)
    }

    /// A request that began on the way number `found` was served over `hops`.
    fn leads(&self, found: u64, hops: Vec<Url>) {
        let mut state = self.lock();
        let is_known = match &state.way {
            Way::Origin => hops.is_empty(),
            Way::Target(known) => **known == *hops,
            Way::Unknown => false,
        };
        if is_known {
            state.trouble = None;
        } else if state.found == found {
            state.way = match hops {
                none if none.is_empty() => Way::Origin,
                hops => Way::Target(hops.into()),
            };
            state.found += 1;
            state.trouble = None;
        }
    }

    /// The target of the way number `found` serves, `more` hops on.
    fn works(&self, found: u64, hops: &[Url], more: Vec<Url>) {
        let mut state = self.lock();
        if state.found == found {
            state.trouble = None;
            if !more.is_empty() {
                let all: Vec<Url> = hops.iter().cloned().chain(more).collect();
                state.way = if all.len() > MOST_REDIRECTS {
                    Way::Unknown
                } else {
                    Way::Target(all.into())
                };
                state.found += 1;
            }
        }
    }

    fn refuses(&self, found: u64) {
        let mut state = self.lock();
        if state.found == found {
            state.way = Way::Unknown;
            // So that others which it refused, too, see that nothing was found since.
        }
    }

    /// Whether the origin may be asked for another target than the failing one.
    fn may_ask(&self, found: u64, attempt: u32) -> bool {
        let mut state = self.lock();
        if state.found != found {
            return true;
        }
        let now = Instant::now();
        let trouble = state.trouble.get_or_insert_with(|| Trouble::since(now));
        let lasts = now.duration_since(trouble.since) >= RESTARTS_WITHIN || attempt >= 2;
        if !lasts || now < trouble.ask {
            return false;
        }
        trouble.ask = now + trouble.pause;
        trouble.pause = (trouble.pause * 2).min(ASKED_AGAIN_AFTER.1);
        true
    }

    fn is_silent(&self, found: u64) -> bool {
        let state = self.lock();
        state.found == found && state.trouble.as_ref().is_some_and(|trouble| trouble.silent)
    }

    /// Holds a reply's coding to that of the download's first reply; see [`Codings::hold`].
    pub(crate) fn hold_coding(&self, request: &RangeRequest, response: &Response) -> Result<(), SourceError> {
        // Where there is nothing, nothing is coded.
        if response.status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(());
        }
        self.codings.hold(request, &response.headers)
    }

    /// A reply was accepted.
    pub(crate) fn served(&self, request: &RangeRequest, by: &Url) {
        let mut state = self.lock();
        if request.pinned.is_none() || state.served_by.is_none() {
            state.served_by = Origin::of(by).ok();
        }
    }

    /// Puts what is known of the servers into an `error` that says that a reply is of another
    /// revision, or does not say of which one.
    pub(crate) fn explain(
        &self,
        error: SourceError,
        request: &RangeRequest,
        reply: Option<&Reply>,
        by: &Url,
    ) -> SourceError {
        let Some(pinned) = request.pinned.as_deref() else {
            return error;
        };
        let untold = reply.is_some_and(|reply| {
            pinned.revision.is_identity() && pinned.revision.compare(&reply.revision) == Match::Untold
        });
        if error.kind() != ErrorKind::ObjectChanged && !untold {
            return error;
        }
        let first = self.lock().served_by.clone();
        match (first, Origin::of(by).ok()) {
            (Some(first), Some(now)) if first != now => {
                let message = format!(
                    "the redirects lead to different servers with different copies: {first} at \
                     first, {now} now: {error}"
                );
                SourceError::fatal(ErrorKind::ObjectChanged, message)
            }
            _ => error,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trouble {
    const fn since(since: Instant) -> Self {
        Self {
            since,
            silent: false,
            ask: since,
            pause: ASKED_AGAIN_AFTER.0,
        }
    }
}

/// A request to the target. If it is dropped, its deadline has passed, or it is not wanted any
/// more.
struct Unanswered<'a> {
    learned: &'a Learned,
    found: u64,
    since: Instant,
}

impl<'a> Unanswered<'a> {
    fn of(learned: &'a Learned, found: u64) -> Self {
        let since = Instant::now();
        Self {
            learned,
            found,
            since,
        }
    }

    fn answered(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let mut state = self.learned.lock();
        if state.found == self.found {
            let trouble = state.trouble.get_or_insert_with(|| Trouble::since(self.since));
            trouble.silent = true;
        }
    }
}

impl fmt::Debug for Learned {
    /// Without addresses: a target may be signed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        let hops = match &state.way {
            Way::Target(hops) => hops.len(),
            Way::Unknown | Way::Origin => 0,
        };
        f.debug_struct("Learned")
            .field("hops", &hops)
            .field("ranges", &self.ranges)
            .finish_non_exhaustive()
    }
}

fn verdict(method: Method, answer: &Result<Response, SourceError>) -> Verdict {
    match answer {
        Ok(response) => {
            let status = response.status;
            let serves = status.is_success() || matches!(status.as_u16(), 412 | 416);
            let refusal = error_for_status(status, None, "");
            match refusal.retry() {
                _ if serves => Verdict::Works,
                // HEAD may be refused where GET is served.
                _ if method == Method::Head => Verdict::Neither,
                Retry::Refused | Retry::Never => Verdict::Refuses,
                // With 408, 421, 425 and 499, it does not serve this request either.
                _ if status.is_server_error() || matches!(status.as_u16(), 408 | 421 | 425 | 499) => {
                    Verdict::Fails
                }
                // It is there, and busy.
                _ => Verdict::Neither,
            }
        }
        Err(error) => match error.retry() {
            _ if error.kind() == ErrorKind::InvalidArgument => Verdict::Neither,
            _ if method == Method::Head => Verdict::Neither,
            Retry::Never | Retry::Refused => Verdict::Refuses,
            Retry::Backoff => Verdict::Fails,
            // Too many open files, for example.
            Retry::Throttled(_) => Verdict::Neither,
        },
    }
}

/// Whether the origin's own answer says nothing about the object.
fn is_passing(status: StatusCode) -> bool {
    let refusal = error_for_status(status, None, "");
    !status.is_success() && matches!(refusal.retry(), Retry::Backoff | Retry::Throttled(_))
}

async fn into_error(answer: Result<Response, SourceError>) -> SourceError {
    match answer {
        Err(error) => error,
        Ok(response) => {
            let error = error_for_status(response.status, crate::status::retry_after(&response.headers), "");
            response.body.drain_small(ERROR_BODY).await;
            error
        }
    }
}

/// How the bodies of one download are coded: all as the first one.
///
/// A server that codes some replies on the fly and others not serves bytes of two representations
/// under one name.
#[derive(Debug, Default)]
pub struct Codings(Mutex<Option<Option<String>>>);

impl Codings {
    /// Holds the coding of the reply to `request` to that of the download's first reply.
    ///
    /// # Errors
    /// [`Protocol`](ErrorKind::Protocol) if they differ.
    pub fn hold(&self, request: &RangeRequest, headers: &HeaderMap) -> Result<(), SourceError> {
        let now = coding(headers);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = request.pinned.is_none();
        match &*known {
            Some(first) if !is_first && *first != now => {
                let shown = |coding: &Option<String>| coding.clone().unwrap_or_else(|| "none".into());
                let (first, now) = (shown(first), shown(&now));
                Err(crate::head::protocol(format!(
                    "the body's coding (Content-Encoding) was {first} at first and is {now} now: \
                     the server codes on the way"
                )))
            }
            _ => {
                *known = Some(now);
                Ok(())
            }
        }
    }

    /// What it means that a reply with these headers does not fit the pinned revision: a coded
    /// body whose size alone differs, or whose ETag was marked for a coding, was coded on the way.
    #[must_use]
    pub fn explain(
        error: SourceError,
        request: &RangeRequest,
        reply: &Reply,
        headers: &HeaderMap,
    ) -> SourceError {
        let (Some(coding), Some(pinned)) = (coding(headers), request.pinned.as_deref()) else {
            return error;
        };
        if error.kind() != ErrorKind::ObjectChanged {
            return error;
        }
        let unmarked = |etag: &Option<String>| {
            let etag = etag.as_deref()?.trim_start_matches("W/").trim_matches('"');
            let marks = ["-gzip", ";gzip", ":gzip", "-br", "-zstd", "-df"];
            let mark = marks.iter().find_map(|mark| etag.strip_suffix(mark));
            Some(mark.unwrap_or(etag).to_owned())
        };
        let same = pinned.revision.compare(&reply.revision) == Match::Same;
        let (was, is) = (unmarked(&pinned.revision.etag), unmarked(&reply.revision.etag));
        if same || (was.is_some() && was == is) {
            crate::head::protocol(format!(
                "the body is coded on the way ({coding}), differently each time: {error}"
            ))
        } else {
            error
        }
    }
}
