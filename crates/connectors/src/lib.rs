//! The upstream identity providers: one module each, all behind the traits of
//! `claviger_domain::connector`.
//!
//! [`build`] is the only place that knows which upstreams there are. The controller reads the
//! Secrets that [`secret_refs`] names, builds, and keeps what it got until the connector's uid,
//! generation or Secrets change: connection pools live in it.

mod account_api;
pub mod active_directory;
pub mod atlassian_crowd;
pub mod auth_proxy;
pub mod bitbucket_cloud;
pub mod certificates;
pub mod gitea;
pub mod github;
pub mod gitlab;
pub mod google;
pub mod guard;
mod http;
mod kept;
pub mod keystone;
pub mod ldap;
pub mod linkedin;
pub mod local;
pub mod microsoft;
pub mod oauth2;
pub mod oidc;
pub mod openshift;
pub mod password_hash;
mod resolved;
#[cfg(feature = "saml")]
pub mod saml;
pub mod tls;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use claviger_api::connector as api;
use claviger_api::{ConfigMapKeyRef, ConnectorSpec, Reason, SecretKeyRef};
use claviger_domain::connector::{Login, PasswordLogin, Recheck, Refresh, SignOut};
use claviger_domain::trip::RedirectLogin;
use thiserror::Error;

use crate::certificates::Certificates;

pub use local::LocalUser;
pub use password_hash::{MAX_PASSWORD_BYTES, PasswordHashError, hash_password, validate_hash};
pub use resolved::{Purpose, Resolved, SecretRef};

/// A connector, ready for service.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// How users sign in.
    pub login: Login,
    /// How they are checked again.
    pub refresh: Refresh,
    /// How they sign out there.
    pub sign_out: Option<Arc<dyn SignOut>>,
    /// What `Ready` is said by; `None` where nothing can be out of reach.
    pub probe: Option<Arc<dyn Probe>>,
    /// What its servers have shown.
    pub certificates: Certificates,
}

/// Asks an upstream whether it would serve a login now.
#[async_trait]
pub trait Probe: Send + Sync + fmt::Debug {
    /// Does what a login does, short of a user: a new connection, the service account's bind, a
    /// read of each search base.
    ///
    /// # Errors
    /// [`ProbeError`] holds the wire error and the fix in words.
    async fn probe(&self) -> Result<(), ProbeError>;
}

/// Why an upstream would not serve a login now.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ProbeError {
    /// The word for the `Ready` condition: one of [`claviger_api::Reason`].
    pub reason: &'static str,
    /// For people; holds no secret.
    pub message: String,
}

/// Why a connector cannot be built from what the administrator wrote.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BuildError {
    /// A Secret or key that is not there.
    #[error(
        "secret {name:?} has no key {key:?} for {purpose}: create it, labelled claviger.dev/secret=connector"
    )]
    SecretMissing {
        /// The Secret.
        name: String,
        /// The key.
        key: String,
        /// What for.
        purpose: Purpose,
    },
    /// A `ConfigMap` or key that is not there.
    #[error(
        "config map {name:?} has no key {key:?} for the CA certificates: create it, labelled claviger.dev/config-map=connector"
    )]
    ConfigMapMissing {
        /// The `ConfigMap`.
        name: String,
        /// The key.
        key: String,
    },
    /// A Secret that holds something else.
    #[error("key {key:?} of secret {name:?} is not usable as {purpose}: {cause}")]
    SecretUnusable {
        /// The Secret.
        name: String,
        /// The key.
        key: String,
        /// What for.
        purpose: Purpose,
        /// Why not.
        cause: String,
    },
    /// A server's URL.
    #[error("urls: {0}")]
    Url(String),
    /// A search base.
    #[error(
        "{field}.baseDN {value:?} is not a distinguished name, such as ou=people,dc=example,dc=com"
    )]
    BaseDn {
        /// Which search.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// A filter or attribute name.
    #[error("{field}: {cause}")]
    Filter {
        /// Which field.
        field: &'static str,
        /// Why not.
        cause: ldap::FilterError,
    },
    /// An attribute that is nothing to tell clients.
    #[error(
        "userSearch.claimAttributes: {claim}: {attribute} holds {what}, and no text to tell clients: name another attribute"
    )]
    ClaimAttribute {
        /// What it was to become.
        claim: &'static str,
        /// Its name.
        attribute: String,
        /// What it holds.
        what: &'static str,
    },
    /// Nothing to compare a user name with.
    #[error("userSearch.usernameAttributes: name at least one attribute, such as uid")]
    NoUsernameAttribute,
    /// CA, client certificate or key.
    #[error("tls: {0}")]
    Tls(#[from] tls::TlsError),
    /// The trusted proxy's certificates, names, networks or headers.
    #[error("upstream.authProxy: {0}")]
    AuthProxy(#[from] auth_proxy::AuthProxyError),
    /// The OpenID provider.
    #[error("upstream.{0}")]
    Oidc(String),
    /// The identity provider of SAML.
    #[error("upstream.saml: {0}")]
    Saml(String),
    /// An upstream that this build has not.
    #[error(
        "this build of Claviger has no upstream.{0}: use one that was built with the feature {0}"
    )]
    LeftOut(&'static str),
    /// The proxy on the way to the upstream.
    #[error("proxyURL: {0}")]
    Proxy(String),
    /// A vendor that speaks OAuth 2.0.
    #[error("upstream.{0}")]
    OAuth2(String),
    /// The table of local users.
    #[error("local users: {0}")]
    LocalUsers(#[from] PasswordHashError),
}

impl BuildError {
    /// The word for conditions, metrics and logs.
    pub fn reason(&self) -> Reason {
        match self {
            Self::SecretMissing { .. } => Reason::SecretKeyNotFound,
            Self::ConfigMapMissing { .. } => Reason::ConfigMapKeyNotFound,
            Self::SecretUnusable { .. } => Reason::SecretInvalid,
            Self::Url(_)
            | Self::BaseDn { .. }
            | Self::Filter { .. }
            | Self::ClaimAttribute { .. }
            | Self::NoUsernameAttribute
            | Self::Tls(_)
            | Self::AuthProxy(_)
            | Self::Oidc(_)
            | Self::Saml(_)
            | Self::LeftOut(_)
            | Self::Proxy(_)
            | Self::OAuth2(_)
            | Self::LocalUsers(_) => Reason::InvalidSpec,
        }
    }

    fn unusable(secret: &SecretKeyRef, purpose: Purpose, cause: &impl ToString) -> Self {
        let (name, key) = (secret.name.clone(), secret.key.clone());
        Self::SecretUnusable { name, key, purpose, cause: cause.to_string() }
    }
}

/// Which Secrets [`build`] needs for this connector, in its own namespace.
pub fn secret_refs(spec: &ConnectorSpec) -> Vec<SecretRef> {
    match &spec.upstream {
        api::Upstream::Local(_) => Vec::new(),
        api::Upstream::Ldap(upstream) => ldap::secret_refs(upstream),
        api::Upstream::ActiveDirectory(upstream) => active_directory::secret_refs(upstream),
        api::Upstream::AuthProxy(upstream) => auth_proxy::secret_refs(upstream),
        api::Upstream::Oidc(upstream) => oidc::secret_refs(upstream),
        #[cfg(feature = "saml")]
        api::Upstream::Saml(upstream) => saml::secret_refs(upstream),
        #[cfg(not(feature = "saml"))]
        api::Upstream::Saml(_) => Vec::new(),
        api::Upstream::Google(upstream) => google::secret_refs(upstream),
        api::Upstream::Linkedin(upstream) => linkedin::secret_refs(upstream),
        api::Upstream::Microsoft(upstream) => microsoft::secret_refs(upstream),
        api::Upstream::Github(upstream) => github::secret_refs(upstream),
        api::Upstream::Gitlab(upstream) => gitlab::secret_refs(upstream),
        api::Upstream::Gitea(upstream) => gitea::secret_refs(upstream),
        api::Upstream::BitbucketCloud(upstream) => bitbucket_cloud::secret_refs(upstream),
        api::Upstream::OAuth2(upstream) => oauth2::generic::secret_refs(upstream),
        api::Upstream::Openshift(upstream) => openshift::secret_refs(upstream),
        api::Upstream::Keystone(upstream) => keystone::secret_refs(upstream),
        api::Upstream::AtlassianCrowd(upstream) => atlassian_crowd::secret_refs(upstream),
    }
}

/// Which `ConfigMap` [`build`] needs for this connector, in its own namespace: its certificate authorities.
pub fn config_map_ref(spec: &ConnectorSpec) -> Option<&ConfigMapKeyRef> {
    let tls = match &spec.upstream {
        api::Upstream::Local(_) | api::Upstream::AuthProxy(_) => return None,
        api::Upstream::Ldap(upstream) => return upstream.tls.ca_config_map_ref.as_ref(),
        api::Upstream::ActiveDirectory(upstream) => {
            return upstream.tls.ca_config_map_ref.as_ref();
        }
        api::Upstream::Oidc(upstream) => &upstream.tls,
        api::Upstream::Saml(upstream) => &upstream.tls,
        api::Upstream::Google(upstream) => &upstream.tls,
        api::Upstream::Linkedin(upstream) => &upstream.tls,
        api::Upstream::Microsoft(upstream) => &upstream.tls,
        api::Upstream::Github(upstream) => &upstream.tls,
        api::Upstream::Gitlab(upstream) => &upstream.tls,
        api::Upstream::Gitea(upstream) => &upstream.tls,
        api::Upstream::BitbucketCloud(upstream) => &upstream.tls,
        api::Upstream::OAuth2(upstream) => &upstream.tls,
        api::Upstream::Keystone(upstream) => &upstream.tls,
        api::Upstream::Openshift(upstream) => &upstream.tls,
        api::Upstream::AtlassianCrowd(upstream) => &upstream.tls,
    };
    tls.ca_config_map_ref.as_ref()
}

/// Makes a connector of what the administrator wrote. `name` is for logs. Contacts nobody.
///
/// # Errors
/// [`BuildError`] names the field and the fix.
pub fn build(
    name: &str,
    spec: &ConnectorSpec,
    resolved: &Resolved,
) -> Result<Upstream, BuildError> {
    let certificates = resolved.certificates.clone();
    Ok(Upstream { certificates, ..of_kind(name, spec, resolved)? })
}

fn of_kind(name: &str, spec: &ConnectorSpec, resolved: &Resolved) -> Result<Upstream, BuildError> {
    match &spec.upstream {
        api::Upstream::Local(upstream) => {
            let label = upstream.username_prompt.as_deref();
            let users = Arc::new(
                local::Local::new(label, &resolved.local_users)?
                    .with_suspended(resolved.suspended_users.clone()),
            );
            Ok(bare(Login::Password(Arc::clone(&users) as _), Refresh::Memory(users)))
        }
        api::Upstream::Ldap(upstream) => {
            Ok(directory(ldap::Directory::new(name, upstream, resolved)?, spec))
        }
        api::Upstream::ActiveDirectory(upstream) => {
            Ok(directory(active_directory::ActiveDirectory::new(name, upstream, resolved)?, spec))
        }
        api::Upstream::Oidc(upstream) => {
            let provider = oidc::Provider::new(name, upstream, resolved)?;
            let provider = Arc::new(provider.for_mapping(spec.claim_mapping.is_some()));
            let sign_out = provider.signs_out().then(|| Arc::clone(&provider) as Arc<dyn SignOut>);
            Ok(Upstream { sign_out, ..pages_of(&provider, spec) })
        }
        api::Upstream::Google(upstream) => {
            Ok(with_pages(google::provider(name, upstream, resolved)?, spec))
        }
        api::Upstream::Linkedin(upstream) => {
            Ok(with_pages(linkedin::provider(name, upstream, resolved)?, spec))
        }
        api::Upstream::Microsoft(upstream) => {
            Ok(with_pages(microsoft::provider(name, upstream, resolved)?, spec))
        }
        #[cfg(feature = "saml")]
        api::Upstream::Saml(upstream) => {
            let provider = Arc::new(saml::ServiceProvider::new(name, upstream, resolved)?);
            let login = Login::Redirect(Arc::clone(&provider) as _);
            let sign_out = provider.signs_out().then(|| Arc::clone(&provider) as Arc<dyn SignOut>);
            let probe = provider.is_probed().then_some(provider as _);
            let refresh = offline(spec.offline_session_seconds);
            Ok(Upstream { sign_out, probe, ..bare(login, refresh) })
        }
        #[cfg(not(feature = "saml"))]
        api::Upstream::Saml(_) => Err(BuildError::LeftOut("saml")),
        api::Upstream::Github(upstream) => vendor(github::service(name, upstream, resolved), spec),
        api::Upstream::Gitlab(upstream) => vendor(gitlab::service(name, upstream, resolved), spec),
        api::Upstream::Gitea(upstream) => vendor(gitea::service(name, upstream, resolved), spec),
        api::Upstream::BitbucketCloud(upstream) => {
            vendor(bitbucket_cloud::service(name, upstream, resolved), spec)
        }
        api::Upstream::OAuth2(upstream) => {
            vendor(oauth2::generic::service(name, upstream, resolved), spec)
        }
        api::Upstream::Openshift(upstream) => {
            vendor(openshift::service(name, upstream, resolved), spec)
        }
        api::Upstream::AtlassianCrowd(upstream) => {
            Ok(directory(atlassian_crowd::AtlassianCrowd::new(upstream, resolved)?, spec))
        }
        api::Upstream::Keystone(upstream) => {
            Ok(directory(keystone::Keystone::new(upstream, resolved)?, spec))
        }
        api::Upstream::AuthProxy(proxy) => {
            // The schema says so too; an older one would not.
            if spec.allowed_groups.is_empty() {
                return Err(auth_proxy::AuthProxyError::NoAllowedGroups.into());
            }
            let sign_out = proxy.sign_out.as_ref().map(auth_proxy::ProxySignOut::new);
            let sign_out = sign_out.transpose()?.map(|made| Arc::new(made) as Arc<dyn SignOut>);
            let login = Login::Proxy(Arc::new(auth_proxy::AuthProxy::new(proxy, resolved)?));
            let refresh = offline(spec.offline_session_seconds);
            Ok(Upstream { sign_out, ..bare(login, refresh) })
        }
    }
}

/// An upstream with no more than this.
fn bare(login: Login, refresh: Refresh) -> Upstream {
    let certificates = Certificates::default();
    Upstream { login, refresh, sign_out: None, probe: None, certificates }
}

/// A directory that checks names and passwords, and is asked again.
fn directory<D>(directory: D, spec: &ConnectorSpec) -> Upstream
where
    D: PasswordLogin + Recheck + Probe + 'static,
{
    let directory = Arc::new(directory);
    let login = Login::Password(Arc::clone(&directory) as _);
    let refresh = asked_again(&directory, spec);
    Upstream { probe: Some(directory), ..bare(login, refresh) }
}

/// A vendor whose own pages sign users in, and whose API is asked about them.
fn vendor<V: oauth2::Vendor>(
    service: Result<oauth2::Service<V>, BuildError>,
    spec: &ConnectorSpec,
) -> Result<Upstream, BuildError> {
    Ok(with_pages(service?, spec))
}

/// An upstream with pages of its own, that is asked again.
fn with_pages<P: RedirectLogin + Recheck + Probe + 'static>(
    provider: P,
    spec: &ConnectorSpec,
) -> Upstream {
    pages_of(&Arc::new(provider), spec)
}

fn pages_of<P: RedirectLogin + Recheck + Probe + 'static>(
    provider: &Arc<P>,
    spec: &ConnectorSpec,
) -> Upstream {
    let login = Login::Redirect(Arc::clone(provider) as _);
    let probe = Some(Arc::clone(provider) as _);
    Upstream { probe, ..bare(login, asked_again(provider, spec)) }
}

/// How sessions go on whose upstream is asked again.
fn asked_again<R: Recheck + 'static>(recheck: &Arc<R>, spec: &ConnectorSpec) -> Refresh {
    let interval_seconds = i64::from(spec.recheck_interval_seconds);
    Refresh::Upstream { recheck: Arc::clone(recheck) as _, interval_seconds }
}

/// How sessions go on whose upstream cannot be asked again.
fn offline(seconds: i32) -> Refresh {
    if seconds == 0 {
        Refresh::Unsupported
    } else {
        Refresh::Offline { seconds: i64::from(seconds) }
    }
}
