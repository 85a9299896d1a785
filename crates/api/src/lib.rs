//! The custom resources of `claviger.dev/v1alpha1` and nothing else.
//!
//! ```text
//! OAuth2Client ──issuerRef──▶ OIDCIssuer ──signingKeys──▶ SigningKey
//!      │                          └──connectors──▶ Connector ──(local)── LocalUser
//!      └── secretRef / generatedSecret ──▶ Secret ◀── secretRef ── Connector, LocalUser
//! Session: written by Claviger alone, one per sign-in; DeviceAuthorization: one per device that waits
//! ```
//!
//! What always holds: users write `spec`, Claviger writes `status`; nothing is ever decided from
//! `status`; whatever is wrong in itself is refused by the schema with a message that names the
//! fix, whatever depends on other objects is reported in conditions. [`crds`] is the only source
//! of the definitions: `crdgen` writes them to `crds/`.
#![deny(missing_docs)]
#![expect(
    clippy::doc_markdown,
    reason = "`kubectl explain` prints these docs; backticks are noise there"
)]
#![expect(clippy::duplicated_attributes, reason = "every printer column has a type_")]

mod browser_sessions;
mod client_authentication;
mod client_condition;
mod client_credentials;
mod client_information;
mod client_logout;
mod client_policy;
pub mod condition;
mod config_map_ref;
pub mod connector;
mod crds;
mod custom_claim;
mod device_authorization;
mod dynamic_registration;
mod example_user;
mod grant;
mod jwt_bearer;
pub mod labels;
mod lifetimes;
mod local_user;
mod oauth2_client;
mod object_ref;
mod oidc_issuer;
mod password_grant;
mod response_type;
mod schema;
mod scope;
mod secret_ref;
mod session;
mod session_limits;
mod signing_key;
mod tenant_policy;
pub mod time;
mod trusted_issuer;

pub use browser_sessions::{BrowserSessions, SessionSharing};
pub use client_authentication::{
    ClientAuthentication, ClientAuthenticationMethod, GeneratedSecret, JsonWebKey, JsonWebKeyCurve,
    JsonWebKeySet, JsonWebKeyType, JsonWebKeyUse, ServiceAccountRef,
};
pub use client_condition::{ClientCondition, ConditionExample, ConditionVerdict};
pub use client_credentials::{ClientClaim, ClientCredentials};
pub use client_information::{ClientInformation, ClientRegistration};
pub use client_logout::{BackChannelLogout, FrontChannelLogout, LogoutTokenNames};
pub use client_policy::{
    ClientConsent, ClientIntrospection, Dpop, Pkce, PushedAuthorizationRequests,
};
pub use condition::{Condition, ConditionType, Conditioned, Reason};
pub use config_map_ref::ConfigMapKeyRef;
pub use connector::{Connector, ConnectorSpec, ConnectorStatus, Upstream};
pub use crds::crds;
pub use custom_claim::{ClaimExample, CustomClaim};
pub use device_authorization::{
    DeviceAuthorization, DeviceAuthorizationSpec, DeviceAuthorizationState, DeviceAuthorizations,
};
pub use dynamic_registration::DynamicRegistration;
pub use example_user::{ExampleClaim, ExampleUser};
pub use grant::Grant;
pub use jwt_bearer::JwtBearer;
pub use lifetimes::Lifetimes;
pub use local_user::{
    Address, LocalUser, LocalUserSpec, LocalUserState, LocalUserStatus, PasswordHash, Profile,
};
pub use oauth2_client::{
    ClientType, IssuerRef, OAuth2Client, OAuth2ClientSpec, OAuth2ClientStatus,
};
pub use object_ref::LocalObjectRef;
pub use oidc_issuer::{
    AllowedClients, Branding, ClientNamespaces, Cors, InsecureHttp, IssuerConsent, IssuerTls,
    NamespacesFrom, OIDCIssuer, OIDCIssuerSpec, OIDCIssuerStatus, Subject,
};
pub use password_grant::PasswordGrant;
pub use response_type::ResponseType;
pub use scope::Scope;
pub use secret_ref::SecretKeyRef;
pub use session::{Session, SessionSpec, SessionState, SessionType};
pub use session_limits::SessionLimits;
pub use signing_key::{
    KeyState, PublishedKey, SigningAlgorithm, SigningKey, SigningKeySpec, SigningKeyStatus,
};
pub use tenant_policy::{TenantConditions, TenantConsent, TenantPolicy};
pub use trusted_issuer::{ClaimRule, GroupsFrom, TrustedIssuer};

/// API group of every kind here.
pub const GROUP: &str = "claviger.dev";
/// The one version.
pub const VERSION: &str = "v1alpha1";
