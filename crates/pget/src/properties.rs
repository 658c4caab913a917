//! Whether the properties of a builder are those of its address. Pure.
//!
//! A property that is misspelt, or belongs to another transport, would have no effect, and its user
//! would not know. So each is refused by its name, with the right name where that is close. Names
//! alone are looked at: a value may be a credential.

use std::collections::BTreeMap;

use pget_core::{Error, ErrorKind};

use crate::Address;

impl Address {
    /// Returns whether a property of this name may be one of this kind of address. The transport
    /// decides about the rest of the name when the object is opened.
    #[must_use]
    pub fn has_property(&self, name: &str) -> bool {
        let property = BTreeMap::from([(name.to_owned(), String::new())]);
        check(self, &property).is_ok()
    }
}

/// The properties of one kind of address.
struct Kind {
    /// How messages call the addresses.
    addresses: &'static str,
    /// The first word of the names, as in `aws.region`.
    word: &'static str,
    /// Names without their first word, to be suggested. The transport knows more.
    names: &'static [&'static str],
}

const KINDS: [Kind; 4] = [
    Kind {
        addresses: "ais",
        word: "ais",
        names: &[
            "endpoint",
            "token",
            "token_file",
            "client_ca",
            "crt",
            "crt_key",
            "skip_verify_crt",
            "provider",
            "latest",
            "archpath",
            "etl",
        ],
    },
    Kind {
        addresses: "s3",
        word: "aws",
        names: &[
            "access_key_id",
            "secret_access_key",
            "session_token",
            "region",
            "default_region",
            "endpoint",
            "endpoint_url",
            "profile",
            "skip_signature",
            "virtual_hosted_style_request",
            "request_payer",
            "role_arn",
            "role_session_name",
            "web_identity_token_file",
            "metadata_endpoint",
            "container_credentials_relative_uri",
            "container_credentials_full_uri",
            "use_fips_endpoint",
            "use_dualstack_endpoint",
            "addressing_style",
            "config_file",
            "shared_credentials_file",
            "ca_bundle",
            "server_side_encryption",
            "sse_customer_key_base64",
        ],
    },
    Kind {
        addresses: "gs",
        word: "google",
        names: &[
            "service_account",
            "service_account_key",
            "application_credentials",
            "bearer_token",
            "user_project",
            "base_url",
            "skip_signature",
        ],
    },
    Kind {
        addresses: "az",
        word: "azure",
        names: &[
            "account_name",
            "account_key",
            "access_key",
            "connection_string",
            "sas_token",
            "sas_key",
            "client_id",
            "client_secret",
            "tenant_id",
            "authority_id",
            "endpoint",
            "use_emulator",
            "use_azure_cli",
            "federated_token_file",
            "skip_signature",
        ],
    },
];

impl Kind {
    /// Whether the name begins with this kind's word.
    fn begins(&self, name: &str) -> bool {
        name.strip_prefix(self.word)
            .is_some_and(|rest| rest.starts_with(['.', '_']))
    }

    /// The name that was meant, if one is close.
    fn meant(&self, name: &str) -> Option<String> {
        let bare = if self.begins(name) {
            &name[self.word.len() + 1..]
        } else {
            name
        };
        let near = |known: &&&str| distance(bare, known) <= bare.len() / 4 + 1;
        let known = self.names.iter().filter(near);
        let known = known.min_by_key(|known| distance(bare, known))?;
        Some(format!("{}.{known}", self.word))
    }
}

/// Returns the kind of an address, or `None` if it accepts no properties.
fn kind(address: &Address) -> Option<&'static Kind> {
    match address {
        Address::Aistore(_) => Some(&KINDS[0]),
        Address::S3(_) => Some(&KINDS[1]),
        Address::Gcs(_) => Some(&KINDS[2]),
        Address::Azure(_) => Some(&KINDS[3]),
        Address::Http(_) | Address::File(_) => None,
    }
}

/// Refuses properties that are not of this kind of address.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument), which names the property.
pub(crate) fn check(address: &Address, properties: &BTreeMap<String, String>) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::new(ErrorKind::InvalidArgument, "", message));
    for name in properties.keys() {
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        if name.len() > 64 || !name.chars().all(is_name) {
            // It may be a value in the wrong place.
            return refuse("a property has an unusable name".into());
        }
        let lower = name.to_ascii_lowercase();
        let Some(kind) = kind(address) else {
            let of = if matches!(address, Address::File(_)) {
                "files have no properties"
            } else {
                "http and https addresses have no properties"
            };
            return refuse(format!("the property {name:?} is not known: {of}"));
        };
        if let Some(other) = KINDS.iter().find(|other| other.begins(&lower))
            && other.word != kind.word
        {
            return refuse(format!(
                "the property {name:?} is of {} addresses, not of {} ones",
                other.addresses, kind.addresses
            ));
        }
        // AIStore's names have their word. The clouds take names without, and know which there are.
        let is_left_to_transport = match kind.word {
            "ais" => name.starts_with("ais."),
            _ => kind.begins(&lower) || !lower.contains('.'),
        };
        if !is_left_to_transport {
            return refuse(unknown(kind, name));
        }
    }
    Ok(())
}

/// Adds the name that was meant to the error of a transport that does not know a property.
pub(crate) fn explain(address: &Address, properties: &BTreeMap<String, String>, error: Error) -> Error {
    let Some(kind) = kind(address) else { return error };
    let line = error.to_string();
    let refused = properties.keys().find(|name| {
        error.kind() == ErrorKind::InvalidArgument
            && line.contains(&format!("property {name:?} is not known"))
    });
    match refused {
        Some(name) => Error::new(ErrorKind::InvalidArgument, "", unknown(kind, name)),
        None => error,
    }
}

fn unknown(kind: &Kind, name: &str) -> String {
    let more = match kind.meant(&name.to_ascii_lowercase()) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => format!(
            "those of {} addresses begin with {:?}",
            kind.addresses,
            format!("{}.", kind.word)
        ),
    };
    format!("the property {name:?} is not known ({more})")
}

/// How many letters must be added, taken away, replaced or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, wanted) in other.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != wanted);
            let mut least = replaced.min(last[column + 1] + 1).min(next[column] + 1);
            let swapped = row > 0 && column > 0 && one[row - 1] == *wanted && *letter == other[column - 1];
            if swapped {
                least = least.min(before[column - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut last, next);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str, name: &str) -> Option<String> {
        let properties = BTreeMap::from([(name.to_owned(), "hunter2".to_owned())]);
        let error = crate::connect::source(
            Address::parse(address).expect(address),
            &properties
                .iter()
                .fold(crate::builder(address), |builder, (key, value)| {
                    builder.property(key, value)
                }),
        )
        .err()?;
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", error.to_line());
        assert!(!error.to_line().contains("hunter2"), "{}", error.to_line());
        Some(error.to_line())
    }

    #[test]
    fn case_140_a_foreign_or_unknown_property_is_refused_by_name() {
        for (address, name) in [
            ("http://h/x", "nonsense"),
            ("http://h/x", "aws.region"),
            ("https://h/x", "ais.endpoint"),
            ("/x", "nonsense"),
            ("file:///x", "http.proxy"),
            ("ais://b/o", "nonsense"),
            ("ais://b/o", "aws.region"),
            ("ais://b/o", "AWS_REGION"),
            ("ais://b/o", "region"),
            ("ais://b/o", "ais.nonsense"),
            ("s3://b/o", "nonsense"),
            ("s3://b/o", "ais.endpoint"),
            ("s3://b/o", "google.service_account"),
            ("s3://b/o", "foo.region"),
            ("s3://b/o", "aws.nonsense"),
            ("gs://b/o", "aws.region"),
            ("gs://b/o", "google.nonsense"),
            ("az://b/o", "aws.region"),
            ("az://b/o", "azure.nonsense"),
        ] {
            let line = refused(address, name).unwrap_or_else(|| panic!("{address} {name}: accepted"));
            assert!(line.contains(&format!("{name:?}")), "{line}");
        }
    }

    #[test]
    fn case_140_the_name_that_was_meant_is_suggested() {
        for (address, name, meant) in [
            ("ais://b/o", "ais.endpiont", "ais.endpoint"),
            ("ais://b/o", "endpoint", "ais.endpoint"),
            ("ais://b/o", "AIS_ENDPOINT", "ais.endpoint"),
            ("ais://b/o", "ais.tokn", "ais.token"),
            ("s3://b/o", "aws.regoin", "aws.region"),
            ("s3://b/o", "aws.acces_key_id", "aws.access_key_id"),
            ("s3://b/o", "regoin", "aws.region"),
            ("gs://b/o", "google.service_acount", "google.service_account"),
            ("az://b/o", "azure.acount_name", "azure.account_name"),
        ] {
            let line = refused(address, name).unwrap_or_else(|| panic!("{address} {name}: accepted"));
            assert!(line.contains(&format!("did you mean {meant:?}")), "{line}");
        }
    }

    #[test]
    fn what_is_no_name_is_not_repeated() {
        for name in ["http://user:hunter2@h/x", "hunter2 x", &"hunter2".repeat(20)] {
            let line = refused("http://h/x", name).expect("it is refused");
            assert!(!line.contains("hunter2"), "{line}");
        }
    }

    #[test]
    fn distances() {
        for (one, other, is) in [
            ("", "", 0),
            ("", "abc", 3),
            ("region", "regoin", 1),
            ("region", "region", 0),
            ("region", "reqion", 1),
            ("token", "tokn", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(
                (distance(one, other), distance(other, one)),
                (is, is),
                "{one} {other}"
            );
        }
    }
}
