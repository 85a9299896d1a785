//! Ports on loopback, leased by `flock` so that tests of several processes never meet on one.
//!
//! A lease is a locked file `${XDG_RUNTIME_DIR:-/tmp}/claviger-ports-<uid>/<port>.lock`. The kernel drops the
//! lock when the lease or its process ends, so there is nothing to clean up, and the files stay. A port is
//! never "reserved" by binding and closing it: between the two anybody could take it. Ports are below
//! Linux's range for outgoing connections (32768 and up).

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

use anyhow::{Context, Result, bail};

use crate::lease;

/// What is leased.
const KIND: &str = "ports";

const PORTS: RangeInclusive<u16> = 20_000..=29_999;

/// A TCP port on 127.0.0.1 that is ours until the lease is dropped, whether anybody listens on it or not.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    _lock: File,
}

impl PortLease {
    /// Leases a port that nobody has leased and nobody listens on.
    ///
    /// # Errors
    /// The folder of the locks cannot be written, or all 10,000 ports are taken.
    pub fn take() -> Result<Self> {
        let folder = lease::folder(KIND)?;
        let first = first_candidate()?;
        for port in (first..=*PORTS.end()).chain(*PORTS.start()..first) {
            if let Some(lock) = lease::try_take(&folder, &port.to_string())?
                && is_free(port)
            {
                return Ok(Self { port, _lock: lock });
            }
        }
        bail!("no port is free in {PORTS:?}")
    }

    /// The port's number, 20000 to 29999.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Spreads those who look at the same time; what keeps them apart is the lock.
fn first_candidate() -> Result<u16> {
    let mut random = [0; 2];
    aws_lc_rs::rand::fill(&mut random).context("failed to get random bytes")?;
    let count = PORTS.end() - PORTS.start() + 1;
    Ok(PORTS.start() + u16::from_ne_bytes(random) % count)
}

/// Somebody who knows nothing of leases may listen there.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::TryLockError;

    use super::*;
    use std::collections::HashSet;

    #[test]
    fn leases_held_at_the_same_time_are_different_ports() {
        let leases: Vec<_> = (0..50).map(|_| PortLease::take().unwrap()).collect();
        let ports: HashSet<_> = leases.iter().map(PortLease::port).collect();
        assert_eq!(ports.len(), 50);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }

    #[test]
    fn a_leased_port_is_locked_while_the_lease_lives_though_nobody_listens() {
        let lease = PortLease::take().unwrap();
        let path = lease::folder(KIND).unwrap().join(format!("{}.lock", lease.port()));
        let other = File::open(path).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(lease);
        other.try_lock().unwrap();
    }

    #[test]
    fn a_port_somebody_listens_on_is_not_free() {
        let lease = PortLease::take().unwrap();
        assert!(is_free(lease.port()));
        let _listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, lease.port())).unwrap();
        assert!(!is_free(lease.port()));
    }
}
