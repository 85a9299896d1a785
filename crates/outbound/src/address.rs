//! Which addresses may be spoken to at a stranger's wish (server-side request forgery).
//!
//! What always holds: an address is admitted only if it is a public one, or in a network the operator
//! named; an `IPv6` address that carries an `IPv4` address is judged by both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// `IPv4` networks that are not the public Internet (IANA's special-purpose registry).
const PRIVATE_V4: [&str; 16] = [
    "0.0.0.0/8",        // this network
    "10.0.0.0/8",       // private
    "100.64.0.0/10",    // carrier-grade NAT, and some clouds' metadata
    "127.0.0.0/8",      // loopback
    "169.254.0.0/16",   // link-local: cloud metadata
    "172.16.0.0/12",    // private
    "192.0.0.0/24",     // protocol assignments, and some clouds' metadata
    "192.0.2.0/24",     // documentation
    "192.88.99.0/24",   // 6to4 relays
    "192.168.0.0/16",   // private
    "198.18.0.0/15",    // benchmarks
    "198.51.100.0/24",  // documentation
    "203.0.113.0/24",   // documentation
    "168.63.129.16/32", // a cloud's metadata at a public address
    "224.0.0.0/4",      // multicast
    "240.0.0.0/4",      // reserved, broadcast
];
/// The `IPv6` network that is the public Internet …
const PUBLIC_V6: &str = "2000::/3";
/// … and what in it is not.
const PRIVATE_V6: [&str; 4] = [
    "2001::/23",     // protocol assignments: Teredo, ORCHID, benchmarks
    "2001:db8::/32", // documentation
    "2002::/16",     // 6to4: carries an IPv4 address
    "3fff::/20",     // documentation
];

/// Which addresses may be spoken to.
#[derive(Debug, Clone)]
pub struct AddressPolicy {
    allowed: Vec<IpNet>,
    private: Vec<IpNet>,
    public_v6: Vec<IpNet>,
}

impl AddressPolicy {
    /// Public addresses, and these networks.
    pub fn new(allowed: &[IpNet]) -> Self {
        let networks =
            |texts: &[&str]| texts.iter().filter_map(|text| text.parse().ok()).collect::<Vec<_>>();
        Self {
            allowed: allowed.to_vec(),
            private: [networks(&PRIVATE_V4), networks(&PRIVATE_V6)].concat(),
            public_v6: networks(&[PUBLIC_V6]),
        }
    }

    /// Whether this address may be spoken to.
    pub fn admits(&self, address: IpAddr) -> bool {
        if self.allowed.iter().any(|network| network.contains(&address)) {
            return true;
        }
        match address {
            IpAddr::V4(address) => self.is_public_v4(address),
            IpAddr::V6(address) => match embedded(address) {
                Some(inside) => self.admits(IpAddr::V4(inside)),
                None => self.is_public_v6(address),
            },
        }
    }

    fn is_public_v4(&self, address: Ipv4Addr) -> bool {
        !self.private.iter().any(|network| network.contains(&IpAddr::V4(address)))
    }

    fn is_public_v6(&self, address: Ipv6Addr) -> bool {
        let address = IpAddr::V6(address);
        self.public_v6.iter().any(|network| network.contains(&address))
            && !self.private.iter().any(|network| network.contains(&address))
    }
}

/// The `IPv4` address in an `IPv6` one that reaches it: mapped (`::ffff:0:0/96`) or by NAT64
/// (`64:ff9b::/96`).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let nat64 = matches!(address.segments(), [0x64, 0xff9b, 0, 0, 0, 0, _, _]);
    let [.., a, b, c, d] = address.octets();
    address.to_ipv4_mapped().or_else(|| nat64.then(|| Ipv4Addr::new(a, b, c, d)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_network_is_one() {
        let policy = AddressPolicy::new(&[]);
        assert_eq!(policy.private.len(), PRIVATE_V4.len() + PRIVATE_V6.len());
        assert_eq!(policy.public_v6.len(), 1);
    }

    #[test]
    fn this_machine_this_network_and_this_cloud_are_refused_and_the_internet_is_not() {
        let policy = AddressPolicy::new(&[]);
        for refused in [
            "127.0.0.1",
            "127.1.2.3",
            "0.0.0.0",
            "10.96.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "ff02::1",
            "fec0::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2001:0:1::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
        ] {
            assert!(!policy.admits(refused.parse().unwrap()), "{refused}");
        }
        for admitted in [
            "1.1.1.1",
            "8.8.8.8",
            "172.32.0.1",
            "172.15.255.255",
            "9.255.255.255",
            "11.0.0.0",
            "168.63.129.17",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert!(policy.admits(admitted.parse().unwrap()), "{admitted}");
        }
    }

    #[test]
    fn a_network_the_operator_names_is_admitted_and_nothing_beside_it() {
        let policy = AddressPolicy::new(&["10.96.0.0/16".parse().unwrap()]);
        assert!(policy.admits("10.96.3.4".parse().unwrap()));
        assert!(policy.admits("::ffff:10.96.3.4".parse().unwrap()));
        assert!(!policy.admits("10.97.0.1".parse().unwrap()));
        assert!(!policy.admits("127.0.0.1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn an_address_is_the_same_however_it_is_written(bits in any::<u32>()) {
            let policy = AddressPolicy::new(&[]);
            let plain = Ipv4Addr::from(bits);
            let mapped = plain.to_ipv6_mapped();
            prop_assert_eq!(policy.admits(plain.into()), policy.admits(mapped.into()));
        }
    }
}
