//! Runs the programs of examples/c and examples/cpp against a real nginx.
//!
//! They are compiled with an installed library, as a user would do.

mod support;

use std::{
    io::{Read, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
    servers::{Nginx, NginxOptions, require},
};
use support::{STRICT, built, program, root, succeed, tool, workshop};

const WITHIN: Duration = Duration::from_secs(120);
const SIZE: usize = (20 << 20) + 77;
const PATTERN: Pattern = Pattern::new(3);

/// Runs `make install` into `prefix`, with the library that these tests were built with.
fn install(prefix: &Path) -> Option<()> {
    let make = tool("make")?;
    let mut command = Command::new(make);
    command
        .current_dir(root())
        .arg("install")
        .arg(format!("PREFIX={}", prefix.display()))
        .arg(format!("LIBS={}", built().display()));
    succeed(&mut command, WITHIN);
    Some(())
}

/// Returns the output of pkg-config, which searches only `prefix`.
fn pkg_config(prefix: &Path, arguments: &[&str]) -> Option<Vec<String>> {
    let mut command = Command::new(tool("pkg-config")?);
    command
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
        .args(arguments)
        .arg("pget");
    let text = String::from_utf8(succeed(&mut command, WITHIN)).expect("text");
    Some(text.split_whitespace().map(str::to_owned).collect())
}

#[test]
fn every_example_does_what_it_says() {
    let Some(nginx) = require(Nginx::start(&NginxOptions::default())) else {
        return;
    };
    let prefix = workshop();
    if install(prefix.path()).is_none() {
        return;
    }
    let Some(flags) = pkg_config(prefix.path(), &["--cflags", "--libs"]) else {
        return;
    };
    let content = PATTERN.bytes(0, SIZE);
    nginx.put("object", &content).expect("a file");
    let url = nginx.url("/object");
    let endless = Hostile::start().expect("a server");
    let stuck = endless.route(
        "/stuck",
        Route::new(Object::new(3, 1 << 30)).fault(When::Always, Fault::Stall { after: 100_000 }),
    );
    for (compiler, standard, language) in [
        ("gcc", "-std=c99", "c"),
        ("clang", "-std=c99", "c"),
        ("g++", "-std=c++17", "cpp"),
        ("clang++", "-std=c++17", "cpp"),
    ] {
        let Some(compiler) = tool(compiler) else { continue };
        let build = |name: &str| {
            let built = prefix.path().join(format!("{compiler}-{name}"));
            let source = root().join(format!("examples/{language}/{name}.{language}"));
            let mut command = Command::new(&compiler);
            command
                .arg(standard)
                .args(STRICT)
                .arg(source)
                .arg("-o")
                .arg(&built);
            succeed(command.args(&flags).arg("-lpthread"), WITHIN);
            program(built, &prefix.path().join("lib"))
        };
        let cat = succeed(build("cat").arg(&url), WITHIN);
        assert!(cat == content, "{compiler}: {} bytes", cat.len());

        let into = String::from_utf8(succeed(build("into").arg(&url), WITHIN)).expect("text");
        assert!(
            into.starts_with(&format!("{SIZE} bytes, etag ")),
            "{compiler}: {into}"
        );
        if language == "c" {
            let sum: u64 = content.iter().map(|byte| u64::from(*byte)).sum();
            assert!(into.ends_with(&format!("sum {sum}\n")), "{into}");
            shares(build("shared").arg(&url), &content);
        } else {
            assert!(into.ends_with("twice the same\n"), "{into}");
        }
        cancels(&mut build("cancel"), &stuck);
    }
}

/// Checks that four processes have digested the whole object.
fn shares(command: &mut Command, content: &[u8]) {
    let said = String::from_utf8(succeed(command, WITHIN)).expect("text");
    let fnv = content.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    assert_eq!(said.lines().count(), 4, "{said}");
    for line in said.lines() {
        assert!(line.starts_with(&format!("{SIZE} bytes, etag ")), "{line}");
        assert!(line.ends_with(&format!("fnv {fnv:016x}")), "{line}");
    }
}

/// Runs a program that reads a stalled body. It must end soon after its other thread triggers the
/// cancel.
fn cancels(command: &mut Command, stuck: &str) {
    let mut child = command
        .arg(stuck)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    // The C example waits for this line, the C++ example for its first piece.
    child.stdin.take().expect("piped").write_all(b"\n").ok();
    let begun = Instant::now();
    let mut said = String::new();
    child
        .stdout
        .take()
        .expect("piped")
        .read_to_string(&mut said)
        .expect("text");
    assert!(child.wait().expect("its end").success(), "{command:?}: {said}");
    assert!(said.contains("cancelled"), "{command:?}: {said}");
    // Without the cancel, the call would end after the stall timeout of 20 seconds.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// Builds a static program with the command of the README.
#[test]
fn a_static_program_links_by_pkg_config() {
    let prefix = workshop();
    let (Some(cc), Some(())) = (tool("gcc"), install(prefix.path())) else {
        return;
    };
    let Some(flags) = pkg_config(prefix.path(), &["--static", "--cflags", "--libs"]) else {
        return;
    };
    let built = prefix.path().join("static");
    let mut command = Command::new(cc);
    command
        .args(["-std=c99", "-static-libgcc"])
        .args(STRICT)
        .arg(root().join("examples/c/cat.c"))
        .arg("-o")
        .arg(&built)
        // Name the archive itself, because the folder also contains a shared library.
        .args(
            flags
                .iter()
                .map(|flag| if flag == "-lpget" { "-l:libpget.a" } else { flag }),
        );
    succeed(&mut command, WITHIN);
    let nowhere = workshop();
    std::fs::write(nowhere.path().join("object"), b"some bytes").expect("a file");
    let mut command = Command::new(built);
    command
        .arg(nowhere.path().join("object"))
        .env_remove("LD_LIBRARY_PATH");
    assert_eq!(succeed(&mut command, WITHIN), b"some bytes");
}

#[test]
fn cmake_finds_the_package() {
    let prefix = workshop();
    let (Some(cmake), Some(())) = (tool("cmake"), install(prefix.path())) else {
        return;
    };
    let project = prefix.path().join("project");
    std::fs::create_dir(&project).expect("a folder");
    let lists = format!(
        "cmake_minimum_required(VERSION 3.16)\nproject(user C CXX)\nset(CMAKE_CXX_STANDARD 17)\nfind_package(pget 0.1 REQUIRED)\n\
         add_executable(one {0}/examples/c/cat.c)\ntarget_link_libraries(one pget::pget)\n\
         add_executable(two {0}/examples/cpp/cat.cpp)\ntarget_link_libraries(two pget::static)\n",
        root().display()
    );
    std::fs::write(project.join("CMakeLists.txt"), lists).expect("a file");
    std::fs::write(project.join("object"), b"some bytes").expect("a file");
    let mut configure = Command::new(&cmake);
    configure
        .args(["-S", ".", "-B", "build"])
        .arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.path().display()))
        .current_dir(&project);
    succeed(&mut configure, WITHIN);
    succeed(
        Command::new(&cmake)
            .args(["--build", "build"])
            .current_dir(&project),
        WITHIN,
    );
    for name in ["one", "two"] {
        let mut command = program(project.join("build").join(name), &project);
        assert_eq!(succeed(command.arg("./object"), WITHIN), b"some bytes", "{name}");
    }
}
