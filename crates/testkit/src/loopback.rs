//! Loopback addresses, leased like ports: for servers whose ports nobody can choose.
//!
//! All of 127.0.0.0/8 is this machine. A lease is a locked file
//! `${XDG_RUNTIME_DIR:-/tmp}/claviger-addresses-<uid>/<address>.lock`; see [`PortLease`](crate::PortLease) for why.

use std::fs::File;
use std::net::Ipv4Addr;

use anyhow::{Result, bail};

use crate::lease;

/// What is leased.
const KIND: &str = "addresses";

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
        let folder = lease::folder(KIND)?;
        for address in NETWORKS.flat_map(|net| (1..255).map(move |host| [127, 66, net, host])) {
            let address = Ipv4Addr::from(address);
            if let Some(lock) = lease::try_take(&folder, &address.to_string())? {
                return Ok(Self { address, _lock: lock });
            }
        }
        bail!("no address is free in 127.66.0.0/22")
    }

    /// The address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }
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
