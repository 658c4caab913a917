//! Compares settings with botocore, google-auth and Azure's libraries.
//!
//! In the same environment and home, both sides must arrive at the same host, region, credential
//! and signature. A server on this machine imitates the services that issue credentials, for both
//! sides. A deliberate difference states its reason. It is an error if such a case no longer
//! differs.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use pget_http::{Client, ClientOptions, Method, ProxyChoice};
use serde_json::{Value, json};

use crate::{
    Settings,
    address::Address,
    cloud::{
        self,
        contract::{Access, Ask},
        keys::{Keys, Secret},
        search::Search,
    },
};

#[path = "../../../tests/s3/standin.rs"]
mod standin;

mod services;
mod table;

use services::services;
use standin::Standin;
use table::{Case, table};

/// Returns this project's result for a case.
async fn ours(case: &Case, variables: &[(String, String)]) -> Value {
    let mut options = ClientOptions::default();
    options.proxy = ProxyChoice::None;
    let client = Client::new(&options).expect("a client");
    let settings = Settings::new().environment(variables.to_vec());
    match request(&case.address, &settings, client).await {
        Ok((url, headers)) => json!({ "url": url, "headers": headers }),
        Err(error) => json!({ "error": error }),
    }
}

async fn request(address: &str, settings: &Settings, client: Client) -> Result<(String, Value), String> {
    let address = Address::parse(address).map_err(|error| error.to_line())?;
    let express = address.bucket.ends_with("--x-s3");
    let sessions = !settings
        .variables()
        .contains_key("AWS_S3_DISABLE_EXPRESS_SESSION_AUTH");
    let opened = cloud::open(address, settings, client).map_err(|error| error.to_line())?;
    let keys = match opened.access() {
        Access::Anonymous => None,
        // An S3 Express session would require a request to the real service.
        _ if express && sessions => Some(Keys::Aws {
            id: Secret::new("SESSION"),
            secret: Secret::new("session-secret"),
            token: Some(Secret::new("session-token")),
        }),
        _ => {
            let mut search = Search::new();
            let found = opened
                .find(&mut search)
                .await
                .map_err(|error| error.to_string())?;
            found.map(|found| found.keys)
        }
    };
    let ask = Ask {
        method: Method::Get,
        keys: keys.as_ref(),
        time: SystemTime::now(),
        region: None,
        to: None,
        range: None,
        pin: None,
    };
    let signed = opened.request(&ask).map_err(|error| error.to_string())?;
    let headers = signed.headers.iter().map(|(name, value)| {
        let value = value.to_str().expect("text");
        (name.to_string(), Value::from(value))
    });
    Ok((signed.url.to_string(), Value::Object(headers.collect())))
}

/// Returns an RSA key in PEM, as one line of JSON.
fn key() -> Option<String> {
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        .output();
    let made = made.ok().filter(|made| made.status.success())?;
    Some(String::from_utf8(made.stdout).ok()?.replace('\n', "\\n"))
}

/// Returns the Python interpreter that has the libraries.
fn python() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/python-env.sh");
    let made = Command::new(script).output().ok()?;
    let path = String::from_utf8(made.stdout).ok()?;
    made.status.success().then(|| PathBuf::from(path.trim()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_libraries_come_to_the_same() {
    let (Some(python), Some(key)) = (python(), key()) else {
        assert!(
            std::env::var_os("CI").is_none(),
            "Python's libraries and openssl are needed"
        );
        eprintln!("skipped: Python's libraries or openssl are not to be had");
        return;
    };
    let server = Standin::start(services);
    let folder = tempfile::tempdir().expect("a folder");
    let table = table(&key);
    assert!(table.len() >= 100, "{}", table.len());
    let mut lines = Vec::new();
    for (number, case) in table.iter().enumerate() {
        let home = folder.path().join(number.to_string());
        let here = server.url("");
        let fill = |text: &str| {
            text.replace("{HERE}", &here)
                .replace("{HOST}", &here.replace("http://", ""))
                .replace("{HOME}", home.to_str().expect("a path"))
        };
        std::fs::create_dir_all(&home).expect("a folder");
        for (name, text) in &case.files {
            let path = home.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, fill(text)).expect("a file");
        }
        let mut variables: Vec<_> = case.variables.iter().map(|(k, v)| (k.clone(), fill(v))).collect();
        variables.push(("HOME".into(), home.to_str().expect("a path").into()));
        let mut line = ours(case, &variables).await;
        line["name"] = case.name.clone().into();
        line["address"] = case.address.clone().into();
        line["variables"] = Value::Object(variables.into_iter().map(|(k, v)| (k, v.into())).collect());
        lines.push(line);
    }
    let path = folder.path().join("cases.json");
    std::fs::write(&path, Value::from(lines).to_string()).expect("a file");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/official/compare.py");
    let judged = tokio::task::spawn_blocking(move || Command::new(python).arg(script).arg(path).output());
    let judged = tokio::time::timeout(std::time::Duration::from_secs(600), judged).await;
    let judged = judged
        .expect("it must end")
        .expect("no panic")
        .expect("it starts");
    let found: Value = serde_json::from_slice(&judged.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&judged.stderr)));
    let mut wrong = Vec::new();
    for case in &table {
        let differences = found[&case.name].as_array().expect("every case is judged");
        match case.differs {
            None if differences.is_empty() => {}
            Some(_) if !differences.is_empty() => {}
            Some(why) => wrong.push(format!("{}: no difference, but: {why}", case.name)),
            None => wrong.push(format!("{}: {differences:?}", case.name)),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        table.len(),
        wrong.join("\n")
    );
}
