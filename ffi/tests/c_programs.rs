//! Runs the C test programs of tests/c against a server of the testkit.
//!
//! Each program runs plainly, under valgrind, and with the C side compiled with sanitizers.

mod support;

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use pget_testkit::{
    aistore::{self, BucketOptions, Cluster, ClusterOptions, Rule},
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
    servers::{Authority, Nginx, NginxOptions, Validity, require},
};
use support::{compile, program, run, succeed, tool, workshop};

/// Time limit of a program. It is generous, because the machines of tests are busy.
const WITHIN: Duration = Duration::from_secs(120);
/// Time limit under valgrind, which makes everything about thirty times slower.
const WITHIN_VALGRIND: Duration = Duration::from_secs(400);

/// `ffi/tests/c/check.h` has the same values.
const GOOD: u64 = 5 * 1024 * 1024 + 123;
const SMALL: u64 = 1000;
const SEED: u64 = 7;

/// Starts a server with the paths that the programs request.
fn server() -> Hostile {
    let server = Hostile::start().expect("a server");
    let good = || Route::new(Object::new(SEED, GOOD));
    let small = || Route::new(Object::new(SEED, SMALL));
    server.route("/good", good());
    server.route("/shared", Route::new(Object::new(SEED, 1 << 20)));
    server.route("/small", small());
    server.route("/empty", Route::new(Object::new(SEED, 0)));
    server.route("/denied", good().fault(When::HeadToo, Fault::status(403)));
    server.route("/unavailable", good().fault(When::HeadToo, Fault::status(503)));
    server.route("/nonsense", good().fault(When::Always, Fault::Shifted { by: 8 }));
    server.route(
        "/changed",
        good()
            .ignoring_conditions()
            .fault(When::Later, Fault::Revision(Object::new(SEED + 1, GOOD))),
    );
    server.route("/silent", good().fault(When::HeadToo, Fault::StallBeforeHead));
    server.route(
        "/stalls",
        good().fault(When::Always, Fault::Stall { after: 70_000 }),
    );
    // The server answers the first range and stalls before the others.
    server.route("/first", good().fault(When::Later, Fault::StallBeforeHead));
    server.route("/closes", small().fault(When::HeadToo, Fault::CloseAfter));
    server.route("/resets", small().fault(When::Reused, Fault::ResetBeforeHead));
    server.route(
        "/closes-reused",
        small().fault(When::HeadToo, Fault::CloseOnReuse),
    );
    server
}

/// Runs the program, which prints a line at its end if all is well. Returns the server that it
/// used.
fn passes(source: &str) -> Option<Hostile> {
    let cc = tool("gcc")?;
    let (server, workshop) = (server(), workshop());
    let built = compile(&cc, &["-std=gnu11"], source, workshop.path(), "program");
    let mut command = program(built, workshop.path());
    command.arg(server.url(""));
    assert_eq!(succeed(&mut command, WITHIN), b"ok\n");
    Some(server)
}

#[test]
fn every_function_argument_and_status() {
    passes("ffi/tests/c/read.c");
}

#[test]
fn shared_memory_between_processes() {
    passes("ffi/tests/c/shared.c");
}

#[test]
fn shared_memory_by_the_cpp_header() {
    let Some(cpp) = tool("g++") else { return };
    let (server, workshop) = (server(), workshop());
    let built = compile(
        &cpp,
        &["-std=c++17"],
        "ffi/tests/c/shared.cpp",
        workshop.path(),
        "program",
    );
    let mut command = program(built, workshop.path());
    command.arg(server.url(""));
    assert_eq!(succeed(&mut command, WITHIN), b"ok\n");
}

#[test]
fn rings_between_processes() {
    passes("ffi/tests/c/ring.c");
}

#[test]
fn cancel_and_close_from_other_threads() {
    passes("ffi/tests/c/cancel.c");
}

#[test]
fn standard_descriptors_that_are_closed_and_a_change_of_folder() {
    passes("ffi/tests/c/surroundings.c");
}

#[test]
fn two_hundred_forks_with_downloads_in_flight() {
    let Some(cc) = tool("gcc") else { return };
    let authority = Authority::new().expect("an authority");
    let leaf = authority
        .leaf(&["localhost"], Validity::Now)
        .expect("a certificate");
    let nginx = Nginx::start(&NginxOptions {
        workers: 2,
        tls: Some(leaf),
        ..NginxOptions::default()
    });
    let Some(nginx) = require(nginx) else { return };
    for (name, size) in [("good", GOOD), ("middle", 1 << 20), ("small", SMALL)] {
        let size = usize::try_from(size).expect("small");
        let bytes = Pattern::new(SEED).bytes(0, size);
        nginx.put(name, bytes).expect("written");
    }
    let workshop = workshop();
    let trusted = workshop.path().join("authority.pem");
    std::fs::write(&trusted, authority.pem()).expect("written");
    let flags = ["-std=gnu11", "-O1", "-pthread"];
    let built = compile(&cc, &flags, "ffi/tests/c/fork.c", workshop.path(), "fork");
    let mut command = program(built, workshop.path());
    command
        .arg(nginx.url(""))
        .arg(nginx.https_url("").expect("it has TLS"))
        .env("SSL_CERT_FILE", trusted);
    assert_eq!(succeed(&mut command, WITHIN), b"ok\n");
}

#[test]
fn fork_signals_peers_that_close_and_panics() {
    let Some(server) = passes("ffi/tests/c/process.c") else {
        return;
    };
    let closed: u64 = ["/closes", "/closes-reused", "/resets"]
        .iter()
        .map(|path| server.served(path))
        .sum();
    assert!(closed >= 1000, "only {closed} connections were closed");
}

#[test]
fn aistore_and_its_checksums_of_ranges() {
    let Some(cc) = tool("gcc") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let cluster = runtime.block_on(Cluster::start(ClusterOptions::default()));
    cluster.create_bucket("ranges", BucketOptions::default().read_range_checksum());
    for name in ["good", "damaged"] {
        cluster.put("ranges", name, aistore::Object::pattern(SEED, GOOD));
    }
    let good = || aistore::Object::pattern(SEED, GOOD);
    cluster.put("verify", "right", good());
    let wrong = good().with_stated_checksum("xxhash2", "0123456789abcdef");
    cluster.put("verify", "wrong", wrong);
    cluster.create_bucket("verify-none", BucketOptions::default().checksum("none"));
    cluster.put("verify-none", "silent", good());
    let flip = aistore::Fault::Flip { offset: 1_234_567 };
    cluster.inject(Rule::new(flip).object("damaged").times(u64::MAX));
    let workshop = workshop();
    let built = compile(
        &cc,
        &["-std=gnu11"],
        "ffi/tests/c/aistore.c",
        workshop.path(),
        "program",
    );
    let mut command = program(built, workshop.path());
    command.arg(cluster.endpoint());
    assert_eq!(succeed(&mut command, WITHIN), b"ok\n");
    assert!(cluster.counts().fault("flip") > 1);
}

#[test]
fn loading_and_unloading() {
    let Some(cc) = tool("gcc") else { return };
    let (server, workshop) = (server(), workshop());
    // With `--as-needed`, the linker omits the library if the program uses nothing of it.
    let flags = ["-std=gnu11", "-Wl,--as-needed"];
    let built = compile(&cc, &flags, "ffi/tests/c/load.c", workshop.path(), "program");
    let mut command = program(built, workshop.path());
    command
        .arg(server.url(""))
        .arg(workshop.path().join("libpget.so.0"));
    assert_eq!(succeed(&mut command, WITHIN), b"ok\n");
}

/// Checks that the program makes no invalid access and definitely loses no memory.
#[test]
fn memcheck_finds_nothing() {
    let (Some(cc), Some(valgrind)) = (tool("gcc"), tool("valgrind")) else {
        return;
    };
    let (server, workshop) = (server(), workshop());
    for source in ["read", "cancel", "shared", "ring"] {
        let path = format!("ffi/tests/c/{source}.c");
        let built = compile(&cc, &["-std=gnu11"], &path, workshop.path(), source);
        let mut command = program(&valgrind, workshop.path());
        command
            .args(["--quiet", "--error-exitcode=99", "--leak-check=full"])
            .args(["--errors-for-leak-kinds=definite", "--show-leak-kinds=definite"])
            // Threads take turns under valgrind. Without fair scheduling, a thread that spins may
            // starve the one that it waits for.
            .arg("--fair-sched=yes")
            .arg(built)
            .arg(server.url(""));
        if source == "cancel" {
            command.arg("reduced");
        }
        let begun = Instant::now();
        assert_eq!(succeed(&mut command, WITHIN_VALGRIND), b"ok\n");
        eprintln!("{source}.c under memcheck: {:?}", begun.elapsed());
    }
}

/// Compiles only the C side with sanitizers, and uses the library as it is.
///
/// The sanitizers watch the memory of the C side, even if the library writes to it through
/// intercepted functions.
#[test]
fn the_c_side_under_address_and_undefined_behaviour_sanitizers() {
    let Some(cc) = tool("gcc") else { return };
    let (server, workshop) = (server(), workshop());
    let flags = [
        "-std=gnu11",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
    ];
    for source in ["read", "cancel", "process", "shared", "ring"] {
        let path = format!("ffi/tests/c/{source}.c");
        let built = compile(&cc, &flags, &path, workshop.path(), source);
        let mut command = without_randomised_addresses(&built, workshop.path());
        command.arg(server.url(""));
        if matches!(source, "cancel" | "process") {
            command.arg("reduced");
        }
        if source == "process" {
            // The test is not about AddressSanitizer's own signal handlers.
            command.env(
                "ASAN_OPTIONS",
                "handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:handle_abort=0:detect_leaks=0",
            );
        }
        assert_eq!(succeed(&mut command, WITHIN), b"ok\n", "{source}");
    }
}

/// Returns a command that runs the program without address randomisation.
///
/// The sanitizers of older compilers do not support the wide address spaces of newer kernels.
fn without_randomised_addresses(built: &Path, folder: &Path) -> Command {
    let plain = run(Command::new("setarch").args(["-R", "true"]), WITHIN);
    if plain.status.success() {
        let mut command = program("setarch", folder);
        command.arg("-R").arg(built);
        return command;
    }
    program(built, folder)
}
