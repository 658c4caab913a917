//! Accepts connections and answers their requests one after the other.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::distort;
use super::ledger::{Ledger, Plan};
use super::reply::Reply;
use super::request::{Request, Requests};
use super::wire::{self, After, Witness};

/// Accepts connections until this future is dropped. The drop closes every connection.
pub(super) async fn accept(listener: TcpListener, ledger: Arc<Ledger>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(serve(stream, Arc::clone(&ledger))); }
                // The process has most likely run out of descriptors. No event announces a free
                // one.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
    }
}

/// Counts a connection as open as long as this value lives.
struct Open<'a>(&'a Ledger);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.closed();
    }
}

/// Counts a request as in flight as long as this value lives.
struct InFlight<'a>(&'a Ledger);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.answered();
    }
}

async fn serve(mut stream: TcpStream, ledger: Arc<Ledger>) {
    let number = ledger.opened();
    let _open = Open(&ledger);
    // Ignore an error: the client has closed or reset the connection. The counters already contain
    // the earlier events.
    converse(&mut stream, number, &ledger).await.ok();
    // Close the socket before the connection is counted as closed.
    drop(stream);
}

async fn converse(stream: &mut TcpStream, number: u64, ledger: &Ledger) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut requests = Requests::default();
    while let Some(request) = requests.next(stream).await? {
        let plan = ledger.arrived(&request, number);
        let _in_flight = InFlight(ledger);
        let after = answer(stream, &request, plan.as_ref(), ledger).await?;
        if after == After::Close || request.closes {
            break;
        }
    }
    Ok(())
}

async fn answer(
    stream: &mut TcpStream,
    request: &Request,
    plan: Option<&Plan>,
    ledger: &Ledger,
) -> io::Result<After> {
    let reply = plan.map_or_else(
        || Reply::new(404, Vec::new(), Vec::new()),
        |plan| distort::reply(plan, request),
    );
    let mut notes = Notes { ledger, plan };
    wire::send(stream, reply, request.method == "HEAD", &mut notes).await
}

struct Notes<'a> {
    ledger: &'a Ledger,
    plan: Option<&'a Plan>,
}

impl Witness for Notes<'_> {
    fn fault_goes_out(&mut self) {
        if let Some(plan) = self.plan {
            self.ledger.fault_served(plan);
        }
    }

    fn fault_was_lost(&mut self) {
        if let Some(plan) = self.plan {
            self.ledger.fault_lost(plan);
        }
    }

    fn sending(&mut self, body_bytes: u64) {
        self.ledger.sent(body_bytes);
    }
}
