//! How the binary is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Half a megabyte less to read at start, and less that is resident for good: relative relocations packed (RELR).
    // glibc 2.36 and later read them; so do musl 1.2.4 and later.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
