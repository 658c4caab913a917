//! Deliberate faults: a rule selects requests and applies a fault to them.
//!
//! Invariants:
//! - Only a request that really meets the fault uses up the rule.
//! - Each fault that occurs is counted in `Counts::faults`, so a test can prove that it met the
//!   fault.
//! - Rules are tried in the order in which they were injected.

use std::ops::Range;
use std::time::Duration;

use super::object::Object;
use super::wire::Request;

/// A node of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Node {
    /// The proxy, whose address is the cluster's endpoint.
    Proxy,
    /// A target, counted from 0.
    Target(usize),
}

/// The effect on a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// Replaces the answer by an error with this status.
    ///
    /// The error has AIStore's form: JSON in the body, or in `Hdr-Error` for HEAD. A 503 has an
    /// empty body.
    Status(u16),
    /// Ends the connection cleanly without an answer.
    Hangup,
    /// Sends no answer, and keeps the connection open.
    Silence,
    /// Delays the answer by this time.
    Delay(Duration),
    /// Stores these bytes as a new revision of the object before the request is processed.
    Replace(Object),
    /// Deletes the object before the request is processed.
    Delete,
    /// Moves the object to the other target before the request is processed.
    Move,
    /// Answers a ranged GET with 200 and the whole object.
    IgnoreRange,
    /// Resets the connection after `after` bytes of the body were written.
    ///
    /// The peer may receive fewer bytes.
    Reset {
        /// Number of bytes of this answer's body.
        after: u64,
    },
    /// Ends the connection cleanly after `after` bytes of the body.
    Cut {
        /// Number of bytes of this answer's body.
        after: u64,
    },
    /// Sends nothing after `after` bytes of the body, and keeps the connection open.
    Stall {
        /// Number of bytes of this answer's body.
        after: u64,
    },
    /// Limits the rate of the body.
    Pace {
        /// Bytes per second, above 0.
        rate: u64,
    },
    /// Inverts one bit of the byte at `offset`.
    Flip {
        /// Offset in the object, not in the answer.
        offset: u64,
    },
}

impl Fault {
    /// Returns the name under which `Counts::faults` counts the fault.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::Hangup => "hangup",
            Self::Silence => "silence",
            Self::Delay(_) => "delay",
            Self::Replace(_) => "replace",
            Self::Delete => "delete",
            Self::Move => "move",
            Self::IgnoreRange => "ignore_range",
            Self::Reset { .. } => "reset",
            Self::Cut { .. } => "cut",
            Self::Stall { .. } => "stall",
            Self::Pace { .. } => "pace",
            Self::Flip { .. } => "flip",
        }
    }

    /// Returns whether the fault occurs in a body with these bytes of the object.
    const fn hits(&self, content: &Range<u64>) -> bool {
        let length = content.end - content.start;
        match self {
            Self::Reset { after } | Self::Cut { after } | Self::Stall { after } => *after < length,
            Self::Pace { .. } => length > 0,
            Self::Flip { offset } => content.start <= *offset && *offset < content.end,
            _ => false,
        }
    }

    const fn is_of_body(&self) -> bool {
        matches!(
            self,
            Self::Reset { .. }
                | Self::Cut { .. }
                | Self::Stall { .. }
                | Self::Pace { .. }
                | Self::Flip { .. }
        )
    }
}

/// Selects the requests that meet a fault. By default, it is the next request of any kind at any
/// node.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    node: Option<Node>,
    targets: bool,
    method: Option<&'static str>,
    object: Option<String>,
    from: Option<u64>,
    skip: u64,
    times: u64,
}

impl Rule {
    /// Returns a rule that applies this fault once.
    pub const fn new(fault: Fault) -> Self {
        Self {
            fault,
            node: None,
            targets: false,
            method: None,
            object: None,
            from: None,
            skip: 0,
            times: 1,
        }
    }

    /// Restricts the rule to this node.
    #[must_use]
    pub const fn at(mut self, node: Node) -> Self {
        self.node = Some(node);
        self
    }

    /// Restricts the rule to targets.
    #[must_use]
    pub const fn at_targets(mut self) -> Self {
        self.targets = true;
        self
    }

    /// Restricts the rule to requests with this method.
    #[must_use]
    pub const fn method(mut self, method: &'static str) -> Self {
        self.method = Some(method);
        self
    }

    /// Restricts the rule to requests for the object of this name, in any bucket.
    #[must_use]
    pub fn object(mut self, name: &str) -> Self {
        self.object = Some(name.into());
        self
    }

    /// Restricts the rule to requests for a range that starts at this offset.
    #[must_use]
    pub const fn range_from(mut self, offset: u64) -> Self {
        self.from = Some(offset);
        self
    }

    /// Makes the rule skip the first `count` of its requests.
    #[must_use]
    pub const fn skip(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Applies the rule to this many requests. `u64::MAX` means all.
    #[must_use]
    pub const fn times(mut self, count: u64) -> Self {
        self.times = count;
        self
    }

    fn is_for(&self, node: Node, request: &Request, object: Option<&str>) -> bool {
        self.node.is_none_or(|wanted| wanted == node)
            && !(self.targets && node == Node::Proxy)
            && self.method.is_none_or(|method| method == request.method)
            && self.object.as_deref().is_none_or(|wanted| object == Some(wanted))
            && self.from.is_none_or(|from| range_start(request) == Some(from))
    }
}

/// The rules that are not used up.
#[derive(Debug, Default)]
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    pub(super) fn add(&mut self, rule: Rule) {
        self.0.push(rule);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the fault of a request that has just arrived.
    pub(super) fn of_request(
        &mut self,
        node: Node,
        request: &Request,
        object: Option<&str>,
    ) -> Option<Fault> {
        self.take(|rule| !rule.fault.is_of_body() && rule.is_for(node, request, object))
    }

    /// Returns the fault of an answer that is about to send these bytes of an object.
    pub(super) fn of_body(
        &mut self,
        node: Node,
        request: &Request,
        object: Option<&str>,
        content: &Range<u64>,
    ) -> Option<Fault> {
        self.take(|rule| rule.fault.hits(content) && rule.is_for(node, request, object))
    }

    fn take(&mut self, applies: impl Fn(&Rule) -> bool) -> Option<Fault> {
        for index in 0..self.0.len() {
            let rule = &mut self.0[index];
            if !applies(rule) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            let fault = rule.fault.clone();
            rule.times = rule.times.saturating_sub(1);
            if rule.times == 0 {
                self.0.remove(index);
            }
            return Some(fault);
        }
        None
    }
}

fn range_start(request: &Request) -> Option<u64> {
    let (start, _) = request.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
    start.parse().ok()
}
