//! The proxy: checks access, redirects to targets, and serves a few calls about buckets and the
//! cluster.

use std::time::SystemTime;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};

use super::bucket::{Bucket, decode_path, digest};
use super::failure::Failure;
use super::fault::Node;
use super::shared::Shared;
use super::store::BucketOptions;
use super::wire::{Answer, Body, Request, Wire};

/// Characters that the server escapes in the path of a `Location` header.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');
/// Largest JSON of a request in bytes.
const MESSAGE_LIMIT: usize = 64 << 10;
/// Most bytes of a PUT that the proxy reads in order to be able to answer with a redirect.
const DRAIN_LIMIT: usize = 1 << 30;

/// Answers a request at the proxy.
pub(super) async fn answer(shared: &Shared, request: &Request, wire: &mut Wire) -> Result<Answer, Failure> {
    if let Some(token) = shared.required_token()
        && request.path != "/v1/health"
    {
        authorize(shared, request, &token)?;
    }
    let path = decode_path(&request.path).ok_or_else(|| Failure::new(400, "", "invalid URL path"))?;
    let mut parts = path.trim_start_matches('/').splitn(4, '/');
    let (version, kind) = (parts.next(), parts.next());
    let names = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match (version, kind) {
        (Some("v1"), Some("objects")) if names.0.is_empty() || names.1.is_empty() => {
            let path = path.trim_start_matches('/');
            let message = format!("URL '{path}' is too short: expected 4 items, got 3");
            Err(Failure::new(400, "", message))
        }
        (Some("v1"), Some("objects")) => object(shared, request, names, &path, wire).await,
        (Some("v1"), Some("buckets")) => bucket(shared, request, names.0, wire).await,
        (Some("v1"), Some("daemon")) => Ok(cluster_map(shared)),
        (Some("v1"), Some("health")) => Ok(Answer::new(200)),
        _ => Err(Failure::new(400, "", format!("invalid URL path: {path}"))),
    }
}

fn authorize(shared: &Shared, request: &Request, token: &str) -> Result<(), Failure> {
    let given = request
        .header("authorization")
        .and_then(|value| value.strip_prefix("Bearer "));
    let Some(given) = given else {
        return Err(Failure::new(401, "", "token required"));
    };
    if shared.is_denied(given) {
        let message = "user `me` has insufficient permissions: [user me, granted(none)]";
        return Err(Failure::new(403, "wrapError", message));
    }
    if given == token {
        return Ok(());
    }
    let message = "invalid token from header \"Authorization\": invalid token [err: token expired]";
    Err(Failure::new(401, "wrapError", message))
}

fn requested_bucket(request: &Request, name: &str) -> Result<Bucket, Failure> {
    Bucket::of_request(name, &request.query).map_err(|provider| {
        let known = "[ais, aws (s3://), gcp (gs://), azure (az://), oci (oc://)]";
        let message = format!("invalid backend provider \"{provider}\": must be one of {known}");
        Failure::new(400, "ErrInvalidBackendProvider", message)
    })
}

fn no_bucket(bucket: &Bucket) -> Failure {
    let message = format!("bucket \"{}\" does not exist", bucket.display());
    Failure::new(404, "ErrBckNotFound", message)
}

async fn object(
    shared: &Shared,
    request: &Request,
    (bucket, name): (&str, &str),
    path: &str,
    wire: &mut Wire,
) -> Result<Answer, Failure> {
    let bucket = requested_bucket(request, bucket)?;
    if shared.store.options(&bucket).is_none() {
        return Err(no_bucket(&bucket));
    }
    if !shared.take_turn(&bucket, &request.method) {
        shared.ledger.count(|counts| counts.throttled += 1);
        return Err(Failure::of_status(429, "", ""));
    }
    let target = shared.store.target_of(&bucket, name);
    let location = location(shared, request, path, target);
    shared.ledger.count(|counts| counts.redirects += 1);
    let moved = |status| Answer::new(status).with("Location", location.clone());
    let html = |answer: Answer| answer.with("Content-Type", "text/html; charset=utf-8");
    match request.method.as_str() {
        "GET" => {
            let link = location.replace('&', "&amp;");
            let page = format!("<a href=\"{link}\">Moved Permanently</a>.\n\n");
            Ok(html(moved(301)).body(Body::Bytes(page.into())))
        }
        "HEAD" => Ok(html(moved(307)).body(Body::Bare)),
        "PUT" | "DELETE" | "POST" => {
            let mut answer = moved(307);
            // The body is meant for the target. A client that sends `Expect` has not sent the body
            // yet, and need not send it twice.
            let unsent = request.header("expect").is_some();
            answer.close = unsent || !matches!(wire.body(request, DRAIN_LIMIT).await, Ok(Some(_)));
            Ok(answer)
        }
        method => Err(Failure::new(405, "", format!("invalid method '{method}'"))),
    }
}

/// Returns the URL at the target: the request's query and the marks of a redirect.
///
/// The URL is encoded again in the cases in which the server does so.
fn location(shared: &Shared, request: &Request, path: &str, target: usize) -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let mut marks = vec![
        ("pid".to_owned(), shared.id(Node::Proxy).to_owned()),
        ("utm".to_owned(), base36(now.as_nanos())),
    ];
    if shared.options.signing {
        let nonce = base36(u128::from(shared.next_nonce()));
        marks.push(("vpams".into(), "6".into()));
        marks.push(("u".into(), shared.signature(path, &nonce)));
        marks.push(("x".into(), nonce));
    }
    let base = format!("http://{}", shared.address_of(target));
    let encode = |pairs: &[(String, String)]| {
        let mut out = url::form_urlencoded::Serializer::new(String::new());
        out.extend_pairs(pairs).finish()
    };
    if shared.options.reencode_queries || path.contains(['%', '?', '#', ' ', '+']) {
        let query = url::form_urlencoded::parse(request.query.as_bytes()).into_owned();
        let mut pairs: Vec<(String, String)> = query.chain(marks).collect();
        pairs.sort();
        return format!("{base}{}?{}", utf8_percent_encode(path, PATH), encode(&pairs));
    }
    match request.query.as_str() {
        "" => format!("{base}{}?{}", hex_escaped(path), encode(&marks)),
        query => format!("{base}{}?{query}&{}", hex_escaped(path), encode(&marks)),
    }
}

/// Escapes only bytes outside ASCII. Quotes, backslashes and tabs stay unchanged.
fn hex_escaped(path: &str) -> String {
    let escaped = path.bytes().map(|byte| match byte {
        0..=0x7f => char::from(byte).to_string(),
        _ => format!("%{byte:02x}"),
    });
    escaped.collect()
}

async fn bucket(shared: &Shared, request: &Request, name: &str, wire: &mut Wire) -> Result<Answer, Failure> {
    let bucket = requested_bucket(request, name)?;
    let body = wire.body(request, MESSAGE_LIMIT).await;
    let body = body
        .ok()
        .flatten()
        .ok_or_else(|| Failure::new(400, "", "failed to read request"))?;
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    match (request.method.as_str(), message["action"].as_str()) {
        ("POST", Some("create-bck")) => {
            let asked = &message["value"]["checksum"];
            let defaults = BucketOptions::default();
            let options = BucketOptions {
                checksum: asked["type"].as_str().map_or(defaults.checksum, Into::into),
                read_range_checksum: asked["enable_read_range"].as_bool().unwrap_or(false),
            };
            if shared.store.create(bucket.clone(), options) {
                return Ok(Answer::new(200));
            }
            let message = format!("bucket \"{}\" already exists", bucket.display());
            Err(Failure::new(409, "ErrBucketAlreadyExists", message))
        }
        ("GET", Some("list")) => list(shared, &bucket, &message["value"]),
        ("DELETE", Some("destroy-bck")) if shared.store.destroy(&bucket) => Ok(Answer::new(200)),
        ("HEAD", _) => {
            let options = shared.store.options(&bucket).ok_or_else(|| no_bucket(&bucket))?;
            let properties = json!({
                "provider": bucket.provider,
                "checksum": {"type": options.checksum, "enable_read_range": options.read_range_checksum},
                "versioning": {"enabled": true},
            });
            let answer = Answer::new(200).with("Ais-Bucket-Props", properties.to_string());
            Ok(answer.body(Body::Bare))
        }
        ("DELETE", Some("destroy-bck")) => Err(no_bucket(&bucket)),
        (method, _) => Err(Failure::new(
            400,
            "",
            format!("{method} of a bucket: unsupported action"),
        )),
    }
}

/// Entries per page unless the message asks for fewer. It is the maximum for `ais` buckets
/// (`MaxPageSizeAIS`).
const PAGE: usize = 10_000;

/// Returns a page of `GET /v1/buckets/BUCKET` with the action `list`, as JSON.
///
/// The format follows `cmn/objlist.go` and `api/apc/lsmsg.go` of AIStore. The continuation token is
/// the last name of the preceding page.
fn list(shared: &Shared, bucket: &Bucket, asked: &Value) -> Result<Answer, Failure> {
    let text = |key: &str| asked[key].as_str().unwrap_or_default();
    let after = match text("continuation_token") {
        "" => text("start_after"),
        token => token,
    };
    let most = match asked["pagesize"]
        .as_u64()
        .and_then(|size| usize::try_from(size).ok())
    {
        None | Some(0) => PAGE,
        Some(size) => size.min(PAGE),
    };
    let page = shared.store.list(bucket, text("prefix"), after, most);
    let page = page.ok_or_else(|| no_bucket(bucket))?;
    // The last page has a token, too, if it is full. An empty one follows.
    let token = if page.len() == most {
        page.last().map_or_else(String::new, |(name, _)| name.clone())
    } else {
        String::new()
    };
    let wants = |name: &str| text("props").split(',').any(|asked| asked == name);
    let entry = |(name, stored): &(String, std::sync::Arc<super::store::Stored>)| {
        // The flag is `EntryIsCached`.
        let mut entry = json!({"name": name, "flags": 64});
        let size = stored.object.size();
        if wants("size") && size > 0 {
            entry["size"] = size.to_string().into();
        }
        if wants("version") {
            entry["version"] = stored.version.to_string().into();
        }
        if let Some(checksum) = stored.checksum.as_ref().filter(|_| wants("checksum")) {
            entry["checksum"] = checksum.value.clone().into();
        }
        if wants("atime") {
            let time = jiff::Timestamp::try_from(stored.modified).unwrap_or_default();
            entry["atime"] = time.to_string().into();
        }
        entry
    };
    let entries: Vec<Value> = page.iter().map(entry).collect();
    let uuid = match text("uuid") {
        "" => format!("list{}", shared.next_nonce()),
        uuid => uuid.to_owned(),
    };
    let page = json!({"uuid": uuid, "continuation_token": token, "entries": entries, "flags": 0});
    let answer = Answer::new(200).with("Content-Type", "application/json; charset=utf-8");
    Ok(answer.body(Body::Bytes(page.to_string().into())))
}

/// Returns the part of `GET /v1/daemon?what=smap` that clients read.
fn cluster_map(shared: &Shared) -> Answer {
    let net = |address: std::net::SocketAddr| {
        json!({
            "node_ip_addr": address.ip().to_string(),
            "daemon_port": address.port().to_string(),
            "direct_url": format!("http://{address}"),
        })
    };
    let snode = |node: Node, kind: &str| {
        let net = net(shared.addresses(node)[0]);
        let id = shared.id(node);
        json!({
            "public_net": net, "intra_data_net": net, "intra_control_net": net,
            "daemon_type": kind, "daemon_id": id, "flags": 0, "id_digest": digest(id),
        })
    };
    let proxy = snode(Node::Proxy, "proxy");
    let targets: serde_json::Map<String, Value> = (0..shared.targets())
        .map(|index| {
            let node = Node::Target(index);
            (shared.id(node).to_owned(), snode(node, "target"))
        })
        .collect();
    let map = json!({
        "pmap": {shared.id(Node::Proxy): proxy.clone()}, "proxy_si": proxy, "tmap": targets,
        "uuid": "standin", "creation_time": "", "version": "6",
    });
    let answer = Answer::new(200).with("Content-Type", "application/json; charset=utf-8");
    answer.body(Body::Bytes(map.to_string().into()))
}

fn base36(mut number: u128) -> String {
    let mut digits = Vec::new();
    loop {
        // A remainder of 36 fits a u32.
        let digit = u32::try_from(number % 36).unwrap_or_default();
        digits.extend(char::from_digit(digit, 36));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}
