//! Remembered redirects. A Location of the proxy serves many requests with other ranges; it is
//! kept, verbatim, for one request at a time, so that there is about one for each connection: not
//! one for each range (half the cost of a 64 KiB range, and a token of the frontend's rate limit),
//! and not one for all, as the proxy hands out a target's network interfaces in turn.

use std::sync::{Mutex, PoisonError};

use url::Url;

/// Where the proxy sent a request, query and all.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Route(pub(crate) Url);

/// Routes not in use. Last in, first out, as their connections are.
#[derive(Default)]
pub(crate) struct Routes(Mutex<Vec<Route>>);

impl Routes {
    /// One to be tried.
    pub(crate) fn try_one(&self) -> Option<Trial<'_>> {
        let route = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Trial {
            routes: self,
            route,
            passed: false,
        })
    }

    /// Keeps the route that served a request, if there was one, for the next.
    pub(crate) fn put(&self, route: Option<Route>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(route);
    }

    /// Forgets those to the same host and port: what failed once will fail again.
    fn forget(&self, failed: &Route) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|route| !same_origin(&route.0, &failed.0));
    }
}

/// A request along a remembered route. Unless it [passes](Self::passed), what leads to the same
/// place is forgotten: also when it is given up because no answer comes.
pub(crate) struct Trial<'a> {
    routes: &'a Routes,
    route: Route,
    passed: bool,
}

impl Trial<'_> {
    pub(crate) const fn url(&self) -> &Url {
        &self.route.0
    }

    pub(crate) fn passed(mut self) -> Route {
        self.passed = true;
        self.route.clone()
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if !self.passed {
            self.routes.forget(&self.route);
        }
    }
}

pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

impl std::fmt::Debug for Routes {
    /// The query of a Location may hold a signature.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Routes({})",
            self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
        )
    }
}
