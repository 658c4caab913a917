//! A server that follows a script, for answers that neither a cluster nor the stand-in sends.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

type Answer = dyn Fn(&str) -> String + Send + Sync;

/// A running script. Drop ends it.
pub(crate) struct Script {
    address: std::net::SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// The layer that a script may put between itself and the client.
pub(crate) type Wrap = tokio_rustls::TlsAcceptor;

impl Script {
    /// Starts a server. `answer` maps the head of a request to the text of its answer.
    ///
    /// An empty answer closes the connection.
    pub(crate) async fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::serve("127.0.0.1:0", None, answer).await
    }

    /// Starts a server that closes each connection after its first answer. See
    /// [`start`](Self::start).
    pub(crate) async fn start_closing(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let answer: Arc<Answer> = Arc::new(answer);
        Self::listen("127.0.0.1:0", None, answer, true).await
    }

    pub(crate) async fn serve(
        address: &str,
        tls: Option<Wrap>,
        answer: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        Self::listen(address, tls, Arc::new(answer), false).await
    }

    async fn listen(address: &str, tls: Option<Wrap>, answer: Arc<Answer>, closing: bool) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free loopback port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&heads);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen, tls) = (Arc::clone(&answer), Arc::clone(&seen), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => connection(stream, &*answer, &seen, closing).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                connection(stream, &*answer, &seen, closing).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, heads, task }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the heads of all requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &Answer,
    seen: &Mutex<Vec<String>>,
    closing: bool,
) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let text = answer(&head);
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(head);
        if text.is_empty() || stream.write_all(text.as_bytes()).await.is_err() || closing {
            return;
        }
    }
}

/// Returns the path and query of a request's head.
pub(crate) fn target(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

pub(crate) fn redirect(location: &str) -> String {
    format!("HTTP/1.1 301 Moved Permanently\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

pub(crate) fn whole(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nAis-Version: 1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
