//! S3 servers: versitygw checks signatures and conditions, gofakes3 checks neither.
//!
//! Tests put objects with real signed requests. ETag and version id are therefore those of the
//! server. The requests are sent by a small blocking client, deliberately not by the client under
//! test.

use std::io::{self, BufWriter, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::HttpRequest;

use super::{
    daemon::{Daemon, find},
    error::{S3Error, StartError},
};
use crate::content::{self, Pattern};

const ACCESS_KEY: &str = "pgettestaccess";
const SECRET_KEY: &str = "pget-test-secret-not-a-real-one";
const REGION: &str = "us-east-1";
/// The bucket that exists on every S3 server of this module from its start.
const BUCKET: &str = "bucket";

/// The address and the keys of an S3 server.
///
/// Requests block the calling thread. They fail after 60 s without progress.
#[derive(Clone, Debug)]
pub struct S3Endpoint {
    address: SocketAddr,
}

impl S3Endpoint {
    /// Returns `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the address at which the server listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the same server with another address, which is that of a relay before it.
    #[must_use]
    pub const fn behind(&self, address: SocketAddr) -> Self {
        Self { address }
    }

    /// Returns the access key id.
    pub fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// Returns the secret access key.
    pub fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// Returns the region for signed requests.
    pub fn region(&self) -> &'static str {
        REGION
    }

    /// Returns the bucket that exists from the start.
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// Stores `data` as object `key` of the bucket.
    ///
    /// Returns the ETag as the server wrote it, quotes included.
    ///
    /// # Errors
    /// Returns an [`S3Error`].
    pub fn put(&self, key: &str, data: &[u8]) -> Result<String, S3Error> {
        self.put_with(key, data, &[])
    }

    /// Stores `data` as object `key` of the bucket, with further request headers.
    ///
    /// The server compares a checksum in the headers with the data, and keeps it. See also
    /// [`put`](Self::put).
    ///
    /// # Errors
    /// Returns an [`S3Error`].
    pub fn put_with(&self, key: &str, data: &[u8], headers: &[(&str, &str)]) -> Result<String, S3Error> {
        let digest = content::sha256(data);
        let length = data.len() as u64;
        let head = self.request_with("PUT", &object_path(key), headers, &digest, length, |to| {
            to.write_all(data)
        })?;
        Ok(header(&head, "etag").unwrap_or_default().to_owned())
    }

    /// Stores the first `length` bytes of `pattern` as object `key` of the bucket.
    ///
    /// Returns the ETag as the server wrote it.
    ///
    /// # Errors
    /// Returns an [`S3Error`].
    pub fn put_pattern(&self, key: &str, pattern: Pattern, length: u64) -> Result<String, S3Error> {
        let digest = pattern.sha256(length);
        let head = self.request("PUT", &object_path(key), &digest, length, |to| {
            let mut buffer = vec![0; 1 << 16];
            let mut at = 0;
            while at < length {
                let piece = usize::try_from(length - at).map_or(buffer.len(), |rest| rest.min(buffer.len()));
                pattern.fill(at, &mut buffer[..piece]);
                to.write_all(&buffer[..piece])?;
                at += piece as u64;
            }
            Ok(())
        })?;
        Ok(header(&head, "etag").unwrap_or_default().to_owned())
    }

    /// Deletes object `key` of the bucket.
    ///
    /// # Errors
    /// Returns an [`S3Error`].
    pub fn delete(&self, key: &str) -> Result<(), S3Error> {
        self.small("DELETE", &object_path(key), "").map(drop)
    }

    /// Makes the bucket keep old versions of its objects from now on.
    fn enable_versioning(&self) -> Result<(), S3Error> {
        let body = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                    <Status>Enabled</Status></VersioningConfiguration>";
        self.small("PUT", &format!("/{BUCKET}?versioning="), body)
            .map(drop)
    }

    /// Allows reads of the bucket's objects without a signature.
    fn allow_anonymous_reads(&self) -> Result<(), S3Error> {
        let body = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":"*","Action":["s3:GetObject"],"Resource":["arn:aws:s3:::{BUCKET}/*"]}}]}}"#
        );
        self.small("PUT", &format!("/{BUCKET}?policy="), &body).map(drop)
    }

    fn create_bucket(&self) -> Result<(), S3Error> {
        self.small("PUT", &format!("/{BUCKET}"), "").map(drop)
    }

    fn small(&self, method: &'static str, path: &str, body: &str) -> Result<String, S3Error> {
        let digest = content::sha256(body.as_bytes());
        self.request(method, path, &digest, body.len() as u64, |to| {
            to.write_all(body.as_bytes())
        })
    }

    fn request(
        &self,
        method: &'static str,
        path: &str,
        digest: &str,
        length: u64,
        body: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<String, S3Error> {
        self.request_with(method, path, &[], digest, length, body)
    }

    /// Sends a signed request. Returns the head of a successful answer.
    fn request_with(
        &self,
        method: &'static str,
        path: &str,
        headers: &[(&str, &str)],
        digest: &str,
        length: u64,
        body: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<String, S3Error> {
        let head = self
            .signed_head(method, path, headers, digest, length)
            .map_err(|source| S3Error::Request {
                method,
                path: path.to_owned(),
                source,
            })?;
        let answer = self.exchange(&head, body).map_err(|source| S3Error::Io {
            method,
            path: path.to_owned(),
            source,
        })?;
        if answer.starts_with("HTTP/1.1 2") {
            Ok(answer)
        } else {
            Err(S3Error::Refused {
                method,
                path: path.to_owned(),
                answer,
            })
        }
    }

    fn signed_head(
        &self,
        method: &'static str,
        path: &str,
        headers: &[(&str, &str)],
        digest: &str,
        length: u64,
    ) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("x-amz-content-sha256", digest);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request: HttpRequest = request.body(object_store::client::HttpRequestBody::empty())?;
        let credential = AwsCredential {
            key_id: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            token: None,
        };
        AwsAuthorizer::new(&credential, "s3", REGION)
            .try_authorize(&mut request, Some(&bytes_of_hex(digest)?))?;
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !request.headers().contains_key("host") {
            head.push_str(&format!("host: {}\r\n", self.address));
        }
        for (name, value) in request.headers() {
            head.push_str(&format!("{name}: {}\r\n", value.to_str()?));
        }
        head.push_str(&format!("content-length: {length}\r\nconnection: close\r\n\r\n"));
        Ok(head)
    }

    fn exchange(
        &self,
        head: &str,
        body: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    ) -> io::Result<String> {
        let limit = Duration::from_secs(60);
        let mut stream = TcpStream::connect_timeout(&self.address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        let mut to = BufWriter::with_capacity(1 << 16, &stream);
        to.write_all(head.as_bytes())?;
        body(&mut to)?;
        to.flush()?;
        drop(to);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn object_path(key: &str) -> String {
    format!("/{BUCKET}/{key}")
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().take_while(|line| !line.is_empty()).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn bytes_of_hex(hex: &str) -> Result<Vec<u8>, std::num::ParseIntError> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16))
        .collect()
}

/// Differences from a gateway with one private bucket without versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VersitygwOptions {
    /// Whether old versions are kept. Replies then carry `x-amz-version-id`.
    pub versioning: bool,
    /// Whether requests without a signature may read objects.
    pub anonymous: bool,
}

/// A running versitygw over a folder. It honours ranges, conditions and signatures.
#[derive(Debug)]
pub struct Versitygw {
    daemon: Daemon,
    endpoint: S3Endpoint,
}

impl Versitygw {
    const NAME: &'static str = "versitygw";

    /// Starts the server with an empty bucket.
    ///
    /// # Errors
    /// Returns a [`StartError`].
    pub fn start(options: VersitygwOptions) -> Result<Self, StartError> {
        let program = find(Self::NAME)?;
        let daemon = Daemon::start(Self::NAME, |address, folder| {
            for name in ["root", "versions"] {
                std::fs::create_dir(folder.join(name)).map_err(|source| StartError::Io {
                    component: Self::NAME,
                    doing: "make its folder",
                    source,
                })?;
            }
            let mut command = Command::new(&program);
            command
                .arg("--port")
                .arg(address.to_string())
                .args(["--keep-alive", "--quiet"]);
            command
                .env("ROOT_ACCESS_KEY", ACCESS_KEY)
                .env("ROOT_SECRET_KEY", SECRET_KEY);
            command.arg("--region").arg(REGION).arg("posix");
            if options.versioning {
                command.arg("--versioning-dir").arg(folder.join("versions"));
            }
            command.arg(folder.join("root"));
            Ok(command)
        })?;
        let endpoint = S3Endpoint {
            address: daemon.address,
        };
        endpoint.create_bucket()?;
        if options.versioning {
            endpoint.enable_versioning()?;
        }
        if options.anonymous {
            endpoint.allow_anonymous_reads()?;
        }
        Ok(Self { daemon, endpoint })
    }

    /// Returns the address and the keys of the server.
    pub fn endpoint(&self) -> &S3Endpoint {
        &self.endpoint
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

    /// Returns the folder of the bucket.
    ///
    /// A file placed here is an object with an **empty** ETag. Tests use it for objects too large
    /// to put (see [`sparse_file`](super::sparse_file)), and as a server that sends no ETag.
    pub fn bucket_folder(&self) -> PathBuf {
        self.daemon.path("root").join(BUCKET)
    }
}

/// A running gofakes3: an S3 server in memory that ignores signatures, and `If-Match` on reads.
#[derive(Debug)]
pub struct Gofakes3 {
    _daemon: Daemon,
    endpoint: S3Endpoint,
}

impl Gofakes3 {
    const NAME: &'static str = "gofakes3";

    /// Starts the server with an empty bucket.
    ///
    /// # Errors
    /// Returns a [`StartError`].
    pub fn start() -> Result<Self, StartError> {
        let program = find(Self::NAME)?;
        let daemon = Daemon::start(Self::NAME, |address, _| {
            let mut command = Command::new(&program);
            command
                .arg("-backend")
                .arg("memory")
                .arg("-host")
                .arg(address.to_string());
            command.arg("-initialbucket").arg(BUCKET);
            Ok(command)
        })?;
        let endpoint = S3Endpoint {
            address: daemon.address,
        };
        Ok(Self {
            _daemon: daemon,
            endpoint,
        })
    }

    /// Returns the address of the server.
    pub fn endpoint(&self) -> &S3Endpoint {
        &self.endpoint
    }
}
