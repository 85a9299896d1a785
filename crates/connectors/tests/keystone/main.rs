//! The connector to OpenStack's Identity service, against a real Keystone, with a front before it that notes what is asked and
//! lies where a test wants it to.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod account;
mod fixture;
mod lies;
mod login;
mod recheck;
