//! `claviger hash-password`: from standard input to an argon2id hash.

use std::io::{IsTerminal, Read};

use anyhow::{Context, bail};
use claviger_connectors::password_hash;
use secrecy::SecretString;

/// Longest input read: the longest password a login form takes, and a line end.
const MAX_INPUT: u64 = 4_096;

/// Reads a password (one line) and prints its hash.
///
/// # Errors
/// When there is no password or it cannot be hashed.
pub fn print() -> anyhow::Result<()> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprintln!("Type the password and press Enter (it is shown):");
    }
    let mut text = String::new();
    if stdin.is_terminal() {
        stdin.read_line(&mut text)
    } else {
        stdin.take(MAX_INPUT).read_to_string(&mut text)
    }
    .context("failed to read the password from standard input as UTF-8")?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("no password on standard input");
    }
    let hash = password_hash::hash_password(&SecretString::from(password))?;
    println!("{hash}");
    Ok(())
}
