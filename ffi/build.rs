//! Linker flags of the shared library that cargo does not set by itself.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // The number is that of the ABI's incompatible versions, as far as there were any; it is not the crate's.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libpget.so.0");
        // Rust exports what any crate declares for C; one below object_store has a whole C interface. Our own functions come as objects, all else as archives.
        println!("cargo:rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
        // The runtime's threads end with the process, so their code must stay: dlclose leaves the library mapped.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
