//! Compares the stand-in with exchanges recorded from a real cluster.
//!
//! `AIS_ENDPOINT=http://127.0.0.1:8080 cargo test -p pget-testkit --test aistore_standin` compares
//! a real cluster with them instead. That cluster must be freshly seeded with the objects named at
//! the head of the recording.

mod raw_http;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use pget_testkit::aistore::{Cluster, ClusterOptions, Object};
use raw_http::{Reply, ask};
use tokio::time::timeout;

const RECORDED: &str = include_str!("data/aistore_exchanges.txt");
const DEADLINE: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// A recorded exchange: the request, and its answers as text.
struct Recorded {
    title: String,
    method: String,
    node: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    answers: String,
}

fn recorded() -> Vec<Recorded> {
    let text = RECORDED.lines().filter(|line| !line.starts_with('#'));
    let text = text.collect::<Vec<_>>().join("\n");
    text.split("\n\n")
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(exchange)
        .collect()
}

fn exchange(part: &str) -> Recorded {
    let mut lines = part.lines();
    let title = lines.next().expect("a title").to_owned();
    let request = lines
        .next()
        .and_then(|line| line.strip_prefix("> "))
        .expect("a request");
    let [method, node, target] = request.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{title}: {request}");
    };
    let (method, node, target) = (method.to_owned(), node.to_owned(), target.to_owned());
    let (mut headers, mut body, mut answers) = (Vec::new(), Vec::new(), String::new());
    for line in lines {
        if let Some((name, value)) = line.strip_prefix("> ").and_then(|header| header.split_once(": ")) {
            headers.push((name.to_owned(), value.to_owned()));
        } else if let Some(text) = line.strip_prefix("+ ") {
            body = text.as_bytes().to_vec();
        } else {
            answers += line;
            answers.push('\n');
        }
    }
    Recorded {
        title,
        method,
        node,
        target,
        headers,
        body,
        answers,
    }
}

/// Returns the nodes' addresses from the proxy's own map, by their names in the recorded exchanges.
async fn nodes(proxy: SocketAddr) -> BTreeMap<String, SocketAddr> {
    let reply = ask(proxy, "GET", "/v1/daemon?what=smap", &[], b"").await;
    let map: serde_json::Value = serde_json::from_slice(&reply.body).expect("a cluster map");
    let mut nodes = BTreeMap::from([("proxy".to_owned(), proxy)]);
    for (id, node) in map["tmap"].as_object().expect("targets") {
        let url = node["public_net"]["direct_url"].as_str().expect("a URL");
        let address = url.trim_start_matches("http://").parse().expect("an address");
        nodes.insert(id.split('-').next().unwrap_or_default().to_owned(), address);
    }
    assert_eq!(nodes.len(), 3, "one proxy and two targets: {nodes:?}");
    nodes
}

/// Sends the request, follows a redirect, and formats the answers as the recording does.
async fn replay(nodes: &BTreeMap<String, SocketAddr>, recorded: &Recorded) -> String {
    let headers: Vec<(&str, &str)> = recorded
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut reply = ask(
        nodes[&recorded.node],
        &recorded.method,
        &recorded.target,
        &headers,
        &recorded.body,
    )
    .await;
    let mut text = String::new();
    while let Some(location) = reply.header("location").map(str::to_owned) {
        write_answer(&mut text, nodes, &reply);
        let rest = location.strip_prefix("http://").expect("plain HTTP");
        let (address, target) = rest.split_once('/').expect("a path");
        let address = address.parse().expect("an address");
        reply = ask(
            address,
            &recorded.method,
            &format!("/{target}"),
            &headers,
            &recorded.body,
        )
        .await;
    }
    write_answer(&mut text, nodes, &reply);
    text
}

fn write_answer(out: &mut String, nodes: &BTreeMap<String, SocketAddr>, reply: &Reply) {
    let Some(status) = reply.status else {
        out.push_str("< closed\n");
        return;
    };
    let mut lines: Vec<String> = reply
        .headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "Date" | "Connection"))
        .map(|(name, value)| format!("< {name}: {}", stable(nodes, status, name, value)))
        .collect();
    lines.sort();
    writeln!(out, "< {status}\n{}", lines.join("\n")).expect("writing to a String");
    let kind = reply.header("content-type").unwrap_or_default();
    if kind == "application/json" && !reply.body.is_empty() {
        let length = reply
            .header("content-length")
            .and_then(|value| value.parse().ok());
        assert_eq!(length, Some(reply.body.len()), "Content-Length of an error");
        writeln!(out, "= {}", without_peer(&String::from_utf8_lossy(&reply.body)))
            .expect("writing to a String");
    } else if !reply.body.is_empty() && reply.body.iter().all(u8::is_ascii_digit) {
        writeln!(out, "= {}", String::from_utf8_lossy(&reply.body)).expect("writing to a String");
    }
}

/// Returns the value of a header without the parts that differ from run to run.
fn stable(nodes: &BTreeMap<String, SocketAddr>, status: u16, name: &str, value: &str) -> String {
    match name {
        "Ais-Atime" | "Last-Modified" | "Ais-Location" | "Ais-Mirror-Paths" => "*".into(),
        "Content-Length" if (300..500).contains(&status) => "*".into(),
        "Etag" => {
            let end = value.rfind('-').expect("an entity tag of three parts");
            format!("{}-*\"", &value[..end])
        }
        "Hdr-Error" => without_peer(value),
        "Location" => {
            let mut value = value.to_owned();
            for (node, address) in nodes {
                value = value.replace(&format!("http://{address}"), node);
            }
            let start = value.find("utm=").expect("a redirect's mark") + 4;
            let end = value[start..].find('&').map_or(value.len(), |end| start + end);
            format!("{}*{}", &value[..start], &value[end..])
        }
        _ => value.to_owned(),
    }
}

fn without_peer(json: &str) -> String {
    let mut error: BTreeMap<String, serde_json::Value> = serde_json::from_str(json).expect("JSON");
    let peer = error.remove("remote_addr");
    assert!(
        peer.is_some_and(|peer| peer.as_str().is_some_and(|peer| peer.contains(':'))),
        "{json}"
    );
    serde_json::to_string(&error).expect("JSON")
}

/// Returns a cluster with the objects that `seed.sh` of the recordings stores.
async fn seeded() -> Cluster {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    let put = |name: &str, object| cluster.put("pget", name, object);
    let large = || Object::repeated(7, 256 * MIB).with_stated_checksum("xxhash2", "d029340177720d0a");
    put("b256", large());
    put("c256", large().with_chunk_size(32 * MIB));
    put(
        "u10",
        Object::pattern(7, 10 * MIB).with_chunks([MIB, 2 * MIB, 4 * MIB, 3 * MIB]),
    );
    let small = "0123456789".repeat(10);
    for name in ["small", "wedge"] {
        put(name, Object::bytes(small.clone()));
    }
    put(
        "t.tar",
        Object::bytes(vec![0; 10240]).with_member("a.txt", small.clone()),
    );
    put("empty", Object::bytes(""));
    put("dir/a b#c", Object::bytes("0123456789"));
    cluster
}

/// Creates buckets over HTTP, in either kind of cluster.
async fn add_buckets(proxy: SocketAddr, nodes: &BTreeMap<String, SocketAddr>) {
    let json = [("Content-Type", "application/json")];
    for (bucket, checksum) in [
        ("nock", r#"{"type":"none"}"#),
        ("rr", r#"{"type":"sha256","enable_read_range":true}"#),
    ] {
        let target = format!("/v1/buckets/{bucket}?provider=ais");
        ask(proxy, "DELETE", &target, &json, br#"{"action":"destroy-bck"}"#).await;
        let create = format!(r#"{{"action":"create-bck","value":{{"checksum":{checksum}}}}}"#);
        let reply = ask(proxy, "POST", &target, &json, create.as_bytes()).await;
        assert_eq!(reply.status, Some(200), "create {bucket}");
        let put = Recorded {
            title: String::new(),
            method: "PUT".into(),
            node: "proxy".into(),
            target: format!("/v1/objects/{bucket}/o?provider=ais"),
            headers: Vec::new(),
            body: "0123456789".repeat(10).into_bytes(),
            answers: String::new(),
        };
        let answers = replay(nodes, &put).await;
        assert!(answers.contains("< 200"), "put {bucket}/o: {answers}");
    }
    let old = "/v1/objects/pget/dir/new?provider=ais&pid=x&utm=1";
    for address in nodes.values().filter(|address| **address != proxy) {
        ask(*address, "DELETE", old, &[], b"").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_as_recorded() {
    let real = std::env::var("AIS_ENDPOINT")
        .ok()
        .filter(|endpoint| !endpoint.is_empty());
    let cluster = if real.is_none() {
        Some(seeded().await)
    } else {
        None
    };
    let endpoint = real
        .or_else(|| cluster.as_ref().map(Cluster::endpoint))
        .expect("an endpoint");
    let proxy = endpoint
        .trim_start_matches("http://")
        .parse()
        .expect("an address");
    let compare = async {
        let nodes = nodes(proxy).await;
        add_buckets(proxy, &nodes).await;
        let mut differences = String::new();
        let exchanges = recorded();
        assert_eq!(exchanges.len(), 52, "recorded exchanges");
        for exchange in exchanges {
            let got = replay(&nodes, &exchange).await;
            // The exchange is not about the target of a new name.
            let expected = exchange.answers.replace("< Location: *\n", "");
            let got = if expected == exchange.answers {
                got
            } else {
                without_location(&got)
            };
            if got != expected {
                let title = &exchange.title;
                write!(differences, "\n{title}\nrecorded:\n{expected}got:\n{got}")
                    .expect("writing to a String");
            }
        }
        assert!(differences.is_empty(), "{endpoint} differs:{differences}");
    };
    timeout(DEADLINE, compare)
        .await
        .expect("all exchanges within the deadline");
}

fn without_location(text: &str) -> String {
    text.lines()
        .filter(|line| !line.starts_with("< Location"))
        .fold(String::new(), |out, line| out + line + "\n")
}
