//! Look-ups that end, hang, fail and are outdated, by a scripted resolver.

use std::sync::{
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use tokio::{runtime::Runtime, time::timeout};

use super::*;

impl Resolver {
    /// One that knows `host` for as long as a test may take.
    pub(crate) fn knowing(host: &str, addresses: &[IpAddr]) -> Self {
        let resolver = Self::default();
        *lock(&resolver.name(host)) = Name {
            addresses: addresses.to_vec(),
            at: Some(Instant::now() + Duration::from_secs(3600)),
            ..Name::default()
        };
        resolver
    }
}

/// A resolver whose look-ups wait until they get the addresses.
pub(crate) struct Held {
    told: mpsc::Sender<Vec<IpAddr>>,
    asked: Arc<AtomicUsize>,
}

impl Held {
    pub(crate) fn new() -> (Self, Resolver) {
        let (told, answers) = mpsc::channel();
        let (answers, asked) = (Mutex::new(answers), Arc::<AtomicUsize>::default());
        let held = Self {
            told,
            asked: Arc::clone(&asked),
        };
        let resolver = Resolver::asking(move |_| {
            asked.fetch_add(1, Ordering::SeqCst);
            lock(&answers).recv().map_err(io::Error::other)
        });
        (held, resolver)
    }

    /// The next look-up's answer.
    pub(crate) fn tell(&self, addresses: &[IpAddr]) {
        self.told.send(addresses.to_vec()).expect("the resolver is there");
    }

    /// Look-ups begun.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Waits for `host` as an attempt does that is given up.
fn give_up(runtime: &Runtime, resolver: &Resolver) {
    let waiting = async { timeout(Duration::from_millis(20), resolver.addresses("h", 80)).await };
    runtime.block_on(waiting).expect_err("no answer yet");
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

fn ip() -> IpAddr {
    IpAddr::from([10, 0, 0, 1])
}

#[test]
fn a_look_up_outlives_who_began_it_and_is_the_only_one() {
    let (held, resolver) = Held::new();
    let (first, second) = (runtime(), runtime());
    give_up(&first, &resolver);
    give_up(&second, &resolver);
    // The first is not waited for: its thread is in the look-up.
    first.shutdown_background();
    give_up(&second, &resolver);
    held.tell(&[ip()]);
    let found = second.block_on(async { resolver.addresses("h", 80).await });
    assert_eq!(found.expect("it is found"), [SocketAddr::new(ip(), 80)]);
    assert_eq!(held.asked(), 1);
}

#[test]
fn a_look_up_that_cannot_end_is_begun_anew() {
    let (held, resolver) = Held::new();
    let live = runtime();
    // Of a runtime that shut down before it began.
    let gone = {
        let gone = runtime();
        gone.handle().clone()
    };
    {
        let _entered = gone.enter();
        lock(&resolver.name("h")).asked = Some(resolver.look_up("h"));
    }
    held.tell(&[ip()]);
    let found = live.block_on(async { resolver.addresses("h", 80).await });
    assert_eq!(found.expect("it is found").len(), 1);
    assert_eq!(held.asked(), 1, "not by the runtime that is gone");
    // One that never comes back.
    *lock(&resolver.name("h")) = Name {
        asked: Some(LookUp {
            begun: Instant::now()
                .checked_sub(LOST)
                .expect("a machine that is up so long"),
            end: std::future::pending().boxed().shared(),
        }),
        ..Name::default()
    };
    held.tell(&[ip()]);
    let found = live.block_on(async { resolver.addresses("h", 80).await });
    assert_eq!(found.expect("it is found").len(), 1);
    assert_eq!(held.asked(), 2);
}

#[tokio::test]
async fn what_ended_unheard_long_ago_is_no_answer() {
    let (held, resolver) = Held::new();
    let at = Instant::now()
        .checked_sub(KEPT)
        .expect("a machine that is up so long");
    for found in [Ok(vec![]), Err(Arc::new(io::ErrorKind::NotFound.into()))] {
        let end = Some(End { at, found });
        *lock(&resolver.name("h")) = Name {
            asked: Some(LookUp {
                begun: at,
                end: std::future::ready(end).boxed().shared(),
            }),
            ..Name::default()
        };
        held.tell(&[ip()]);
        let found = resolver.addresses("h", 80).await;
        assert_eq!(found.expect("it is found"), [SocketAddr::new(ip(), 80)]);
    }
    assert_eq!(held.asked(), 2);
}

#[tokio::test]
async fn connections_spread_over_all_addresses_and_failing_ones_come_last() {
    let known = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|text| text.parse().expect("an address"));
    let resolver = Resolver::knowing("h", &known);
    let mut firsts = Vec::new();
    for _ in 0..6 {
        let addresses = resolver.addresses("h", 80).await.expect("it is kept");
        assert_eq!(addresses.len(), 3);
        firsts.push(addresses[0].ip().to_string());
    }
    firsts.sort();
    assert_eq!(
        firsts,
        [
            "10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3", "10.0.0.3"
        ]
    );
    // The others still in turn; and in turn all three again, when none works.
    for (failed, last) in [(0, [0; 4]), (2, [2; 4])] {
        resolver.failed("h", known[failed]);
        for last in last {
            let addresses = resolver.addresses("h", 80).await.expect("it is kept");
            assert_eq!((addresses.len(), addresses[2].ip()), (3, known[last]));
        }
    }
    resolver.failed("h", known[1]);
    let mut firsts = Vec::new();
    for _ in 0..3 {
        firsts.push(resolver.addresses("h", 80).await.expect("it is kept")[0].ip());
    }
    firsts.sort();
    assert_eq!(firsts, known);
}

/// Answers in turn what it was given, and nothing twice.
fn scripted(answers: Vec<io::Result<Vec<IpAddr>>>) -> Resolver {
    let answers = Mutex::new(answers.into_iter());
    Resolver::asking(move |_| lock(&answers).next().expect("an answer for each look-up"))
}

/// As if the answer were older than it may be.
fn outdate(resolver: &Resolver) {
    lock(&resolver.name("h")).at = None;
}

fn gai(text: &str) -> io::Error {
    io::Error::other(format!("failed to lookup address information: {text}"))
}

const NO_NAME: &str = "Name or service not known";

#[tokio::test]
async fn case_58_a_name_that_never_was_is_told_from_a_resolver_that_is_away() {
    for (text, kind) in [
        (NO_NAME, NO_SUCH_NAME),
        ("No address associated with hostname", NO_SUCH_NAME),
        ("Temporary failure in name resolution", io::ErrorKind::Other),
        ("System error", io::ErrorKind::Other),
    ] {
        let resolver = scripted(vec![Err(gai(text)), Ok(vec![ip()])]);
        let error = resolver.addresses("h", 80).await.expect_err("it fails");
        assert_eq!(error.kind(), kind, "{text}");
        let found = resolver.addresses("h", 80).await.expect("it is found");
        assert_eq!(found.len(), 1);
    }
    let resolver = scripted(vec![Ok(vec![])]);
    let error = resolver.addresses("h", 80).await.expect_err("no address");
    assert_eq!(error.kind(), NO_SUCH_NAME);
}

#[tokio::test]
async fn case_58_a_resolver_that_fails_later_leaves_what_it_told() {
    let resolver = scripted(vec![
        Ok(vec![ip()]),
        Err(gai("Temporary failure in name resolution")),
        Err(gai(NO_NAME)),
        Err(gai(NO_NAME)),
    ]);
    for _ in 0..3 {
        let found = resolver.addresses("h", 80).await.expect("it was found once");
        assert_eq!(found, [SocketAddr::new(ip(), 80)]);
        outdate(&resolver);
    }
    lock(&resolver.name("h")).told = Instant::now().checked_sub(STALE);
    let error = resolver.addresses("h", 80).await.expect_err("too long ago");
    assert_ne!(error.kind(), NO_SUCH_NAME, "it was there before");
}

#[tokio::test]
async fn case_59_an_address_that_failed_comes_last_in_later_look_ups_too() {
    let known = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|text| text.parse().expect("an address"));
    let resolver = scripted(vec![Ok(known.to_vec()), Ok(known.to_vec()), Ok(known.to_vec())]);
    let last = async || {
        let addresses = resolver.addresses("h", 80).await.expect("they are found");
        assert_eq!(addresses.len(), 3);
        addresses[2].ip()
    };
    last().await;
    resolver.failed("h", known[0]);
    for _ in 0..4 {
        assert_eq!(last().await, known[0]);
    }
    outdate(&resolver);
    for _ in 0..4 {
        assert_eq!(last().await, known[0]);
    }
    resolver.answered("h", known[0]);
    outdate(&resolver);
    let mut lasts = Vec::new();
    for _ in 0..3 {
        lasts.push(last().await);
    }
    lasts.sort();
    assert_eq!(lasts, known);
}

#[tokio::test]
async fn literals_need_no_look_up() {
    let resolver = Resolver::default();
    for (host, expected) in [("127.0.0.1", "127.0.0.1:5"), ("[::1]", "[::1]:5")] {
        let addresses = resolver.addresses(host, 5).await.expect("a literal");
        assert_eq!(addresses, [expected.parse().expect("an address")]);
    }
}

#[test]
fn families_alternate() {
    let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
    let mixed = interleaved(["::1", "::2", "::1", "::3", "10.0.0.1"].map(parse).to_vec());
    assert_eq!(mixed, ["::1", "10.0.0.1", "::2", "::3"].map(parse));
}
