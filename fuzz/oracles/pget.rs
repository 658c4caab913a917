//! What must hold of an address and of options as text, for any input; called by the fuzz targets
//! of `fuzz/`. Not in an ordinary build.

use crate::{Address, Builder};

const CANARY: &str = "canary7f3a91";

/// A fuzzer sees what is compared, and puts it into its inputs, also with its first letter in a
/// code (`%2canary…`); hosts are decoded, in lower case, and what is not ASCII in them goes after
/// what is.
fn holds_canary(text: &str) -> bool {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
    // Alone it may be no host, and one after another letter.
    let in_a_host = ["http://", "http://h"].iter().any(|before| {
        let url = url::Url::parse(&format!("{before}{text}/"));
        url.is_ok_and(|url| url.as_str().contains(CANARY))
    });
    in_a_host
        || [text, &*decoded]
            .iter()
            .any(|text| text.to_ascii_lowercase().contains(CANARY))
}

/// An address is of one transport or refused, and neither the error nor `Debug` repeats what may be
/// a secret.
pub fn address(text: &str) {
    match Address::parse(text) {
        Ok(address) => {
            assert!(!text.chars().any(char::is_control) && !text.is_empty());
            if !matches!(address, Address::File(_)) {
                let shown = format!("{address:?}");
                assert!(shown.len() < 20, "{shown}");
            }
        }
        Err(error) => assert!(error.to_line().len() < 400, "{}", error.to_line()),
    }
    if !holds_canary(text)
        && !text.contains(['/', '@', '?', ':', '#', '\\', '\t', '\n', '\r'])
        && !text.is_empty()
    {
        for address in [
            format!("http://{text}:{CANARY}@h/x"),
            format!("http://h{text}/x?{text}={CANARY}"),
            format!("s3://{text}:{CANARY}@b/"),
            format!("{text}://u:{CANARY}@h/x"),
        ] {
            hides(&crate::builder(&address));
        }
    }
}

/// Properties and headers, whatever they are, are refused or taken, and their values shown nowhere.
pub fn options(address: &str, properties: &[(&str, &str)]) {
    if holds_canary(address)
        || properties
            .iter()
            .any(|(name, value)| holds_canary(name) || holds_canary(value))
    {
        return;
    }
    let mut builder = crate::builder(address);
    for (index, (name, value)) in properties.iter().enumerate() {
        let value = format!("{value}{CANARY}");
        builder = if index % 2 == 0 {
            builder.header(*name, value)
        } else {
            builder.property(*name, value)
        };
    }
    hides(&builder);
}

fn hides(builder: &Builder) {
    let mut text = format!("{builder:?}");
    match Address::parse(&builder.address) {
        // Of the others, only HTTP reads neither the environment nor files.
        Ok(Address::Http(_)) => match builder.object() {
            Ok(object) => {
                text.push_str(&format!("{object:?} {}", object.name()));
                assert!(
                    builder
                        .settings
                        .headers
                        .iter()
                        .all(|(_, value)| !value.contains(['\r', '\n', '\0']))
                );
            }
            Err(error) => text.push_str(&format!("{error:?} {}", error.to_line())),
        },
        Ok(_) => {}
        Err(error) => text.push_str(&format!("{error:?} {}", error.to_line())),
    }
    assert!(!text.contains(CANARY), "{text}");
}

#[cfg(test)]
mod tests {
    use pget_testkit::corpus::replay;

    #[test]
    fn corpora_hold() {
        replay("address", |input| super::address(&String::from_utf8_lossy(input)));
    }
}
