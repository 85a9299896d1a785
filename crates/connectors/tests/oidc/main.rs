//! The OIDC connector against a provider on loopback that lies where a test wants it to.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod client_key;
mod fixture;
mod lies;
mod login;
mod logout_notice;
mod outage;
mod presented;
mod recheck;
mod sign_out;
