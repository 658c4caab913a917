//! Checks that the header is up to date and has the right version.
//!
//! Every compiler must accept it in every language version.

#![allow(unsafe_code, reason = "reads a text as a C program does")]

mod support;

use std::ffi::CStr;

use support::{compile, root, tool, workshop};

fn generated() -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    let config = cbindgen::Config::from_file(format!("{folder}/cbindgen.toml")).expect("the configuration");
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_crate(folder)
        .generate()
        .expect("a header");
    let mut text = Vec::new();
    bindings.write(&mut text);
    String::from_utf8(text).expect("text")
}

#[test]
fn the_committed_header_is_what_the_crate_makes() {
    pget_testkit::committed(&root().join("include/pget.h"), &generated());
}

#[test]
fn versions_in_header_and_library_are_the_crates() {
    let of_crate = env!("CARGO_PKG_VERSION");
    let of_header = format!(
        "{}.{}.{}",
        pget::PGET_VERSION_MAJOR,
        pget::PGET_VERSION_MINOR,
        pget::PGET_VERSION_PATCH
    );
    assert_eq!(of_header, of_crate);
    // SAFETY: the header promises a static text with a final zero.
    let of_library = unsafe { CStr::from_ptr(pget::pget_version()) };
    assert_eq!(of_library.to_str(), Ok(of_crate));
    assert_eq!(pget::pget_abi_version(), pget::PGET_ABI_VERSION);
}

#[test]
fn the_headers_compile_everywhere_without_a_warning() {
    let workshop = workshop();
    for (family, cxx) in [("gcc", "g++"), ("clang", "clang++")] {
        let (Some(cc), Some(cxx)) = (tool(family), tool(cxx)) else {
            continue;
        };
        for standard in ["-std=c99", "-std=c11"] {
            compile(
                &cc,
                &[standard],
                "ffi/tests/c/include.c",
                workshop.path(),
                "include",
            );
        }
        // Compile the same file as C++, with the C++ header.
        let flags = ["-std=c++17", "-x", "c++"];
        compile(&cxx, &flags, "ffi/tests/c/include.c", workshop.path(), "include");
        compile(
            &cxx,
            &["-std=c++17"],
            "ffi/tests/c/include.cpp",
            workshop.path(),
            "include",
        );
    }
}
