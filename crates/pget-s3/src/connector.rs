//! The HTTP client that `object_store` asks for credentials with (token services, metadata services): reqwest with the TLS configuration of `pget-http`.
//!
//! Invariants: no process-wide TLS provider is needed or installed; nothing is built before the first request, which static credentials never make; what may be
//! asked over plain http is a metadata service beside this machine, so no proxy is asked on its behalf.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use object_store::{
    ClientConfigKey, ClientOptions,
    client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService},
};
use tokio::sync::OnceCell;

/// Metadata services answer at once or are not there.
const CONNECT: Duration = Duration::from_secs(2);
/// For one request for credentials.
const ANSWER: Duration = Duration::from_secs(10);

/// Makes clients for credentials.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    http: pget_http::Client,
}

impl Connector {
    pub(crate) const fn new(http: pget_http::Client) -> Self {
        Self { http }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let plain = options.get_config_value(&ClientConfigKey::AllowHttp);
        Ok(HttpClient::new(Lazy {
            http: self.http.clone(),
            allow_http: plain.as_deref() == Some("true"),
            client: Arc::default(),
        }))
    }
}

struct Lazy {
    http: pget_http::Client,
    allow_http: bool,
    client: Arc<OnceCell<reqwest::Client>>,
}

impl Lazy {
    async fn build(&self) -> Result<reqwest::Client, HttpError> {
        let tls = self.http.tls_config().await;
        let tls = tls.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(rustls::ClientConfig::clone(&tls))
            .http1_only()
            .https_only(!self.allow_http)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT)
            .timeout(ANSWER);
        if self.allow_http {
            builder = builder.no_proxy();
        }
        builder
            .build()
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))
    }
}

#[async_trait]
impl HttpService for Lazy {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // hyper would write them into its log.
        if request
            .uri()
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            let why = "the address of a service for credentials may not hold a user and password";
            return Err(HttpError::new(HttpErrorKind::Unknown, std::io::Error::other(why)));
        }
        let client = self.client.get_or_try_init(|| self.build()).await?;
        HttpService::call(client, request).await
    }
}

impl fmt::Debug for Lazy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lazy")
            .field("allow_http", &self.allow_http)
            .finish_non_exhaustive()
    }
}
