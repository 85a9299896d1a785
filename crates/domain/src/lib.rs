//! What the provider decides, free of HTTP and Kubernetes.
//!
//! ```text
//! server::endpoint ─→ protocol (parse) ─→ domain ─→ ports::Sessions (one atomic call)
//!                                          ↑
//!                         Arc<Snapshot>, once per request
//! ```
//! What always holds:
//! - nothing is stored for anybody who has not authenticated;
//! - [`issue`] is the only place that mints a token;
//! - a stored session's authority is its sealed payload; its plain fields are for people and selectors;
//! - times are `i64` seconds since the Unix epoch, lifetimes are `i64` seconds.
#![deny(missing_docs)]

pub mod access_token;
mod admission;
mod answer;
pub mod authentication;
pub mod authorize;
pub mod back_channel_logout;
pub mod browser_session;
pub mod claim;
pub mod claim_mapping;
pub mod client;
pub mod client_assertion;
pub mod client_logout;
pub mod client_policy;
pub mod cluster_token;
pub mod code;
mod compact;
pub mod connector;
pub mod consent;
pub mod cookie;
pub mod custom_claim;
pub mod device;
pub mod device_authorization;
pub mod device_page;
pub mod device_polls;
pub mod discovery;
mod door;
pub mod dpop;
#[cfg(any(test, feature = "fakes"))]
pub mod fakes;
pub mod flow;
mod form_token;
pub mod front_channel_logout;
pub mod grants;
pub mod host;
mod id_token_hint;
pub mod identity;
pub mod introspection;
pub mod issue;
pub mod issuer;
pub mod key_cache;
pub mod keys;
mod live_session;
pub mod login;
pub mod logout;
pub mod logout_token;
pub mod no_verdict;
mod offline;
pub mod outage;
pub mod policy;
pub mod ports;
mod presented_token;
pub mod provider;
pub mod proxy;
pub mod refresh_token;
pub mod registration;
pub mod registry;
pub mod replay;
pub mod request_source;
pub mod resources;
pub mod revocation;
pub mod scopes;
pub mod session;
pub mod sign_out;
pub mod single_logout;
pub mod snapshot;
pub mod token;
mod token_id;
pub mod trip;
pub mod trusted_issuer;
pub mod upstream_logout;
mod upstream_sign_out;
pub mod upstream_ticket;
pub mod upstream_token;
pub mod userinfo;
pub mod workload;

pub use provider::Provider;
pub use snapshot::Snapshot;

/// Allowance wherever two clocks meet, in seconds.
pub const SKEW_SECONDS: i64 = 60;
