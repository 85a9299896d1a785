//! The command line as a person meets it.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn claviger(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_claviger"))
        .args(arguments)
        .env_remove("KUBECONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("claviger starts");
    let mut stdin = child.stdin.take().expect("its input is ours");
    // A program that does not read its input is no failure of this helper.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    child.wait_with_output().expect("claviger ends")
}

#[test]
fn a_hash_made_here_is_one_that_a_local_user_may_have() {
    for input in ["correct horse\n", "correct horse\r\n", "correct horse"] {
        let output = claviger(&["hash-password"], input);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let hash = String::from_utf8(output.stdout).expect("a hash is text");
        assert!(hash.starts_with("$argon2id$") && hash.ends_with('\n'), "{hash}");
        claviger_connectors::validate_hash(hash.trim_end()).expect("our own hash is accepted");
    }
}

#[test]
fn bad_input_names_the_fix() {
    for (arguments, input, words) in [
        (vec!["hash-password"], "", "no password"),
        (vec!["run"], "", "--tls-cert-file"),
        (vec!["run", "--tls-cert-file", "x"], "", "--tls-key-file"),
        (vec!["run", "--insecure-http", "--kubeconfig", "/nowhere"], "", "/nowhere"),
        (vec!["authentication-config"], "", "--issuer"),
    ] {
        let output = claviger(&arguments, input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?} succeeded");
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
}
