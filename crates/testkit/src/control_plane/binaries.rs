//! Finds etcd, kube-apiserver, kubectl and helm, and has them built if they are not there.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// Names the folder with the programs; set by `with-control-plane` for what runs below it.
pub const BINARIES_ENV: &str = "CLAVIGER_CONTROL_PLANE_BIN";

/// The folder named by the environment, or else the one `scripts/control-plane` prints. Where nothing has
/// been built yet, that script takes minutes and says so on stderr.
pub async fn find() -> Result<PathBuf> {
    let folder = match std::env::var_os(BINARIES_ENV) {
        Some(folder) => PathBuf::from(folder),
        None => build().await?,
    };
    for program in ["etcd", "kube-apiserver", "kubectl", "helm"] {
        ensure!(
            folder.join(program).exists(),
            "{} holds no {program}; unset {BINARIES_ENV} to have everything built",
            folder.display()
        );
    }
    Ok(folder)
}

async fn build() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/control-plane");
    // Should we end meanwhile, the script is told to, and ends what it has started.
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "--"])
        .arg(&script)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await
        .with_context(|| format!("failed to run {}", script.display()))?;
    ensure!(output.status.success(), "{} failed: {}", script.display(), output.status);
    let folder = String::from_utf8(output.stdout).context("the folder's name is not UTF-8")?;
    Ok(PathBuf::from(folder.trim_end()))
}
