//! Credentials of AWS, from the texts in which files, programs and services name them.

use pget_core::SourceError;

use crate::cloud::{
    keys::{Credential, Keys, Secret, denied},
    service::left,
};

/// Makes keys of their texts.
pub(super) fn keys(id: &str, secret: &str, token: Option<&str>) -> Keys {
    Keys::Aws {
        id: Secret::new(id),
        secret: Secret::new(secret),
        token: token.map(Secret::new),
    }
}

/// Reads what programs and metadata services print.
pub(super) fn from_json(
    json: &serde_json::Value,
    token: &str,
    service: &str,
    source: String,
) -> Result<Credential, SourceError> {
    let text = |name: &str| json.get(name)?.as_str().filter(|text| !text.is_empty());
    let (Some(id), Some(secret)) = (text("AccessKeyId"), text("SecretAccessKey")) else {
        return Err(denied(format!(
            "{service} names no AccessKeyId and SecretAccessKey"
        )));
    };
    Ok(Credential {
        keys: keys(id, secret, text(token)),
        left: text("Expiration").map(left).transpose()?,
        source,
    })
}
