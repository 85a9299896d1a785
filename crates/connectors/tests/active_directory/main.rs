//! The Active Directory connector against a real domain controller (Samba): one file per promise, all through `build`.

#[cfg(test)]
mod account;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod groups;
#[cfg(test)]
mod login;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod recheck;
