//! toxiproxy: a proxy that imitates a bad network between a client and a server.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::{
    daemon::{Daemon, find},
    error::StartError,
};

/// The name of the only route through the proxy.
const ROUTE: &str = "route";

/// A fault of the network from the server to the client. It affects every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Toxic {
    /// Resets each connection this long after its first byte, which is not delivered.
    ResetPeer(Duration),
    /// Delays bytes by this time, plus or minus a fifth.
    Latency(Duration),
    /// Limits each connection to this many kilobytes per second.
    Bandwidth(u32),
    /// Delays the close of connections by this time.
    SlowClose(Duration),
    /// Ends each connection after this many bytes.
    LimitData(u64),
    /// Divides bytes into pieces of about this size, and delays each piece by this time.
    Slicer(u32, Duration),
    /// Stops all data, and ends connections after this time. With zero, they never end.
    Timeout(Duration),
}

impl Toxic {
    fn told(self) -> Value {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (name, attributes) = match self {
            Self::ResetPeer(after) => ("reset_peer", json!({"timeout": millis(after)})),
            Self::Latency(by) => {
                let by = millis(by);
                ("latency", json!({"latency": by, "jitter": by / 5}))
            }
            Self::Bandwidth(rate) => ("bandwidth", json!({"rate": rate})),
            Self::SlowClose(by) => ("slow_close", json!({"delay": millis(by)})),
            Self::LimitData(bytes) => ("limit_data", json!({"bytes": bytes})),
            Self::Slicer(size, delay) => {
                let delay = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
                (
                    "slicer",
                    json!({"average_size": size, "size_variation": size / 2, "delay": delay}),
                )
            }
            Self::Timeout(after) => ("timeout", json!({"timeout": millis(after)})),
        };
        json!({"name": "toxic", "type": name, "stream": "downstream", "attributes": attributes})
    }
}

/// A running toxiproxy before one server. Its methods block.
#[derive(Debug)]
pub struct Toxiproxy {
    daemon: Daemon,
    listens: String,
}

impl Toxiproxy {
    const NAME: &'static str = "toxiproxy-server";

    /// Starts the proxy before the server that listens on `upstream`. The network is good at first.
    ///
    /// # Errors
    /// Returns a [`StartError`].
    pub fn start(upstream: &str) -> Result<Self, StartError> {
        let program = find(Self::NAME)?;
        let daemon = Daemon::start(Self::NAME, |address, _| {
            let mut command = Command::new(&program);
            command.arg("-host").arg(address.ip().to_string());
            command.arg("-port").arg(address.port().to_string());
            Ok(command)
        })?;
        let route = json!({"name": ROUTE, "listen": "127.0.0.1:0", "upstream": upstream});
        let told = ask(daemon.address, "POST", "/proxies", &route).map_err(StartError::Proxy)?;
        let listens = told["listen"].as_str().map(str::to_owned);
        let missing = || StartError::Proxy(io::Error::other("it does not say where it listens"));
        Ok(Self {
            daemon,
            listens: listens.ok_or_else(missing)?,
        })
    }

    /// Returns the address to connect to instead of the server, `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.listens
    }

    /// Makes the network bad, also for open connections.
    ///
    /// # Errors
    /// If the proxy refuses.
    pub fn spoil(&self, toxic: Toxic) -> io::Result<()> {
        let path = format!("/proxies/{ROUTE}/toxics");
        ask(self.daemon.address, "POST", &path, &toxic.told()).map(drop)
    }

    /// Makes the network good again.
    ///
    /// # Errors
    /// If the proxy refuses.
    pub fn heal(&self) -> io::Result<()> {
        let path = format!("/proxies/{ROUTE}/toxics/toxic");
        ask(self.daemon.address, "DELETE", &path, &Value::Null).map(drop)
    }
}

impl Toxiproxy {
    /// Takes the proxy down or up. While it is down, it refuses connections, and open ones end.
    ///
    /// # Errors
    /// If the proxy refuses.
    pub fn set_up(&self, up: bool) -> io::Result<()> {
        let path = format!("/proxies/{ROUTE}");
        ask(self.daemon.address, "POST", &path, &json!({"enabled": up})).map(drop)
    }
}

/// Sends one request to the proxy's control interface, and returns the JSON of the answer.
fn ask(address: SocketAddr, method: &str, path: &str, body: &Value) -> io::Result<Value> {
    let limit = Some(Duration::from_secs(20));
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(limit)?;
    stream.set_write_timeout(limit)?;
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head
        .split(' ')
        .nth(1)
        .is_none_or(|status| !status.starts_with('2'))
    {
        return Err(io::Error::other(answer));
    }
    if body.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(body).map_err(io::Error::other)
}
