//! The event loop: accepts connections, answers at the due time, and sends what the rates allow.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    io,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, EventData, EventFlags},
    fd::OwnedFd,
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec},
};
use rustls::{ServerConfig, ServerConnection};

use super::{
    Network, Odd, Shared,
    connection::{Connection, Sent, Stage},
    content::Objects,
    control, lock,
    pace::{LEAST_SLICE, Pace, SLICE, brings, slice},
    reply::reply,
    request::{self, Request},
};

const LISTENER: u64 = 0;
const WAKE: u64 = 1;
const TIMER: u64 = 2;
/// The number of the first connection in epoll's events.
const FIRST: u64 = 16;

/// Bytes that a connection without a rate sends before the next connection's turn.
const TURN: u64 = 256 << 10;
/// The shortest wait. Pieces that become due within it are sent together.
const TICK: Duration = Duration::from_micros(300);

/// The state of the server's single thread.
#[derive(Debug)]
pub(super) struct Server {
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    shared: Arc<Mutex<Shared>>,
    wake: Arc<OwnedFd>,
    epoll: OwnedFd,
    timer: OwnedFd,
    objects: Objects,
    network: Network,
    connections: HashMap<u64, Connection>,
    next_id: u64,
    /// Connections in the order of the time at which they can continue.
    times: BinaryHeap<Reverse<(Instant, u64)>>,
    /// Connections whose own rate allows them to send.
    ready: VecDeque<u64>,
    link: Pace,
    /// The time at which the limit per second allows the next request.
    requests: Pace,
    /// The time until which the server works for earlier requests.
    busy_until: Instant,
    random: u64,
    /// The start of the clock of changes.
    began: Option<Instant>,
    changed: usize,
}

impl Server {
    pub(super) fn new(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        objects: Objects,
        shared: Arc<Mutex<Shared>>,
        wake: Arc<OwnedFd>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = rustix::time::timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        let network = lock(&shared).network.clone();
        let now = Instant::now();
        Ok(Self {
            listener,
            tls,
            shared,
            wake,
            epoll,
            timer,
            objects,
            network,
            connections: HashMap::new(),
            next_id: FIRST,
            times: BinaryHeap::new(),
            ready: VecDeque::new(),
            link: Pace::new(now),
            requests: Pace::new(now),
            busy_until: now,
            random: 0x9e37_79b9_7f4a_7c15,
            began: None,
            changed: 0,
        })
    }

    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(256);
        loop {
            let polls = self.set_timer(Instant::now());
            let zero = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), polls.then_some(&zero)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    WAKE | TIMER => {
                        let mut count = [0; 8];
                        // If the read fails, there is nothing to clear.
                        rustix::io::read(&self.wake, &mut count).ok();
                        rustix::io::read(&self.timer, &mut count).ok();
                    }
                    id => {
                        let flags = event.flags;
                        if flags.contains(EventFlags::OUT)
                            && let Some(connection) = self.connections.get_mut(&id)
                        {
                            connection.blocked = false;
                        }
                        self.step(id, Instant::now());
                    }
                }
            }
            {
                let mut shared = lock(&self.shared);
                if shared.stops {
                    return;
                }
                if shared.resets {
                    shared.resets = false;
                    self.network = shared.network.clone();
                    self.began = None;
                    self.changed = 0;
                    // Requests of clients that are gone do not delay the next ones.
                    self.busy_until = Instant::now();
                }
            }
            let now = Instant::now();
            self.change(now);
            while let Some(&Reverse((at, id))) = self.times.peek() {
                if at > now {
                    break;
                }
                self.times.pop();
                if let Some(connection) = self.connections.get_mut(&id)
                    && connection.due == Some(at)
                {
                    connection.due = None;
                    self.step(id, now);
                }
            }
            self.pump();
        }
    }

    /// Sets the timer to the next due time. Returns whether that time has already come.
    fn set_timer(&self, now: Instant) -> bool {
        let link_at = if self.network.link.is_some() {
            self.link.next()
        } else {
            now
        };
        let change = self.began.zip(self.network.changes.get(self.changed));
        let next = [
            (!self.ready.is_empty()).then_some(link_at),
            self.times.peek().map(|Reverse((at, _))| *at),
            change.map(|(began, change)| began + change.at),
        ];
        let Some(next) = next.into_iter().flatten().min() else {
            return false;
        };
        if next <= now {
            return true;
        }
        let wait = (next - now).max(TICK);
        let value = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(wait.subsec_nanos()),
            },
        };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value).is_err()
    }

    fn change(&mut self, now: Instant) {
        while let Some(began) = self.began
            && let Some(change) = self.network.changes.get(self.changed).cloned()
            && began + change.at <= now
        {
            self.changed += 1;
            // The value was parsed when the change was set, so this cannot fail.
            self.network.set(&change.key, &change.value).ok();
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let open = self.connections.len();
            let number = {
                let mut shared = lock(&self.shared);
                shared.counters.connections += 1;
                shared.counters.connections - 1
            };
            let refused = self.network.connections.is_some_and(|most| open >= most as usize);
            if refused || stream.set_nonblocking(true).is_err() {
                continue;
            }
            stream.set_nodelay(true).ok();
            let tls = match &self.tls {
                Some(config) => match ServerConnection::new(Arc::clone(config)) {
                    Ok(tls) => Some(Box::new(tls)),
                    Err(_) => continue,
                },
                None => None,
            };
            let id = self.next_id;
            self.next_id += 1;
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            if epoll::add(&self.epoll, &stream, EventData::new_u64(id), flags).is_err() {
                continue;
            }
            let opens_at = Instant::now() + self.network.latency;
            let odd = self.network.odd(number);
            let connection = Connection::new(stream, tls, odd, opens_at, self.network.slow_start);
            self.connections.insert(id, connection);
            self.schedule(id, opens_at);
        }
    }

    fn schedule(&mut self, id: u64, at: Instant) {
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.due.is_none_or(|due| at < due)
        {
            connection.due = Some(at);
            self.times.push(Reverse((at, id)));
        }
    }

    /// Does everything that a connection can do at `now`, except for sending its body.
    fn step(&mut self, id: u64, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if now < connection.opens_at {
            let at = connection.opens_at;
            return self.schedule(id, at);
        }
        let greeted = connection.has_ciphertext();
        if connection.receive().is_err() {
            return self.close(id);
        }
        if !greeted && connection.has_ciphertext() && connection.stage == Stage::Reading {
            // A flight of the handshake takes as long as an answer.
            connection.answer_at = now + self.network.latency;
            let at = connection.answer_at;
            self.schedule(id, at);
        }
        self.go_on(id, now);
    }

    /// Parses and answers requests until the connection must wait.
    fn go_on(&mut self, id: u64, now: Instant) {
        loop {
            let Some(connection) = self.connections.get_mut(&id) else {
                return;
            };
            match connection.stage {
                Stage::Dead => {
                    if connection.ended {
                        self.close(id);
                    }
                    return;
                }
                Stage::Reading => {
                    if now >= connection.answer_at && connection.has_ciphertext() {
                        match connection.flush() {
                            Ok(_) => {}
                            Err(_) => return self.close(id),
                        }
                    }
                    match request::take(&mut connection.input) {
                        Ok(Some(request)) => self.answer(id, &request, now),
                        Ok(None) if connection.ended => return self.close(id),
                        Ok(None) => return,
                        Err(_) => return self.close(id),
                    }
                }
                Stage::Answering => {
                    if connection.ended {
                        return self.close(id);
                    }
                    if now < connection.answer_at {
                        let at = connection.answer_at;
                        return self.schedule(id, at);
                    }
                    if connection.blocked {
                        return;
                    }
                    match connection.flush() {
                        Ok(true) => {}
                        Ok(false) => {
                            connection.blocked = true;
                            return;
                        }
                        Err(_) => return self.close(id),
                    }
                    if connection.body.start < connection.body.end {
                        return self.queue(id, now);
                    }
                    if self.finish(id) {
                        return;
                    }
                }
            }
        }
    }

    fn answer(&mut self, id: u64, request: &Request, now: Instant) {
        if let Some(path) = request.path.strip_prefix("/-/") {
            let (status, text) = control::answer(&mut lock(&self.shared), path);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.head = format!(
                    "HTTP/1.1 {status} -\r\nContent-Type: application/json\r\n\
                     Content-Length: {}\r\n\r\n{text}",
                    text.len()
                )
                .into_bytes();
                connection.stage = Stage::Answering;
                connection.answer_at = now;
                connection.closes = request.closes;
            }
            return;
        }
        let began = *self.began.get_or_insert(now);
        if began == now {
            self.changed = 0;
        }
        let jitter = self.jitter();
        let refused = {
            let too_fast = self.network.per_second.is_some_and(|rate| {
                let refused = self.requests.next() > now;
                if !refused {
                    self.requests.sent(now, 1, rate.into());
                }
                refused
            });
            let mut shared = lock(&self.shared);
            let counters = &mut shared.counters;
            counters.requests += 1;
            let too_many = self
                .network
                .in_flight
                .is_some_and(|most| counters.in_flight >= most);
            let refused = too_fast || too_many;
            if refused {
                counters.refused += 1;
            } else {
                counters.in_flight += 1;
                counters.most_in_flight = counters.most_in_flight.max(counters.in_flight);
            }
            refused
        };
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.counted = !refused;
        connection.stage = if connection.odd == Some(Odd::Silent) {
            Stage::Dead
        } else {
            Stage::Answering
        };
        self.busy_until = self.busy_until.max(now) + self.network.per_request;
        connection.answer_at = self.busy_until + self.network.latency + jitter;
        connection.paced = false;
        connection.closes = request.closes;
        (connection.head, connection.body, connection.content) = if refused {
            let retry_after = self
                .network
                .retry_after
                .map_or_else(String::new, |seconds| format!("Retry-After: {seconds}\r\n"));
            let head =
                format!("HTTP/1.1 503 Service Unavailable\r\n{retry_after}Content-Length: 5\r\n\r\nbusy\n");
            (head.into_bytes(), 0..0, None)
        } else {
            reply(request, &self.objects)
        };
    }

    /// Returns a random duration, up to the network's jitter.
    fn jitter(&mut self) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let nanos = u64::try_from(self.network.jitter.as_nanos()).unwrap_or(u64::MAX - 1);
        Duration::from_nanos(self.random % (nanos + 1))
    }

    /// Completes an answer that has been sent. Returns whether the connection is closed.
    fn finish(&mut self, id: u64) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return true;
        };
        if std::mem::take(&mut connection.counted) {
            lock(&self.shared).counters.in_flight -= 1;
        }
        connection.stage = Stage::Reading;
        if connection.paced {
            connection.in_round = Instant::now().saturating_duration_since(connection.round);
        }
        if connection.closes {
            self.close(id);
            return true;
        }
        false
    }

    fn close(&mut self, id: u64) {
        if let Some(connection) = self.connections.remove(&id) {
            // Ignore a failure: closing the socket removes it from epoll as well.
            epoll::delete(&self.epoll, connection.stream()).ok();
            if connection.counted {
                lock(&self.shared).counters.in_flight -= 1;
            }
        }
    }

    /// Puts a connection with a body to send into the queue of its own rate, or of those that may
    /// send.
    fn queue(&mut self, id: u64, now: Instant) {
        let rate = self.rate(id, now);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if !connection.paced {
            connection.paced = true;
            // The round trip continues from the point at which the preceding body left it.
            connection.round = now.checked_sub(connection.in_round).unwrap_or(now);
            if let Some(rate) = rate {
                let first = slice(rate).min(connection.body.end - connection.body.start);
                connection.pace.begin(connection.answer_at, first, rate);
            }
        }
        let at = connection.pace.next();
        if rate.is_some() && at > now {
            self.schedule(id, at);
        } else if !connection.ready {
            connection.ready = true;
            self.ready.push_back(id);
        }
    }

    /// Returns the bytes per second that a connection's own limit allows now, if it has one.
    fn rate(&mut self, id: u64, now: Instant) -> Option<u64> {
        let connection = self.connections.get_mut(&id)?;
        let limit = match connection.odd {
            Some(Odd::Slow(rate)) => Some(rate),
            _ => self.network.rate,
        };
        let Some(window) = &mut connection.window else {
            return limit;
        };
        let round_trip = self.network.latency.max(Duration::from_millis(1));
        while now.saturating_duration_since(connection.round) >= round_trip {
            connection.round += round_trip;
            *window = window.saturating_mul(2);
            if *window >= limit.map_or(1 << 30, |limit| brings(limit, round_trip)) {
                connection.window = None;
                return limit;
            }
        }
        let nanos = u64::try_from(round_trip.as_nanos()).unwrap_or(u64::MAX);
        let rate = u128::from(*window) * 1_000_000_000 / u128::from(nanos);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        Some(limit.map_or(rate, |limit| limit.min(rate)))
    }

    /// Lets each connection that may send take a turn, as far as the link allows.
    fn pump(&mut self) {
        let mut sent_in_all = 0;
        for _ in 0..self.ready.len() {
            let now = Instant::now();
            if self.network.link.is_some() && self.link.next() > now {
                break;
            }
            let Some(id) = self.ready.pop_front() else {
                break;
            };
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.ready = false;
            }
            sent_in_all += self.send(id, now);
        }
        if sent_in_all > 0 {
            lock(&self.shared).counters.bytes += sent_in_all;
        }
    }

    /// Sends a piece of a connection's body. Returns the number of bytes sent.
    fn send(&mut self, id: u64, now: Instant) -> u64 {
        let rate = self.rate(id, now);
        let link = self.network.link;
        let Some(connection) = self.connections.get_mut(&id) else {
            return 0;
        };
        if connection.stage != Stage::Answering {
            return 0;
        }
        let mut most = rate.map_or(TURN, slice);
        if let Some(link) = link {
            most = most.min(brings(link, SLICE).max(LEAST_SLICE));
        }
        if let Some(Odd::Stalled(after)) = connection.odd {
            most = most.min(after.saturating_sub(connection.brought));
            if most == 0 {
                connection.stage = Stage::Dead;
                return 0;
            }
        }
        let sent = match connection.send(most) {
            Ok(Sent::Bytes(sent)) => sent,
            Ok(Sent::Blocked) => {
                connection.blocked = true;
                return 0;
            }
            Err(_) => {
                self.close(id);
                return 0;
            }
        };
        if let Some(rate) = rate {
            connection.pace.sent(now, sent, rate);
        }
        if let Some(link) = link {
            self.link.sent(now, sent, link);
        }
        // Also complete the answer, and begin the next request.
        self.go_on(id, now);
        sent
    }
}
