//! For tests alone: a real control plane, real directories, identities and the audit log.
//!
//! ```text
//! with-control-plane -- CMD     one plane for a whole run (bin)
//!        │ environment
//!        ▼
//! ControlPlane::from_env()      a handle on it: clients, kubeconfigs, audit log, kubectl
//!        ▲ Deref
//! RunningControlPlane           a plane of one's own: stop, freeze and restart its parts
//! Slapd                         a real OpenLDAP server
//! Samba                         a real Active Directory
//! Scene ─ Replica ─ Proxy       the quickstart running, in several replicas, each with a bad way to the API server
//! PortLease, Supervised         ports and processes for whatever else a test starts
//! ```
//!
//! What always holds:
//! - A port is leased ([`PortLease`]) for as long as somebody may listen on it.
//! - A process we start ends with its handle, and with this process however that ends ([`process`]).
//! - Nothing is slept for: everything waits for a condition with a deadline ([`eventually`]). Time itself is let
//!   pass where it is the matter: a proxy that delays, a quiet while that is measured.
//! - Clients never retry by themselves, so one call is one line in the audit log.
//!
//! Errors are read by people alone, at the end of a failed test, so they are `anyhow::Error`.
//! Linux only: `setpriv` (util-linux) ties children to us.

pub mod apache;
pub mod audit;
pub mod bench;
pub mod browser;
pub mod chromium;
pub mod ci_issuer;
pub mod client_assertion;
pub mod control_plane;
pub mod crowd;
mod eventually;
pub mod gitea;
pub mod identity;
pub mod installation;
pub mod key_server;
pub mod keycloak;
pub mod keycloak_openid;
pub mod keystone;
mod lease;
pub mod load;
pub mod logout_receiver;
mod loopback;
pub mod minio;
pub mod openid_provider;
mod openid_vendors;
pub mod operator;
pub mod outside;
mod peer;
pub mod pki;
mod ports;
pub mod process;
pub mod proxy;
pub mod pysaml2;
pub mod recipe;
pub mod relying_party;
pub mod replica;
pub mod reverse_proxy;
pub mod samba;
pub mod scene;
pub mod slapd;
pub mod trusted_proxy;
pub mod tunnel;
pub mod upstream_provider;
pub mod vendor;
pub mod web_service;

pub use apache::Apache;
pub use audit::{AuditLog, AuditMark, AuditedRequest};
pub use browser::{Browser, Login};
pub use chromium::Chromium;
pub use ci_issuer::CiIssuer;
pub use control_plane::{
    AnotherApiServer, Authentication, ControlPlane, ControlPlaneBuilder, RunningControlPlane,
};
pub use eventually::eventually;
pub use identity::TestNamespace;
pub use installation::Installation;
pub use key_server::KeyServer;
pub use load::{Held, Load};
pub use logout_receiver::LogoutReceiver;
pub use loopback::LoopbackLease;
pub use minio::Minio;
pub use operator::{Operator, Serving};
pub use outside::{Library, Outsider, Saying};
pub use peer::Peer;
pub use pki::CertificateAuthority;
pub use ports::PortLease;
pub use process::Supervised;
pub use proxy::{Conduct, Fault, Proxy};
pub use recipe::run_recipe;
pub use relying_party::RelyingParty;
pub use replica::Replica;
pub use reverse_proxy::ReverseProxy;
pub use samba::Samba;
pub use scene::{Directory, Scene, Setup};
pub use slapd::Slapd;
pub use trusted_proxy::TrustedProxy;
pub use web_service::WebService;
