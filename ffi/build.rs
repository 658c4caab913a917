//! Sets linker flags of the shared library that cargo does not set.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // The number in the soname counts the incompatible versions of the ABI. It is not the
        // crate's version.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libpget.so.0");
        // Rust exports every C function that any crate declares, and a dependency of object_store
        // has a whole C interface. Our own functions come as objects, all others as archives.
        println!("cargo:rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
        // The runtime's threads run until the process ends, so dlclose must leave their code
        // mapped.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
