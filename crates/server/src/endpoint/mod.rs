//! One file per endpoint: parse, ask the domain, render.

pub mod account;
pub mod approval;
pub mod asset;
pub mod authorize;
pub mod callback;
pub mod choose;
pub mod device;
pub mod device_code;
pub mod discovery;
pub mod home;
pub mod introspect;
pub mod keys;
pub mod login;
pub mod logout;
pub mod par;
pub mod register;
pub mod revoke;
pub mod single_logout;
mod step;
pub mod token;
pub mod upstream_logout;
pub mod userinfo;

use std::sync::Arc;

use axum::Extension;
use claviger_domain::issuer::Issuer;

/// The issuer that `app` put into the request.
pub type AtIssuer = Extension<Arc<Issuer>>;
