//! How the binary is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CLAVIGER_WITHOUT_RELR");
    let is = |name, value| std::env::var(name).is_ok_and(|it| it == value);
    // Half a megabyte less that is resident for good: relative relocations packed (RELR). glibc 2.36 and later read
    // them; so do musl 1.2.4 and later.
    let wanted = std::env::var_os("CLAVIGER_WITHOUT_RELR").is_none();
    if wanted && is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
