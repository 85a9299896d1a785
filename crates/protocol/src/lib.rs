//! OAuth 2.0 and OpenID Connect on the wire: parse or fail, no I/O, no clock.
//!
//! One file per message pair (`authorize`, `token`, `device`, `introspect`, `revoke`, `userinfo`, `discovery`) and per value type. What
//! always holds: a value of one of these types has passed its specification's checks; whatever a peer
//! sends is answered with the specification's error code and a description that names the fix; every
//! length has a limit.
#![deny(missing_docs)]

pub mod authorize;
pub mod claims;
pub mod claims_request;
pub mod client_auth;
pub mod device;
pub mod discovery;
pub mod error;
pub mod form;
pub mod introspect;
pub mod jwt_bearer;
pub mod logout;
pub mod logout_token;
pub mod pkce;
pub mod pushed_request;
pub mod redirect_uri;
pub mod registration;
pub mod request_object;
pub mod response_type;
pub mod revoke;
pub mod scope;
pub mod subject;
pub mod token;
pub mod token_exchange;
pub mod userinfo;
