//! Rules that no compiler checks: the places of unsafe code, and the licences and origins of
//! dependencies.
//!
//! Advisories need a database: `cargo deny check` with deny.toml (docs/security.md).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).expect("the workspace")
}

/// Returns all files of the project with this ending, as paths from its root.
fn files(ending: &str) -> Vec<PathBuf> {
    let root = root();
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(&root)
        .output();
    let listed = listed.expect("git lists the files");
    assert!(
        listed.status.success(),
        "{}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let names = String::from_utf8(listed.stdout).expect("names are text");
    let found: Vec<_> = names
        .split('\0')
        .filter(|name| name.ends_with(ending))
        .map(PathBuf::from)
        .collect();
    // A removed file is still listed.
    found
        .into_iter()
        .filter(|name| root.join(name).exists())
        .collect()
}

#[test]
fn unsafe_code_is_in_the_named_modules_only() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    assert!(manifest.contains("\nunsafe_code = \"deny\"\n"));
    assert!(
        manifest.contains("\nundocumented_unsafe_blocks = \"warn\"\n"),
        "each block says why"
    );
    for member in files("Cargo.toml") {
        let text = fs::read_to_string(root().join(&member)).expect("a manifest");
        // A workspace apart (`benches/lies`) is in none of our builds.
        if text.contains("[package]") && !text.starts_with("# A workspace of its own") {
            assert!(
                text.contains("[lints]\nworkspace = true\n"),
                "{} has lints of its own",
                member.display()
            );
        }
    }
    let mut lifted = BTreeSet::new();
    for path in files(".rs") {
        // This file only mentions the word.
        if path.ends_with("house.rs") {
            continue;
        }
        let text = fs::read_to_string(root().join(&path)).expect("a source");
        // The word is in an attribute, however that is laid out.
        if text
            .lines()
            .any(|line| line.contains("unsafe_code") && !line.contains('"'))
            || text.contains("allow(unsafe_code")
        {
            lifted.insert(path.display().to_string());
        }
    }
    let allowed = |path: &str| {
        ["crates/pget-core/src/memory/", "crates/pget-shm/", "ffi/"]
            .iter()
            .any(|place| path.starts_with(place))
            // These files lend foreign memory to writers, or read it again for a checksum.
            || ["buffer.rs", "landing.rs", "ranges.rs", "range_buffers.rs"]
                .iter()
                .any(|name| path == format!("crates/pget-core/src/delivery/{name}"))
            // These files concern the resources of a process, and forked children, in the library
            // and in its tests.
            || [
                "crates/pget-core/src/fork.rs",
                "crates/pget-testkit/src/forked.rs",
                "crates/pget/tests/fork.rs",
            ]
            .contains(&path)
            // The files implement Python's buffer protocol.
            || path.starts_with("python/src/")
            // These files contain a system call that no crate offers, a call that takes a number
            // for a descriptor, a look at the standard streams before Rust's start-up, a foreign
            // caller's view of the C ABI, and mapped memory that a benchmark receives into.
            || [
                "crates/pget-http/src/low_water_mark.rs",
                "crates/pget-file/src/descriptor.rs",
                "crates/pget-cli/src/streams.rs",
                "fuzz/src/foreign.rs",
                "benches/src/bin/bare.rs",
                "benches/src/bin/place/mapped.rs",
                "benches/src/bin/tls/bare.rs",
            ]
            .contains(&path)
    };
    let odd: Vec<_> = lifted.iter().filter(|path| !allowed(path)).collect();
    assert!(odd.is_empty(), "unsafe code is allowed in {odd:?}");
    assert!(
        lifted.contains("ffi/src/lib.rs"),
        "the search finds what is there: {lifted:?}"
    );
}

/// Calls that only Linux has must not occur outside the program and the Linux-only modules. Other
/// files that use them choose by `cfg` (scripts/portable.sh builds the other choice).
#[test]
fn calls_of_linux_are_in_the_named_modules_only() {
    const CALLS: [&str; 12] = [
        "fallocate",
        "statx",
        "syncfs",
        "fstatfs",
        "eventfd",
        "memfd_create",
        "renameat2",
        "copy_file_range",
        "F_OFD_",
        "F_SETPIPE_SZ",
        "Advice::Linux",
        "SO_RCVLOWAT",
    ];
    const CHOOSING: [&str; 3] = [
        "crates/pget-core/src/memory/block.rs",
        "crates/pget-file/src/system/linux.rs",
        "crates/pget-http/src/low_water_mark.rs",
    ];
    const PORTABLE: [&str; 8] = [
        "pget",
        "pget-aistore",
        "pget-core",
        "pget-file",
        "pget-http",
        "pget-object-store",
        "pget-s3",
        "pget-schedule",
    ];
    let mut found = BTreeSet::new();
    for path in files(".rs") {
        let name = path.display().to_string();
        if !PORTABLE
            .iter()
            .any(|member| name.starts_with(&format!("crates/{member}/src/")))
        {
            continue;
        }
        let text = fs::read_to_string(root().join(&path)).expect("a source");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        if code
            .into_iter()
            .any(|line| CALLS.iter().any(|call| line.contains(call)))
        {
            found.insert(name);
        }
    }
    let expected: BTreeSet<_> = CHOOSING.into_iter().map(str::to_owned).collect();
    assert_eq!(found, expected);
    for name in CHOOSING {
        let folder = Path::new(name).with_file_name("mod.rs");
        let chooser = if name.ends_with("linux.rs") {
            &folder
        } else {
            Path::new(name)
        };
        let text = fs::read_to_string(root().join(chooser)).expect("a source");
        assert!(
            text.contains("target_os = \"linux\""),
            "{name} is built everywhere"
        );
    }
}

/// Permissive licences. Distributors of pget must only include a notice.
///
/// libFuzzer is also under NCSA's licence and not in the list. Only `cfg(fuzzing)` uses it.
const LICENCES: [&str; 11] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
];

/// Returns whether the licences in `allowed` satisfy an SPDX expression.
fn can_be_met(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let expression = expression.trim();
    // A part in parentheses becomes true or false, innermost first.
    if let Some(close) = expression.find(')') {
        let open = expression[..close].rfind('(').expect("brackets come in pairs");
        let inner = if can_be_met(&expression[open + 1..close], allowed) {
            "yes"
        } else {
            "no"
        };
        return can_be_met(
            &format!("{}{inner}{}", &expression[..open], &expression[close + 1..]),
            allowed,
        );
    }
    let expression = expression.replace('/', " OR ");
    expression.split(" OR ").any(|option| {
        option
            .split(" AND ")
            .map(str::trim)
            .all(|name| name == "yes" || allowed(name))
    })
}

#[test]
fn expressions_are_read() {
    let allowed = |name: &str| name == "MIT" || name == "ISC";
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("Apache-2.0 OR MIT", true),
        ("Apache-2.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR Apache-2.0) AND ISC", true),
        ("(MIT OR Apache-2.0) AND (GPL-3.0 OR BSD)", false),
    ] {
        assert_eq!(can_be_met(expression, &allowed), met, "{expression}");
    }
}

#[test]
fn licences_and_origins_of_all_dependencies() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let told = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("a list");
    let mut foreign = 0;
    let mut wrong = Vec::new();
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        match package["source"].as_str() {
            None => continue,
            Some(source) if source.starts_with("registry+https://github.com/rust-lang/crates.io-index") => {}
            Some(source) => wrong.push(format!("{name} comes from {source}")),
        }
        foreign += 1;
        let licence = package["license"].as_str().unwrap_or("no licence");
        // The package writes our header in a test, and is part of nothing that is shipped.
        let allowed = |one: &str| LICENCES.contains(&one) || (one == "MPL-2.0" && name == "cbindgen");
        if !can_be_met(licence, &allowed) {
            wrong.push(format!("{name} is under {licence}"));
        }
        // A second TLS implementation, or the system's, would be a second set of faults.
        if ["openssl", "openssl-sys", "native-tls", "aws-lc-rs"].contains(&name) {
            wrong.push(format!("{name} is not wanted"));
        }
    }
    assert!(foreign > 50, "{foreign} dependencies: is that all?");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
