//! Stores objects in a cluster over plain HTTP.
//!
//! A request goes to the proxy first, and then to the target of the redirect, as AIStore's own
//! clients do it.

use std::net::SocketAddr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use url::Url;

/// Creates the bucket unless it exists. `checksum` is its properties for checksums in JSON.
pub(super) async fn create(endpoint: &str, bucket: &str, checksum: Option<&str>) {
    let properties = checksum.map_or(String::new(), |checksum| {
        format!(r#","value":{{"checksum":{checksum}}}"#)
    });
    let body = format!(r#"{{"action":"create-bck"{properties}}}"#);
    let url = url(endpoint, &format!("/v1/buckets/{bucket}?provider=ais"));
    let (status, _) = ask(&url, "POST", body.as_bytes()).await;
    assert!(matches!(status, 200 | 409), "create-bck: {status}");
}

pub(super) async fn put(endpoint: &str, bucket: &str, name: &str, bytes: &[u8]) {
    write(endpoint, bucket, name, "PUT", bytes).await;
}

pub(super) async fn delete(endpoint: &str, bucket: &str, name: &str) {
    write(endpoint, bucket, name, "DELETE", b"").await;
}

async fn write(endpoint: &str, bucket: &str, name: &str, method: &str, bytes: &[u8]) {
    let name: Vec<String> = name
        .split('/')
        .map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string())
        .collect();
    let path = format!("/v1/objects/{bucket}/{}?provider=ais", name.join("/"));
    // The proxy does not use the body.
    let (status, location) = ask(&url(endpoint, &path), method, b"").await;
    assert_eq!(status, 307, "{method} {path} at the proxy");
    // The path in the redirect is not encoded. In a URL, these characters would have another
    // meaning.
    let location = location
        .expect("a Location")
        .replace('\\', "%5C")
        .replace('\t', "%09");
    let (status, _) = ask(&Url::parse(&location).expect("a URL"), method, bytes).await;
    assert_eq!(status, 200, "{method} {path} at the target");
}

fn url(endpoint: &str, path: &str) -> Url {
    Url::parse(&format!("{}{path}", endpoint.trim_end_matches('/'))).expect("a URL")
}

/// Sends one request on a connection of its own. Returns the status and the `Location`, if any.
async fn ask(url: &Url, method: &str, body: &[u8]) -> (u16, Option<String>) {
    let addresses = url.socket_addrs(|| None).expect("an address");
    let address: SocketAddr = *addresses.first().expect("an address");
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let target = &url[url::Position::BeforePath..];
    let mut head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    if let Ok(token) = std::env::var("AIS_AUTHN_TOKEN") {
        head += &format!("Authorization: Bearer {token}\r\n");
    }
    head += "\r\n";
    stream.write_all(head.as_bytes()).await.expect("send");
    stream.write_all(body).await.expect("send");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    let location = answer
        .lines()
        .find_map(|line| line.strip_prefix("Location: "))
        .map(str::to_owned);
    (status.expect("a status line"), location)
}
