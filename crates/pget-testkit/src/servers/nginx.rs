//! A private nginx with files in a temporary folder.
//!
//! Never touches the package's own service: configuration, process id, logs and temporary files are all its own.

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

/// What differs from a plain static file server.
#[derive(Debug)]
pub struct NginxOptions {
    /// Worker processes.
    pub workers: u32,
    /// Directives for the `http` block, e.g. `limit_req_zone $server_name zone=z:1m rate=10r/s;`.
    pub http: String,
    /// Directives for the `server` block, e.g. `max_ranges 0;`, `etag off;`, `keepalive_requests 3;`, `send_timeout 1s;`,
    /// `gzip on; gzip_types *;`, `location /loop { return 302 /loop; }`.
    pub server: String,
    /// Serve HTTPS too, with this certificate, on a port of its own.
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

    /// Start it. `sendfile` is on, connections are kept alive without limit unless the options say otherwise.
    ///
    /// # Errors
    /// [`StartError`]; a directive that nginx refuses is [`StartError::NotReady`] with nginx's words.
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
            // Before it has read its configuration nginx wants to write to a log; standard error is one it has.
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

    /// Ends it as a crash would, keeps it down for so long, and starts it again on its port. Blocks.
    ///
    /// # Errors
    /// If it cannot be started again.
    pub fn crash_for(&mut self, time: Duration) -> io::Result<()> {
        self.daemon.crash();
        std::thread::sleep(time);
        self.daemon.start_again()
    }

    /// Has it read its configuration again: new workers serve, and old ones end with their requests.
    ///
    /// # Errors
    /// If it is not there.
    pub fn reload(&self) -> io::Result<()> {
        self.daemon.signal(nix::sys::signal::Signal::SIGHUP)
    }

    /// `http://127.0.0.1:PORT` with `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.daemon.address)
    }

    /// `https://localhost:PORT` with `path`; `None` without [`NginxOptions::tls`].
    pub fn https_url(&self, path: &str) -> Option<String> {
        self.tls_port
            .map(|port| format!("https://localhost:{port}{path}"))
    }

    /// The folder whose files are served.
    pub fn root(&self) -> PathBuf {
        self.daemon.path("root")
    }

    /// Put a file of this content under `name`.
    ///
    /// # Errors
    /// As [`std::fs::write`].
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) -> io::Result<()> {
        std::fs::write(self.root().join(name), content)
    }

    /// One line per finished request: connection number, request number on it, status, method, path, `Range`, body bytes.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn access_log(&self) -> io::Result<Vec<String>> {
        Ok(std::fs::read_to_string(self.daemon.path("access.log"))?
            .lines()
            .map(str::to_owned)
            .collect())
    }
}

fn configuration(options: &NginxOptions, listen: &str, folder: &Path) -> String {
    // Workers of a root master would run as `nobody`, who may not enter the temporary folder.
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
