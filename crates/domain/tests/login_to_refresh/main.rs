//! The whole way from an authorization request to refreshed tokens, on in-memory ports: every promise
//! of DESIGN 5 about what is stored when, and what each replay costs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access_token;
mod authorization_code;
mod back_channel_logout;
mod client_authentication;
mod condition;
mod custom_claims;
mod device;
mod dpop;
mod login;
mod logout;
mod offline;
mod redirect;
mod refresh_token;
mod registration;
mod request_source;
mod requested_claims;
mod response_types;
mod rig;
mod single_logout;
mod single_sign_on;
mod upstream_logout;
