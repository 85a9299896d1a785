//! What devices and their users may try: by the address a request comes from, and by the user.
//!
//! Each replica counts for itself. An address is that of the connection: behind a proxy that does not pass the
//! connection on, all its clients share one, so what one address may is enough for many users. That it fills no
//! client's room is for the devices that wait themselves to say, whatever the replica (`domain::device::DevicePolicy`).

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::throttle::Throttle;

/// Device codes that one address may ask for at once, and how often after that: of one replica, no more than
/// 23 in the ten minutes that a code lives at most, so that several replicas give one address less than half of
/// the room that a client has where nobody said otherwise.
const CODES: (u32, Duration) = (8, Duration::from_secs(40));
/// Wrong codes that one user may type in a row, and how often after that: with a thousand devices waiting a
/// guess is right once in 25 million.
const BY_USER: (u32, Duration) = (5, Duration::from_secs(30));
/// The same of all users of one address.
const BY_ADDRESS: (u32, Duration) = (50, Duration::from_secs(3));

/// Counts.
#[derive(Debug)]
pub struct DeviceThrottles {
    /// Requests for codes, by address.
    pub codes: Throttle,
    /// Wrong codes, by user.
    pub by_user: Throttle,
    /// Wrong codes, by address.
    pub by_address: Throttle,
}

impl Default for DeviceThrottles {
    fn default() -> Self {
        let throttle = |(burst, period)| Throttle::new(burst, period);
        Self {
            codes: throttle(CODES),
            by_user: throttle(BY_USER),
            by_address: throttle(BY_ADDRESS),
        }
    }
}

/// What counts as one address: of `IPv6` the network, for whoever has one has all addresses in it.
pub fn source(issuer_uid: &str, address: Option<IpAddr>) -> String {
    let source = match address.map(|address| address.to_canonical()) {
        None => "unknown".to_owned(),
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    };
    format!("{issuer_uid}/{source}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_source_and_an_address_of_ipv4_is_one_however_it_is_written() {
        let of = |text: &str| source("issuer", Some(text.parse().unwrap()));
        assert_eq!(of("2001:db8::1"), of("2001:db8:0:0:ffff::2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_ne!(source("other", None), source("issuer", None));
    }

    #[test]
    fn an_address_cannot_fill_the_room_of_a_client() {
        let (burst, period) = CODES;
        let (longest_lifetime, replicas, per_client) = (600, 2, 200);
        let waiting = replicas * (u64::from(burst) + longest_lifetime / period.as_secs());
        assert!(waiting < per_client / 4, "{waiting} of one address wait at once");
    }
}
