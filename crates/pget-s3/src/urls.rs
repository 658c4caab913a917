//! Signed addresses, shared by all ranges of a download.
//!
//! Invariants: one signature a method at a time, made by whoever comes first while the others wait for it (single flight); it is replaced in the last third of its
//! life, and at once when a server has refused it, but only once for all the requests that went out with it; a region that a server names is believed once, and the clock of one that refuses
//! this machine's time is signed for from then on.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use pget_core::{ErrorKind, SourceError};
use pget_http::Method;
use tokio::sync::Mutex;

use crate::{
    clock::Offset,
    failure,
    sign::{HEADER_LIFETIME, Signed, Signer},
    store::Recipe,
};

/// A signature as it is lent to a request.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    pub(crate) signed: Arc<Signed>,
    /// Tells signers apart: what a server refused is refused for all tickets of that signer.
    issue: u64,
    /// Made for this very request.
    pub(crate) fresh: bool,
}

/// Hands out signed addresses of one object.
pub(crate) struct Urls {
    recipe: Recipe,
    lifetime: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    signer: Option<Arc<Signer>>,
    issue: u64,
    region: Option<String>,
    /// The server's clock, once it has refused this machine's.
    offset: Option<Offset>,
    get: Option<Entry>,
    head: Option<Entry>,
    /// Whether credentials were ever had: whoever never had any is told so at once, a later failure is likely to pass.
    signed: bool,
}

struct Entry {
    signed: Arc<Signed>,
    until: Instant,
}

impl Urls {
    pub(crate) fn new(recipe: Recipe, lifetime: Duration) -> Self {
        Self {
            recipe,
            lifetime,
            state: Mutex::default(),
        }
    }

    /// The address for a request of this method. Waits while another request has it signed; cancelling is safe.
    pub(crate) async fn ticket(&self, method: Method) -> Result<Ticket, SourceError> {
        let mut state = self.state.lock().await;
        let issue = state.issue;
        let slot = if method == Method::Head {
            &state.head
        } else {
            &state.get
        };
        if let Some(entry) = slot.as_ref().filter(|entry| Instant::now() < entry.until) {
            let signed = Arc::clone(&entry.signed);
            return Ok(Ticket {
                signed,
                issue,
                fresh: false,
            });
        }
        let ever = state.signed;
        let failed = |error| failure::of_signing(error, ever);
        let signer = match &state.signer {
            Some(signer) => Arc::clone(signer),
            None => Arc::new(self.recipe.signer(state.region.as_deref()).map_err(failed)?),
        };
        state.signer = Some(Arc::clone(&signer));
        let made = self
            .recipe
            .sign(&signer, method, self.lifetime, state.offset)
            .await;
        let signed = Arc::new(made.map_err(failed)?);
        let lifetime = if signed.headers.is_empty() {
            self.lifetime
        } else {
            self.lifetime.min(HEADER_LIFETIME)
        };
        let entry = Entry {
            signed: Arc::clone(&signed),
            until: Instant::now() + lifetime * 2 / 3,
        };
        *(if method == Method::Head {
            &mut state.head
        } else {
            &mut state.get
        }) = Some(entry);
        state.signed = true;
        Ok(Ticket {
            signed,
            issue,
            fresh: true,
        })
    }

    /// The server refuses `ticket`: the next one comes from new credentials. Others that were refused with the same signature find it done.
    pub(crate) async fn refused(&self, ticket: &Ticket) {
        let mut state = self.state.lock().await;
        if state.issue == ticket.issue {
            state.begin_anew();
        }
    }

    /// The server says that the bucket is in `region`, which [can be one](crate::refusal::Refusal::region). `Ok(false)`: that is where the request went.
    ///
    /// # Errors
    /// If that is not the first one that is named.
    pub(crate) async fn moved(&self, ticket: &Ticket, region: &str) -> Result<bool, SourceError> {
        let mut state = self.state.lock().await;
        if state.issue != ticket.issue {
            return Ok(true);
        }
        if state
            .signer
            .as_deref()
            .and_then(Signer::region)
            .is_none_or(|signed| signed == region)
        {
            return Ok(false);
        }
        if let Some(before) = &state.region {
            let text = format!("the bucket is said to be in region {before}, and there, in {region}");
            return Err(SourceError::fatal(ErrorKind::Protocol, text));
        }
        state.region = Some(region.to_owned());
        state.begin_anew();
        Ok(true)
    }

    /// The server refuses the time of `ticket`, its own being `offset` from this machine's: the next ones are for that. `false`: this one was, or signatures here have no time of their own.
    pub(crate) async fn late(&self, ticket: &Ticket, offset: Offset) -> bool {
        let mut state = self.state.lock().await;
        if state.offset.unwrap_or_default().is_like(offset) {
            // Another request may have told so before.
            return state.issue != ticket.issue;
        }
        if !state.signer.as_deref().is_none_or(Signer::takes_time) {
            return false;
        }
        state.offset = Some(offset);
        state.sign_anew();
        true
    }

    /// Signs as a machine would whose clock is `offset` behind the right one.
    #[cfg(test)]
    pub(crate) async fn be_late(&self, offset: Offset) {
        self.state.lock().await.offset = Some(offset);
    }

    /// Takes the signatures at hand for good for an hour; the number of their issue.
    #[cfg(test)]
    pub(crate) async fn hold_for_good(&self) -> u64 {
        let mut state = self.state.lock().await;
        let until = Instant::now() + Duration::from_secs(3600);
        let State { get, head, issue, .. } = &mut *state;
        for entry in [get, head].into_iter().flatten() {
            entry.until = until;
        }
        *issue
    }
}

impl State {
    fn begin_anew(&mut self) {
        self.signer = None;
        self.sign_anew();
    }

    /// The same, with the credentials at hand.
    fn sign_anew(&mut self) {
        self.get = None;
        self.head = None;
        self.issue += 1;
    }
}

impl fmt::Debug for Urls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Urls")
            .field("recipe", &self.recipe)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}
