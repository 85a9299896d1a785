//! Loopback addresses, leased like ports: for servers whose ports nobody can choose.
//!
//! All of 127.0.0.0/8 is this machine. A lease is a locked file
//! `${XDG_RUNTIME_DIR:-/tmp}/claviger-addresses-<uid>/<address>.lock`; see [`PortLease`](crate::PortLease) for why.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// 127.66.0.1 to 127.66.3.254, without those that end in 0 and 255.
const NETWORKS: std::ops::Range<u8> = 0..4;

/// An address that is ours until the lease is dropped.
#[derive(Debug)]
pub struct LoopbackLease {
    address: Ipv4Addr,
    _lock: File,
}

impl LoopbackLease {
    /// Leases an address that nobody has leased.
    ///
    /// # Errors
    /// The folder of the locks cannot be written, or all addresses are taken.
    pub fn take() -> Result<Self> {
        let folder = folder()?;
        for address in NETWORKS.flat_map(|net| (1..255).map(move |host| [127, 66, net, host])) {
            let address = Ipv4Addr::from(address);
            let path = folder.join(format!("{address}.lock"));
            let lock = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .with_context(|| format!("failed to open {}", path.display()))?;
            match lock.try_lock() {
                Ok(()) => return Ok(Self { address, _lock: lock }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(error)
                        .with_context(|| format!("failed to lock {}", path.display()));
                }
            }
        }
        bail!("no address is free in 127.66.0.0/22")
    }

    /// The address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }
}

fn folder() -> Result<PathBuf> {
    let parent =
        std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    let uid = rustix::process::getuid().as_raw();
    let folder = parent.join(format!("claviger-addresses-{uid}"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("failed to create {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_held_at_the_same_time_are_different_addresses() {
        let (one, other) = (LoopbackLease::take().unwrap(), LoopbackLease::take().unwrap());
        assert_ne!(one.address(), other.address());
        assert!(one.address().is_loopback() && other.address().is_loopback());
    }
}
