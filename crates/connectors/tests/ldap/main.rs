//! The LDAP connector against a real `slapd`: one file per promise, all through `build`.

#[cfg(test)]
mod active_directory;
#[cfg(test)]
mod claims;
#[cfg(test)]
mod domain_controller;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod front;
#[cfg(test)]
mod groups;
#[cfg(test)]
mod login;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod recheck;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod transport;
