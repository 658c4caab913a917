//! What goes wrong on purpose: a rule names the requests that it is for and what happens to them.
//!
//! Invariant: a rule is used up only by a request to which its fault really happens, and each time is counted
//! (`Counts::faults`), so a test can tell that it met the fault. Rules are tried in the order in which they were injected.

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

/// What happens to a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// Instead of its answer, one with this status, shaped as AIStore shapes it: JSON in the body, for HEAD in `Hdr-Error`;
    /// 503 has an empty body.
    Status(u16),
    /// The connection ends without an answer, cleanly.
    Hangup,
    /// No answer, and the connection stays open.
    Silence,
    /// The answer begins this much later.
    Delay(Duration),
    /// Before the request is looked at, its object is stored anew with these bytes: another revision.
    Replace(Object),
    /// Before the request is looked at, its object is deleted.
    Delete,
    /// Before the request is looked at, its object is moved to the other target.
    Move,
    /// A ranged GET is answered with 200 and the whole object.
    IgnoreRange,
    /// The connection is reset when this many bytes of the body were written; the peer may get fewer.
    Reset {
        /// Bytes of this answer's body.
        after: u64,
    },
    /// The connection ends cleanly after this many bytes of the body.
    Cut {
        /// Bytes of this answer's body.
        after: u64,
    },
    /// Nothing more comes after this many bytes of the body, and the connection stays open.
    Stall {
        /// Bytes of this answer's body.
        after: u64,
    },
    /// The body comes this slowly.
    Pace {
        /// Bytes a second, above 0.
        rate: u64,
    },
    /// One bit of the byte at this offset of the object is wrong.
    Flip {
        /// Offset in the object, not in the answer.
        offset: u64,
    },
}

impl Fault {
    /// The name by which `Counts::faults` counts it.
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

    /// Whether it happens to a body under way, of these bytes of the object.
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

/// Which requests a fault happens to: by default the next one, of any kind, at any node.
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
    /// This fault, once.
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

    /// Only at this node.
    #[must_use]
    pub const fn at(mut self, node: Node) -> Self {
        self.node = Some(node);
        self
    }

    /// Only at targets.
    #[must_use]
    pub const fn at_targets(mut self) -> Self {
        self.targets = true;
        self
    }

    /// Only requests of this method.
    #[must_use]
    pub const fn method(mut self, method: &'static str) -> Self {
        self.method = Some(method);
        self
    }

    /// Only requests for the object of this name, in any bucket.
    #[must_use]
    pub fn object(mut self, name: &str) -> Self {
        self.object = Some(name.into());
        self
    }

    /// Only requests for a range that starts at this offset.
    #[must_use]
    pub const fn range_from(mut self, offset: u64) -> Self {
        self.from = Some(offset);
        self
    }

    /// Let the first `count` of its requests pass.
    #[must_use]
    pub const fn skip(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// For that many requests; `u64::MAX`: for all.
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

/// The rules that are left.
#[derive(Debug, Default)]
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    pub(super) fn add(&mut self, rule: Rule) {
        self.0.push(rule);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault of a request that has just come.
    pub(super) fn of_request(
        &mut self,
        node: Node,
        request: &Request,
        object: Option<&str>,
    ) -> Option<Fault> {
        self.take(|rule| !rule.fault.is_of_body() && rule.is_for(node, request, object))
    }

    /// The fault of an answer that is about to send these bytes of an object.
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
