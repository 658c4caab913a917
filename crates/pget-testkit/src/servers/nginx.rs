//! A private nginx with files in a temporary folder.
//!
//! It never touches the service of the system's package. It has its own configuration, process id,
//! logs and temporary files.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{
    daemon::{Daemon, find, free_address},
    error::StartError,
    tls::Leaf,
};

/// Differences from a plain static file server.
#[derive(Debug)]
pub struct NginxOptions {
    /// Number of worker processes.
    pub workers: u32,
    /// Directives for the `http` block, e.g. `limit_req_zone $server_name zone=z:1m rate=10r/s;`.
    pub http: String,
    /// Directives for the `server` block.
    ///
    /// Examples: `max_ranges 0;`, `etag off;`, `keepalive_requests 3;`, `send_timeout 1s;`, `gzip
    /// on; gzip_types *;`, `location /loop { return 302 /loop; }`.
    pub server: String,
    /// The certificate of an additional HTTPS port. `None` opens no such port.
    pub tls: Option<Leaf>,
}

impl Default for NginxOptions {
    fn default() -> Self {
        Self {
            workers: 1,
            http: String::new(),
            server: String::new(),
            tls: None,
        }
    }
}

/// A running nginx that serves the files of [`root`](Self::root).
#[derive(Debug)]
pub struct Nginx {
    daemon: Daemon,
    tls_port: Option<u16>,
}

impl Nginx {
    const NAME: &'static str = "nginx";

    /// Starts the server.
    ///
    /// Unless the options differ, `sendfile` is on and connections are kept alive without limit.
    ///
    /// # Errors
    /// Returns a [`StartError`]. A directive that nginx rejects is [`StartError::NotReady`] with
    /// nginx's message.
    pub fn start(options: &NginxOptions) -> Result<Self, StartError> {
        let program = find(Self::NAME)?;
        let tls_port = std::cell::Cell::new(None);
        let daemon = Daemon::start(Self::NAME, |address, folder| {
            let io = |doing| {
                move |source| StartError::Io {
                    component: Self::NAME,
                    doing,
                    source,
                }
            };
            std::fs::create_dir(folder.join("root")).map_err(io("make its folder"))?;
            let mut listen = format!("listen {address};");
            if let Some(leaf) = &options.tls {
                let tls_address = free_address().map_err(io("find a free port"))?;
                let (certificate, key) = leaf.write(folder).map_err(io("write its certificate"))?;
                write!(
                    listen,
                    " listen {tls_address} ssl; ssl_certificate {}; ssl_certificate_key {};",
                    certificate.display(),
                    key.display()
                )
                .ok();
                tls_port.set(Some(tls_address.port()));
            }
            let file = folder.join("nginx.conf");
            std::fs::write(&file, configuration(options, &listen, folder))
                .map_err(io("write its configuration"))?;
            let mut command = Command::new(&program);
            // nginx opens a log before it reads its configuration. Standard error always exists.
            command
                .arg("-e")
                .arg("stderr")
                .arg("-p")
                .arg(folder)
                .arg("-c")
                .arg(&file);
            Ok(command)
        })?;
        Ok(Self {
            daemon,
            tls_port: tls_port.get(),
        })
    }

    /// Kills the server as a crash would, waits for `time`, and restarts it on the same port.
    ///
    /// The call blocks.
    ///
    /// # Errors
    /// If the server cannot be restarted.
    pub fn crash_for(&mut self, time: Duration) -> io::Result<()> {
        self.daemon.crash();
        std::thread::sleep(time);
        self.daemon.start_again()
    }

    /// Reloads the configuration. New workers serve, and old ones end with their requests.
    ///
    /// # Errors
    /// If the process does not exist.
    pub fn reload(&self) -> io::Result<()> {
        self.daemon.signal(nix::sys::signal::Signal::SIGHUP)
    }

    /// Returns `http://127.0.0.1:PORT` with `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.daemon.address)
    }

    /// Returns `https://localhost:PORT` with `path`, or `None` without [`NginxOptions::tls`].
    pub fn https_url(&self, path: &str) -> Option<String> {
        self.tls_port
            .map(|port| format!("https://localhost:{port}{path}"))
    }

    /// Returns the folder of the served files.
    pub fn root(&self) -> PathBuf {
        self.daemon.path("root")
    }

    /// Writes a file with this content under `name`.
    ///
    /// # Errors
    /// As [`std::fs::write`] does.
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) -> io::Result<()> {
        std::fs::write(self.root().join(name), content)
    }

    /// Returns the access log: one line per finished request.
    ///
    /// A line contains: connection number, number of the request on it, status, method, path,
    /// `Range`, and body bytes.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn access_log(&self) -> io::Result<Vec<String>> {
        Ok(std::fs::read_to_string(self.daemon.path("access.log"))?
            .lines()
            .map(str::to_owned)
            .collect())
    }
}

fn configuration(options: &NginxOptions, listen: &str, folder: &Path) -> String {
    // If the master runs as root, its workers run as `nobody`. That user cannot enter the temporary
    // folder.
    let user = if nix::unistd::geteuid().is_root() {
        "user root root;"
    } else {
        ""
    };
    format!(
        "daemon off; {user} worker_processes {workers}; pid {folder}/pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{
  default_type application/octet-stream;
  log_format pget '$connection $connection_requests $status $request_method $uri \"$http_range\" $body_bytes_sent';
  access_log {folder}/access.log pget;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  sendfile on; tcp_nopush on; keepalive_requests 1000000;
  {http}
  server {{ {listen} server_name localhost; root {folder}/root; {server} }}
}}
",
        workers = options.workers,
        folder = folder.display(),
        http = options.http,
        server = options.server,
    )
}
