//! The transports: each has a server of its own with one object, and settings that name the server.

use std::{path::PathBuf, process::Command};

use pget_testkit::{
    aistore::{Cluster, ClusterOptions, Object},
    content::Pattern,
    servers::{
        Authority, Gofakes3, Nginx, NginxOptions, PythonServer, S3Endpoint, Validity, Versitygw,
        VersitygwOptions, require,
    },
};
use tempfile::TempDir;

use crate::run::pget;

/// The content of the object `name` on each server.
pub(crate) const PATTERN: Pattern = Pattern::new(7);

/// An AIStore stand-in, and the runtime that serves it.
pub(crate) struct Aistore {
    pub(crate) cluster: Cluster,
    _runtime: tokio::runtime::Runtime,
}

impl Aistore {
    pub(crate) fn start(options: ClusterOptions) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let cluster = runtime.block_on(Cluster::start(options));
        Self {
            cluster,
            _runtime: runtime,
        }
    }
}

/// Returns the program with the address and the keys of the S3 server.
pub(crate) fn s3(endpoint: &S3Endpoint, arguments: &[&str]) -> Command {
    let mut command = pget(arguments);
    command
        .env("AWS_ENDPOINT_URL", endpoint.url())
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", endpoint.region())
        .env("AWS_ACCESS_KEY_ID", endpoint.access_key())
        .env("AWS_SECRET_ACCESS_KEY", endpoint.secret_key());
    command
}

pub(crate) fn ais(endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = pget(arguments);
    command.env("AIS_ENDPOINT", endpoint);
    command
}

/// Every transport that can be started here.
///
/// Each has an object `name` of `size` bytes of [`PATTERN`].
pub(crate) struct Transports {
    aistore: Aistore,
    nginx: Option<(Nginx, PathBuf)>,
    python: Option<PythonServer>,
    versitygw: Option<Versitygw>,
    gofakes3: Option<Gofakes3>,
    folder: TempDir,
}

impl Transports {
    pub(crate) fn start() -> Self {
        let folder = TempDir::with_prefix("pget-program-").expect("a folder");
        let authority = Authority::new().expect("an authority");
        let tls = authority
            .leaf(&["localhost"], Validity::Now)
            .expect("a certificate");
        let trusted = folder.path().join("ca.pem");
        std::fs::write(&trusted, authority.pem()).expect("a file");
        let options = NginxOptions {
            tls: Some(tls),
            server: "location /denied { return 403; }".into(),
            ..NginxOptions::default()
        };
        Self {
            aistore: Aistore::start(ClusterOptions::default()),
            nginx: require(Nginx::start(&options)).map(|nginx| (nginx, trusted)),
            python: require(PythonServer::start()),
            versitygw: require(Versitygw::start(VersitygwOptions::default())),
            gofakes3: require(Gofakes3::start()),
            folder,
        }
    }

    pub(crate) fn put(&self, name: &str, size: usize) {
        let content = PATTERN.bytes(0, size);
        self.aistore
            .cluster
            .put("bucket", name, Object::bytes(content.clone()));
        if let Some((nginx, _)) = &self.nginx {
            nginx.put(name, &content).expect("an object");
        }
        if let Some(python) = &self.python {
            python.put(name, &content).expect("an object");
        }
        if let Some(server) = &self.versitygw {
            server.endpoint().put(name, &content).expect("an object");
        }
        if let Some(server) = &self.gofakes3 {
            server.endpoint().put(name, &content).expect("an object");
        }
        std::fs::write(self.folder.path().join(name), content).expect("a file");
    }

    /// Returns `pget COMMAND URL-OF-NAME OPTIONS…` for each transport, with a name for messages.
    pub(crate) fn commands(
        &self,
        command: &str,
        name: &str,
        options: &[&str],
    ) -> Vec<(&'static str, Command)> {
        let arguments = |url: &str| -> Vec<String> {
            let all = [command, url].into_iter().chain(options.iter().copied());
            all.map(str::to_owned).collect()
        };
        let (ais_url, s3_url) = (format!("ais://bucket/{name}"), format!("s3://bucket/{name}"));
        let with = |url: &str, make: &dyn Fn(&[&str]) -> Command| {
            let arguments = arguments(url);
            make(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let mut all = vec![
            (
                "aistore",
                with(&ais_url, &|arguments| {
                    ais(&self.aistore.cluster.endpoint(), arguments)
                }),
            ),
            (
                "file",
                pget(arguments(&format!(
                    "file://{}/{name}",
                    self.folder.path().display()
                ))),
            ),
        ];
        if let Some((nginx, trusted)) = &self.nginx {
            all.push(("nginx", pget(arguments(&nginx.url(&format!("/{name}"))))));
            let url = nginx.https_url(&format!("/{name}")).expect("it has TLS");
            let mut https = pget(arguments(&url));
            https.env("SSL_CERT_FILE", trusted);
            all.push(("nginx with TLS", https));
        }
        if let Some(python) = &self.python {
            all.push(("python", pget(arguments(&python.url(&format!("/{name}"))))));
        }
        if let Some(server) = &self.versitygw {
            all.push((
                "versitygw",
                with(&s3_url, &|arguments| s3(server.endpoint(), arguments)),
            ));
        }
        if let Some(server) = &self.gofakes3 {
            all.push((
                "gofakes3",
                with(&s3_url, &|arguments| s3(server.endpoint(), arguments)),
            ));
        }
        all
    }
}
