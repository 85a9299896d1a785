//! Commands of our own pages, run as they are written there.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::installation::repository;

/// The block of a page below `docs/` that begins with `` ```sh NAME ``.
///
/// # Errors
/// When there is none.
pub fn recipe(page: &str, name: &str) -> Result<String> {
    let path = repository().join("docs").join(page);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("failed to read {}", path.display()))?;
    let begin = format!("\n```sh {name}\n");
    let (_, rest) = text.split_once(&begin).with_context(|| format!("{page} has no sh {name}"))?;
    let (block, _) = rest.split_once("\n```").context("the block does not end")?;
    Ok(block.to_owned())
}

/// Runs a recipe with bash and these variables, and gives what it printed.
///
/// # Errors
/// When it fails, with all it said.
pub fn run_recipe(page: &str, name: &str, variables: &[(&str, &str)]) -> Result<String> {
    let script = recipe(page, name)?;
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &script]).envs(variables.iter().copied());
    let output = bash.output().context("failed to run bash")?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{page}, {name}: {printed}{complaint}");
    Ok(printed)
}
