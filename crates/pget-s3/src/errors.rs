//! Errors of a store and its answers, as errors of a source: the right kind, and no credential in
//! any text.
//!
//! A [`Refusal`] is an answer that is neither the object nor a part of it: its status, its
//! [`Document`], the bucket's region, how long to wait, and the server's clock.
//!
//! Invariant: no text leaves this module with a URL's query (a presigned URL is a credential) or
//! with the parts of an S3 error document that repeat the request's signature.

use std::time::Duration;

use http::{HeaderName, StatusCode};
use pget_core::{ErrorKind, Retry, SourceError, redact::message};
use pget_http::{Response, error_for_status, retry_after};

use crate::{clock::Offset, session::SignedRequest};

/// The parts of an S3 or Azure error document that say what is wrong.
///
/// Source: "Error responses" of the Amazon S3 API reference; Azure Blob's documents have the same
/// two elements.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) region: Option<String>,
}

impl Document {
    /// The most that is read of one.
    pub(crate) const LIMIT: usize = 64 << 10;

    /// Reads the document's text by its tags: no entities, no nesting, no schema can trouble it.
    /// Other bodies give an empty one.
    pub(crate) fn parse(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&body[..body.len().min(Self::LIMIT)]);
        let element = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            let (inner, _) = rest.split_once(&format!("</{name}>"))?;
            // A document in a document is not looked into: each level would double the work.
            Some(message(inner))
        };
        Self {
            code: element("Code").unwrap_or_default(),
            message: element("Message").unwrap_or_default(),
            region: element("Region"),
        }
    }

    /// Whether it says that a signed request came too late, so that a newly signed one may be let
    /// in.
    ///
    /// Codes by "List of error codes" of the Amazon S3 API reference; GCS says `ExpiredToken`,
    /// Azure `AuthenticationFailed` with a text that names the expiry.
    pub(crate) fn is_expiry(&self) -> bool {
        match self.code.as_str() {
            "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired" => true,
            "AccessDenied" | "AuthenticationFailed" => self.message.to_ascii_lowercase().contains("expired"),
            _ => false,
        }
    }

    /// Whether it may say that this machine's clock is not the server's: it names that, or finds a
    /// signature too old or too new; or it says nothing, as to HEAD.
    ///
    /// Codes by "List of error codes" of the Amazon S3 API reference; a URL that was signed for a
    /// later time is `AccessDenied`, "Request is not valid yet".
    pub(crate) fn may_be_skew(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        match self.code.as_str() {
            // Azure finds a signature of another time to be no signature.
            "" | "RequestTimeTooSkewed" | "AuthenticationFailed" => true,
            "AccessDenied" => {
                message.contains("not valid yet") || message.contains("not yet valid") || self.is_expiry()
            }
            _ => self.is_expiry(),
        }
    }

    /// What an unwelcome answer means; `pause` is its `Retry-After`.
    pub(crate) fn failure(&self, status: StatusCode, pause: Option<Duration>) -> SourceError {
        let text = match (self.code.is_empty(), self.message.is_empty()) {
            (true, _) => format!("the server answers {status}"),
            (false, true) => format!("the server answers {status}: {}", self.code),
            (false, false) => format!("the server answers {status}: {}: {}", self.code, self.message),
        };
        let fatal = |kind| SourceError::fatal(kind, text.clone());
        let refused = |kind| SourceError::refused(kind, text.clone());
        match self.code.as_str() {
            "NoSuchKey" | "NoSuchBucket" | "NoSuchVersion" | "NoSuchUpload" | "BlobNotFound"
            | "ContainerNotFound" => {
                return refused(ErrorKind::NotFound);
            }
            "PreconditionFailed" | "ConditionNotMet" => return fatal(ErrorKind::ObjectChanged),
            "InvalidRange" => return fatal(ErrorKind::Range),
            "SlowDown"
            | "SlowDownRead"
            | "ServerBusy"
            | "RequestLimitExceeded"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "BandwidthLimitExceeded"
            | "TooManyRequests"
            | "TooManyRequestsException"
            | "Throttled"
            | "ThrottledException"
            | "Throttling"
            | "ThrottlingException" => return SourceError::throttled(text, pause),
            "InternalError" | "ServiceUnavailable" | "OperationTimedOut" | "RequestTimeout"
            | "OperationAborted" => {
                return SourceError::retryable(ErrorKind::Unavailable, text);
            }
            "RequestTimeTooSkewed" => {
                let text = format!("{text} (is this machine's clock right?)");
                return SourceError::fatal(ErrorKind::PermissionDenied, text);
            }
            // An archived object cannot be read before it has been restored.
            "InvalidObjectState" => return fatal(ErrorKind::Unsupported),
            "AccessDenied" if !self.may_be_skew() => return refused(ErrorKind::PermissionDenied),
            // About the asker or the signature, whatever is asked for.
            "AccessDenied"
            | "AllAccessDisabled"
            | "AccountProblem"
            | "InvalidAccessKeyId"
            | "InvalidToken"
            | "ExpiredToken"
            | "SignatureDoesNotMatch"
            | "AuthorizationHeaderMalformed"
            | "AuthorizationQueryParametersError"
            | "AuthenticationFailed"
            | "AuthorizationFailure"
            | "KMS.DisabledException"
            // versitygw's answer, a 404, to an unknown access key.
            | "XAdminUserNotFound" => return fatal(ErrorKind::PermissionDenied),
            _ => {}
        }
        // The status alone means what it means from every server.
        let by_status = error_for_status(status, pause, "");
        let kind = match status.as_u16() {
            405 | 501 => ErrorKind::Unsupported,
            _ => by_status.kind(),
        };
        match by_status.retry() {
            Retry::Refused => refused(kind),
            Retry::Backoff => SourceError::retryable(kind, text),
            Retry::Throttled(pause) => SourceError::throttled(text, pause),
            _ => fatal(kind),
        }
    }
}

static BUCKET_REGION: HeaderName = HeaderName::from_static("x-amz-bucket-region");

/// An answer that is neither the object nor a part of it.
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) document: Document,
    /// The bucket's, if it can be one: it becomes part of a host name, to which signed requests are
    /// sent. Other names do not count: MinIO names the region that it was set up with, whatever
    /// that is, in every refusal, and a refusal for another reason is to be read as such.
    pub(crate) region: Option<String>,
    pub(crate) pause: Option<Duration>,
    pub(crate) clock: Option<Offset>,
}

impl Refusal {
    pub(crate) async fn read(response: Response) -> Self {
        let status = response.status;
        let pause = retry_after(&response.headers);
        let clock = Offset::told(&response.headers);
        let named = response
            .headers
            .get(&BUCKET_REGION)
            .and_then(|value| value.to_str().ok());
        let named = named.map(str::to_owned);
        // The status says enough if its document breaks off.
        let body = response.body.bytes(Document::LIMIT).await.unwrap_or_default();
        let document = Document::parse(&body);
        let mut named = named.into_iter().chain(document.region.clone());
        let region = named.find(|region| can_be_a_region(region));
        Self {
            status,
            document,
            region,
            pause,
            clock,
        }
    }

    /// Whether a new signature may help: the server says that this one is too old, or it is refused
    /// after it may have been good.
    pub(crate) fn may_be_stale(&self, signed: &SignedRequest) -> bool {
        match self.status.as_u16() {
            // Other credentials do not set a clock right.
            400 | 401 | 403 if self.document.code != "RequestTimeTooSkewed" => {
                self.document.is_expiry() || (self.status != StatusCode::BAD_REQUEST && !signed.fresh)
            }
            _ => false,
        }
    }

    pub(crate) fn error(&self) -> SourceError {
        if self.status.is_redirection() {
            let text = match &self.region {
                Some(region) => format!(
                    "the server answers {}: the bucket is in region {region}",
                    self.status
                ),
                None => format!(
                    "the server answers {} and does not name the bucket's region",
                    self.status
                ),
            };
            return SourceError::fatal(ErrorKind::Protocol, text);
        }
        self.document.failure(self.status, self.pause)
    }
}

fn can_be_a_region(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use pget_core::Retry;

    const DENIED: &str = "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>no match</Message>\
        <AWSAccessKeyId>AKIACANARY</AWSAccessKeyId><StringToSign>canary</StringToSign>\
        <SignatureProvided>canary</SignatureProvided></Error>";

    #[test]
    fn a_document_is_read_by_its_tags_only() {
        let document = Document::parse(DENIED.as_bytes());
        assert_eq!(document.code, "SignatureDoesNotMatch");
        assert_eq!(document.message, "no match");
        for odd in ["", "<Code>", "</Code><Code>", "\u{0}<Message></Message>"] {
            assert_eq!(Document::parse(odd.as_bytes()), Document::default(), "{odd:?}");
        }
        // As many steps as there are ways through it would never end.
        let nested = "<Error><Code><Message>".repeat(2000) + "x</Message></Code>";
        assert_eq!(Document::parse(nested.as_bytes()).message, "");
        let mut huge = vec![b'x'; Document::LIMIT];
        huge.extend_from_slice(b"<Code>AccessDenied</Code>");
        assert_eq!(Document::parse(&huge).code, "");
    }

    #[test]
    fn case_114_codes_and_statuses_get_their_kinds() {
        let kind = |status: u16, code: &str| {
            let document = Document {
                code: code.into(),
                ..Document::default()
            };
            let error = document.failure(StatusCode::from_u16(status).expect("a status"), None);
            (error.kind(), error.retry())
        };
        use ErrorKind::*;
        assert_eq!(kind(404, "NoSuchBucket"), (NotFound, Retry::Refused));
        assert_eq!(kind(404, ""), (NotFound, Retry::Refused));
        assert_eq!(kind(403, "AccessDenied"), (PermissionDenied, Retry::Refused));
        assert_eq!(kind(403, "InvalidAccessKeyId"), (PermissionDenied, Retry::Never));
        let malformed = kind(400, "AuthorizationHeaderMalformed");
        assert_eq!(malformed, (PermissionDenied, Retry::Never));
        assert_eq!(kind(503, "SlowDown"), (Unavailable, Retry::Throttled(None)));
        assert_eq!(kind(500, "InternalError"), (Unavailable, Retry::Backoff));
        assert_eq!(kind(412, ""), (ObjectChanged, Retry::Never));
        assert_eq!(kind(416, ""), (Range, Retry::Never));
        assert_eq!(kind(400, ""), (Protocol, Retry::Refused));
        for status in [425, 499, 520, 524, 530, 598] {
            assert_eq!(kind(status, ""), (Unavailable, Retry::Backoff), "{status}");
        }
        assert_eq!(kind(509, ""), (Unavailable, Retry::Throttled(None)));
        assert_eq!(kind(501, ""), (Unsupported, Retry::Never));
        assert_eq!(kind(505, ""), (Protocol, Retry::Never));
        assert_eq!(kind(502, ""), (Unavailable, Retry::Backoff));
    }

    #[test]
    fn an_expired_signature_is_told_from_a_refusal() {
        let is_expiry = |code: &str, message: &str| {
            let document = Document {
                code: code.into(),
                message: message.into(),
                region: None,
            };
            document.is_expiry()
        };
        assert!(is_expiry("AccessDenied", "Request has expired"));
        assert!(is_expiry("ExpiredToken", ""));
        assert!(!is_expiry("AccessDenied", "Access Denied"));
        assert!(!is_expiry("SignatureDoesNotMatch", "expired"));
    }
}
