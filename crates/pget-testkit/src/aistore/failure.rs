//! The errors of AIStore's nodes: a JSON object in the body, or in a header for HEAD.

use serde_json::json;

use super::wire::{Answer, Body, Request};

/// An error answer before it is written.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: u16,
    /// The name of the error's type in the server. It is empty if the server states none.
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    /// Returns the error that AIStore reports with this status.
    pub(super) fn of_status(status: u16, node: &str, object: &str) -> Self {
        match status {
            401 => Self::new(status, "", "token required"),
            403 => Self::new(status, "", "direct target access denied"),
            404 => Self::new(status, "ErrNotFound", format!("{node}: {object} does not exist")),
            409 => Self::busy(node, object),
            410 => Self::new(status, "", format!("{object}: the content is gone")),
            429 => Self::new(status, "ErrRateLimitFrontend", "Too Many Requests"),
            _ => Self::new(status, "", format!("{node}: injected failure")),
        }
    }

    /// Returns the error of a GET that waited too long while another one pulled the object.
    pub(super) fn busy(node: &str, object: &str) -> Self {
        let message =
            format!("node \"{node}\" is currently busy (conflict getting '{object}'), please try again");
        Self::new(409, "ErrBusy", message)
    }

    /// Returns the answer of `node` (for example `t[target1-8080]`) to this request.
    pub(super) fn answer(&self, node: &str, request: &Request) -> Answer {
        if self.status == 503 {
            return Answer::new(503);
        }
        // Format the object by hand, to keep the order of its members.
        let code = match self.code {
            "" => String::new(),
            code => format!("\"tcode\":{},", json!(code)),
        };
        let text = format!(
            "{{{code}\"message\":{},\"method\":{},\"url_path\":{},\"remote_addr\":{},\"caller\":\"\",\"node\":{},\"status\":{}}}",
            json!(self.message),
            json!(request.method),
            json!(super::bucket::decode_path(&request.path).unwrap_or_default()),
            json!(request.peer),
            json!(node),
            self.status,
        );
        let answer = Answer::new(self.status).with("Content-Type", "application/json");
        if request.is_head() {
            let answer = answer
                .with("Hdr-Error", text)
                .with("X-Content-Type-Options", "nosniff");
            return answer.body(Body::Bare);
        }
        let answer = answer.with("X-Content-Type-Options", "nosniff");
        answer.body(Body::Bytes(format!("{text}\n").into()))
    }
}
