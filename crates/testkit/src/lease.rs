//! Leases by `flock`: a locked file says that something is ours, in all processes of this user.
//!
//! The kernel drops the lock when the file is closed or its process ends, so there is nothing to clean up, and the files
//! stay.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where leases of this kind are: `${XDG_RUNTIME_DIR:-/tmp}/claviger-<kind>-<uid>`.
///
/// # Errors
/// When it cannot be made.
pub fn folder(kind: &str) -> Result<PathBuf> {
    let parent =
        std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    let uid = rustix::process::getuid().as_raw();
    let folder = parent.join(format!("claviger-{kind}-{uid}"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("failed to create {}", folder.display()))?;
    Ok(folder)
}

/// The lease of this name, unless somebody has it. It is ours until the file is dropped.
///
/// # Errors
/// When the file cannot be written or locked.
pub fn try_take(folder: &Path, name: &str) -> Result<Option<File>> {
    let path = folder.join(format!("{name}.lock"));
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("failed to open {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("failed to lock {}", path.display()))
        }
    }
}
