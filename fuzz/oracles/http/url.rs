//! An address, to the bytes of its request.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue};
use url::Url;

use crate::{Client, ClientOptions, HttpSource, fuzzing::redirect::well_formed, redacted};

static CLIENT: LazyLock<Client> =
    LazyLock::new(|| Client::new(&ClientOptions::default()).expect("the default options are sound"));

/// An address that is taken makes one well-formed request to its own host, and its name for
/// messages holds neither user nor password nor the query's values.
pub fn url(text: &str) {
    use pget_core::RangeSource as _;
    let Ok(source) = HttpSource::new(CLIENT.clone(), text, HeaderMap::new()) else {
        return;
    };
    let parsed = Url::parse(text).expect("the source took it");
    let mut request = source.first_request();
    request.move_userinfo().expect("it was tried");
    let sent = request
        .encode(&HeaderValue::from_static("agent"))
        .expect("it was tried");
    well_formed(&sent, &request);
    assert_eq!(request.url.host(), parsed.host());
    let name = source.name();
    let again = Url::parse(&name).expect("a name is an address");
    assert_eq!(again.host(), parsed.host(), "{name}");
    assert!(
        again.username().is_empty() && again.password().is_none(),
        "{name}"
    );
    let shown = again.query().unwrap_or_default();
    for part in shown.split('&') {
        let value = part.split_once('=').map_or(part, |(_, value)| value);
        assert!(value.is_empty() || value == "***", "{name}");
    }
    assert!(again.fragment().is_none(), "{name}");
    assert_eq!(redacted(&again).len(), name.len(), "{name}");
}
