//! Case 67 through the C ABI: no error message shows a secret, whichever function received it.

#![allow(unsafe_code, reason = "calls as a C program does")]

use std::{
    ffi::{CStr, CString},
    ptr::null_mut,
};

use pget_testkit::hostile::{Fault, Hostile, Object, Route, When};

const CANARY: &str = "canary7f3a91secret";

fn text(text: &str) -> CString {
    CString::new(text).expect("no zero in it")
}

/// Returns the message of the error of `pget_open` for `url` with these properties and headers.
fn message(url: &str, properties: &[(&str, &str)], headers: &[(&str, &str)]) -> String {
    let options = pget::pget_options_new();
    assert_eq!(pget::pget_options_set_retries(options, 1), 0);
    assert_eq!(pget::pget_options_set_first_byte_timeout(options, 500), 0);
    for (key, value) in properties {
        let (key, value) = (text(key), text(value));
        // SAFETY: the texts end with a zero.
        let status = unsafe { pget::pget_options_set_property(options, key.as_ptr(), value.as_ptr()) };
        assert_eq!(status, 0);
    }
    for (name, value) in headers {
        let (name, value) = (text(name), text(value));
        // SAFETY: the texts end with a zero.
        let status = unsafe { pget::pget_options_set_header(options, name.as_ptr(), value.as_ptr()) };
        assert_eq!(status, 0);
    }
    let (mut reader, mut error) = (null_mut(), null_mut());
    let url = text(url);
    // SAFETY: the text ends with a zero, and both pointers have a place.
    let status = unsafe { pget::pget_open(url.as_ptr(), options, &raw mut reader, &raw mut error) };
    assert!(status < 0 && !error.is_null(), "{url:?}: {status}");
    // SAFETY: the text lives as long as the error.
    let message = unsafe { CStr::from_ptr(pget::pget_error_message(error)) };
    let message = message.to_str().expect("UTF-8").to_owned();
    pget::pget_error_free(error);
    pget::pget_options_free(options);
    message
}

#[test]
fn case_67_messages_for_c_show_no_secret() {
    let server = Hostile::start().expect("a server");
    let quoting =
        format!("<Error><Code>SignatureDoesNotMatch</Code><StringToSign>{CANARY}</StringToSign></Error>");
    let refusal = Fault::Answer {
        status: 403,
        headers: Vec::new(),
        body: quoting.into_bytes(),
    };
    for path in ["/o", "/b/k", "/v1/objects/b/o"] {
        server.route(
            path,
            Route::new(Object::new(7, 1000)).fault(When::HeadToo, refusal.clone()),
        );
    }
    let endpoint = server.url("");
    let s3 = [
        ("aws.endpoint", endpoint.as_str()),
        ("aws.allow_http", "true"),
        ("aws.access_key_id", "id"),
        ("aws.secret_access_key", CANARY),
        ("aws.session_token", CANARY),
    ];
    let ais = [("ais.endpoint", endpoint.as_str()), ("ais.token", CANARY)];
    let with_user = format!(
        "http://user:{CANARY}@{}/o?X-Amz-Signature={CANARY}",
        server.address()
    );
    let secret = [("x-token", CANARY), ("cookie", CANARY)];
    let bad = format!("{CANARY}\r\nx: y");
    let mut messages = vec![
        message(&with_user, &[], &secret),
        message("s3://b/k", &s3, &[]),
        message("ais://b/o", &ais, &[]),
        message("ais://b/o", &secret, &[("ais.token", &bad)]),
        message(&with_user, &[], &[("x-token", &bad)]),
        message(
            "ais://b/o",
            &[("ais.endpoint", &format!("http://u:{CANARY}@:x"))],
            &[],
        ),
    ];
    for address in [
        "http://u:C@127.0.0.1:1/?C",
        "https://u:C@127.0.0.1:1/",
        "http://u:C@[::1",
        "http:/u:C@h/",
        "s3://u:C@b/",
        "ftp://u:C@h/",
    ] {
        messages.push(message(&address.replace('C', CANARY), &[], &[]));
    }
    for message in messages {
        assert!(
            !message.contains(CANARY) && !message.contains("Y2FuYXJ5"),
            "{message}"
        );
        assert!(
            !message.is_empty() && !message.chars().any(char::is_control),
            "{message:?}"
        );
    }
    assert!(
        server.requests("/o").len()
            + server.requests("/b/k").len()
            + server.requests("/v1/objects/b/o").len()
            >= 3
    );
}
