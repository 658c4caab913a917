//! The content of a path: an object, and rules about the requests that go wrong.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use super::Fault;
use super::object::Object;
use super::request::{Asked, Request};

/// The requests of a route to which a fault applies.
///
/// Only [`When::Head`], [`When::HeadToo`] and [`When::SignedOff`] include requests other than GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum When {
    /// Every GET.
    Always,
    /// GETs from the object's first byte, or without a range.
    First,
    /// GETs from a later byte.
    Later,
    /// GETs for a range.
    Ranged,
    /// GETs with `If-Match`.
    Conditional,
    /// The nth GET, counted from 1.
    Nth(u64),
    /// The first n GETs.
    UpTo(u64),
    /// The nth GET and all later ones.
    From(u64),
    /// GETs on a reused connection.
    Reused,
    /// GETs on one connection in `of`: `number`, `number + of` and so on.
    ///
    /// Connections are counted from 0 as they are accepted. A client that replaces an affected
    /// connection meets the next one in its turn, as any other client would.
    Connection {
        /// One connection in this many is affected.
        of: u64,
        /// The number of the first affected connection.
        number: u64,
    },
    /// GETs that arrive after an earlier rule of the route has put a fault on the wire.
    AfterFault,
    /// HEAD requests.
    Head,
    /// HEAD and GET requests.
    HeadToo,
    /// HEAD and GET requests that an S3 server with a wrong clock would refuse.
    ///
    /// The server's clock is `ahead` seconds ahead of this machine's. The rule applies to AWS
    /// signatures that are more than 15 minutes before or after that clock, and to requests without
    /// a signature.
    SignedOff {
        /// Seconds by which the server's clock is ahead. A negative number makes it slow.
        ahead: i64,
    },
}

impl When {
    /// Returns whether the rule applies to the `nth` GET of a route, counted from 1.
    ///
    /// `connection` is the number of the request's connection, and `before` the number of faults
    /// that earlier rules have served.
    pub(super) fn holds(self, request: &Request, connection: u64, nth: u64, before: u64) -> bool {
        let start = match request.asked {
            Some(Asked::From { start, .. }) => start,
            // Count a suffix range as later: it starts at the first byte only if it covers the
            // whole object.
            Some(Asked::Last(_)) => u64::MAX,
            None => 0,
        };
        let head = request.method == "HEAD";
        match self {
            Self::Head => head,
            Self::HeadToo => true,
            Self::SignedOff { ahead } => signed_at(request).is_none_or(|at| {
                let now = Timestamp::now().as_second() + ahead;
                at.as_second().abs_diff(now) > 15 * 60
            }),
            _ if head => false,
            Self::Always => true,
            Self::First => start == 0,
            Self::Later => start > 0,
            Self::Ranged => request.asked.is_some(),
            Self::Conditional => {
                let mut headers = request.headers.iter();
                headers.any(|(name, _)| name.eq_ignore_ascii_case("if-match"))
            }
            Self::Nth(n) => nth == n,
            Self::UpTo(n) => nth <= n,
            Self::From(n) => nth >= n,
            Self::Reused => request.reused,
            Self::Connection { of, number } => connection % of.max(1) == number,
            Self::AfterFault => before > 0,
        }
    }
}

/// Returns the time in `X-Amz-Date`, which is a header or part of the query.
fn signed_at(request: &Request) -> Option<Timestamp> {
    let (_, query) = request.target.split_once('?').unwrap_or_default();
    let query = query.split('&').find_map(|pair| pair.strip_prefix("X-Amz-Date="));
    let header = || {
        let mut headers = request.headers.iter();
        let header = headers.find(|(name, _)| name.eq_ignore_ascii_case("x-amz-date"));
        header.map(|(_, value)| value.as_str())
    };
    let date = DateTime::strptime("%Y%m%dT%H%M%SZ", query.or_else(header)?).ok()?;
    TimeZone::UTC.to_timestamp(date).ok()
}

/// A fault, the requests to which it applies, and how many of them.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) when: When,
    pub(super) times: u64,
    pub(super) fault: Fault,
}

/// The content of a path. The first rule that applies decides. Otherwise, the answer is correct.
#[derive(Clone, Debug)]
pub struct Route {
    pub(super) object: Object,
    pub(super) rules: Vec<Rule>,
    pub(super) checks_conditions: bool,
}

impl Route {
    /// Serves `object` correctly: ranges, HEAD, `If-Match`, `If-Range`, keep-alive.
    pub fn new(object: Object) -> Self {
        Self {
            object,
            rules: Vec::new(),
            checks_conditions: true,
        }
    }

    /// Returns the object that the route serves correctly.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// Applies `fault` to the requests that `when` selects.
    #[must_use]
    pub fn fault(self, when: When, fault: Fault) -> Self {
        self.fault_times(when, u64::MAX, fault)
    }

    /// Applies `fault` to the first `times` requests that `when` selects.
    #[must_use]
    pub fn fault_times(mut self, when: When, times: u64, fault: Fault) -> Self {
        self.rules.push(Rule { when, times, fault });
        self
    }

    /// Closes the connection in order after `after` bytes of the first answer from the first byte.
    ///
    /// A client that reads a single stream then requests a later byte. It thus meets faults that it
    /// would otherwise miss.
    #[must_use]
    pub fn cut_first(mut self, after: u64) -> Self {
        let rule = Rule {
            when: When::First,
            times: 1,
            fault: Fault::Fin { after },
        };
        self.rules.insert(0, rule);
        self
    }

    /// Ignores `If-Match` and `If-Range`, as AIStore and other servers do.
    #[must_use]
    pub fn ignoring_conditions(mut self) -> Self {
        self.checks_conditions = false;
        self
    }
}
