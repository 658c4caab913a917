//! What a path serves: an object, and rules about what goes wrong with which requests.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use super::Fault;
use super::object::Object;
use super::request::{Asked, Request};

/// Which requests of a route a fault meets. All but [`When::Head`], [`When::HeadToo`] and [`When::SignedOff`] mean GET requests only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum When {
    /// Every GET.
    Always,
    /// Those from the object's first byte (or without a range).
    First,
    /// Those from a later byte.
    Later,
    /// Those for a range.
    Ranged,
    /// The nth to arrive, counted from 1.
    Nth(u64),
    /// The first n to arrive.
    UpTo(u64),
    /// The nth to arrive and all after it.
    From(u64),
    /// Those that come on a connection used before.
    Reused,
    /// Those on one connection in `of`, counted from 0 as they are accepted: `number`, `number + of` and so on. So a client that replaces such a connection by
    /// a new one meets the next such connection when its turn comes, as any other client would.
    Connection {
        /// One in so many.
        of: u64,
        /// The first of them.
        number: u64,
    },
    /// Those that arrive once an earlier rule of the route has put a fault on the wire.
    AfterFault,
    /// HEAD requests.
    Head,
    /// HEAD and GET requests.
    HeadToo,
    /// HEAD and GET requests with an AWS signature of more than 15 minutes before or after this machine's time plus so many seconds, or with none: as a server of S3
    /// would refuse them whose clock is so far ahead.
    SignedOff {
        /// How far the clock is ahead, in seconds; behind, if negative.
        ahead: i64,
    },
}

impl When {
    /// Whether it holds for the `nth` GET of a route (counted from 1), on the connection of this number, with `before` faults served by earlier rules.
    pub(super) fn holds(self, request: &Request, connection: u64, nth: u64, before: u64) -> bool {
        let start = match request.asked {
            Some(Asked::From { start, .. }) => start,
            // A suffix range starts at the first byte only when it is the whole object; count it as later.
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
            Self::Nth(n) => nth == n,
            Self::UpTo(n) => nth <= n,
            Self::From(n) => nth >= n,
            Self::Reused => request.reused,
            Self::Connection { of, number } => connection % of.max(1) == number,
            Self::AfterFault => before > 0,
        }
    }
}

/// `X-Amz-Date`, as a header or in the query.
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

/// A fault, the requests it meets, and how often.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) when: When,
    pub(super) times: u64,
    pub(super) fault: Fault,
}

/// What a path serves. The first rule that holds decides; without one the answer is right.
#[derive(Clone, Debug)]
pub struct Route {
    pub(super) object: Object,
    pub(super) rules: Vec<Rule>,
    pub(super) checks_conditions: bool,
}

impl Route {
    /// Serve `object` correctly: ranges, HEAD, `If-Match`, `If-Range`, keep-alive.
    pub fn new(object: Object) -> Self {
        Self {
            object,
            rules: Vec::new(),
            checks_conditions: true,
        }
    }

    /// What it serves where nothing goes wrong.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// Let `fault` meet the requests that `when` names.
    #[must_use]
    pub fn fault(self, when: When, fault: Fault) -> Self {
        self.fault_times(when, u64::MAX, fault)
    }

    /// Let `fault` meet the first `times` of the requests that `when` names.
    #[must_use]
    pub fn fault_times(mut self, when: When, times: u64, fault: Fault) -> Self {
        self.rules.push(Rule { when, times, fault });
        self
    }

    /// The same, but that the first answer from the object's first byte is cut in order after so many bytes. A client that reads one stream then asks again, from
    /// a later byte, and so meets faults that it otherwise would not.
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

    /// Ignore `If-Match` and `If-Range`, as AIStore and others do.
    #[must_use]
    pub fn ignoring_conditions(mut self) -> Self {
        self.checks_conditions = false;
        self
    }
}
