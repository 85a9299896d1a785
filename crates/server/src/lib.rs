//! The OpenID Connect endpoints and pages.
//!
//! ```text
//! accept (TLS, limits) → app: host and path choose the issuer → endpoint::<name> → domain → page or JSON
//! accept (client certificate demanded) → app: the same → endpoint::callback alone → domain → page
//! ```
//! What always holds: one read of the Snapshot per request; nothing here decides, it parses, asks the
//! domain and renders; every page works without scripts; every answer that carries a secret is
//! `no-store`; nothing a client sends can make it panic or wait for ever; what a proxy says of a user
//! is read on the listener for proxies and nowhere else.

pub mod accept;
pub mod app;
mod client_certificate;
mod cookies;
mod cors;
mod device_throttles;
mod endpoint;
mod metrics;
mod page;
mod throttle;
pub mod tls;

pub use accept::{Limits, serve, serve_proxies};
pub use app::App;
pub use metrics::Metrics;
