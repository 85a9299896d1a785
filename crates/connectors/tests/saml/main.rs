//! The SAML connector against answers that a test signs itself, honest and hostile ones.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod build;
mod fixture;
mod hostile;
mod login;
mod logout_notice;
mod metadata;
mod notice;
mod requests;
mod signer;
mod single_logout;
