//! Every committed input of every target as it stands, and a bounded number of mutants, the same at every run: what
//! `make fuzz` does for as long as one likes, guided by coverage.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use claviger_fuzz::mutant::{self, Numbers};
use claviger_fuzz::target::{self, Target};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn corpus(target: &Target) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = folder().join(target.name);
    let mut inputs = Vec::new();
    let entries = std::fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        inputs.push((path.clone(), std::fs::read(&path)?));
    }
    inputs.sort();
    ensure!(!inputs.is_empty(), "{} is empty", folder.display());
    Ok(inputs)
}

/// Runs a target; an error shows the input if something does not hold.
fn holds(target: &Target, input: &[u8], what: &str) -> Result<()> {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        bail!("{}, {what}: {:?}", target.name, String::from_utf8_lossy(input));
    }
    Ok(())
}

/// Tries a target's corpus and its mutants, up to the first that does not hold; returns how many there were.
fn try_all(target: &Target, seed: u64) -> Result<u64> {
    let inputs = corpus(target)?;
    for (path, input) in &inputs {
        holds(target, input, &path.display().to_string())?;
    }
    let inputs: Vec<_> = inputs.into_iter().map(|(_, input)| input).collect();
    let mut numbers = Numbers::of(seed);
    for m in 0..target.mutants {
        holds(target, &mutant::of(&inputs, &mut numbers), &format!("mutant {m}"))?;
    }
    Ok(u64::from(target.mutants) + inputs.len() as u64)
}

#[test]
fn every_committed_input_and_its_mutants_hold() -> Result<()> {
    let tried: Vec<_> =
        (0..).zip(target::ALL).map(|(seed, target)| try_all(target, seed)).collect();
    let (held, broken): (Vec<_>, Vec<_>) = tried.into_iter().partition(Result::is_ok);
    let broken: Vec<_> = broken.into_iter().filter_map(Result::err).collect();
    ensure!(broken.is_empty(), "{broken:#?}");
    let inputs: u64 = held.into_iter().flatten().sum();
    println!("{} targets, {inputs} inputs", target::ALL.len());
    Ok(())
}

#[test]
fn every_corpus_has_a_target() -> Result<()> {
    for entry in std::fs::read_dir(folder())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        ensure!(target::named(&name).is_some(), "corpus/{name} is nobody's");
    }
    Ok(())
}

/// Of a bug that is planted: mutants come close enough to find it.
#[test]
fn mutants_find_a_bug_that_is_planted() {
    let planted = |input: &[u8]| input.windows(2).any(|two| two == b"%%");
    let corpus = [b"response_type=code&state=%20".to_vec(), b"scope=openid".to_vec()];
    let mut numbers = Numbers::of(7);
    let found = (0..20_000).find(|_| planted(&mutant::of(&corpus, &mut numbers)));
    assert!(found.is_some(), "20,000 mutants and none has two percent signs in a row");
}
