//! LinkedIn: the product *Sign In with LinkedIn using OpenID Connect*.
//!
//! What always holds: what LinkedIn leaves out is left out here for LinkedIn alone. Its ID tokens have no nonce, and its
//! token endpoint takes no PKCE of a web application, so a code is bound to the browser by `state` and to us by our secret.

use std::sync::Arc;

use async_trait::async_trait;
use claviger_api::connector::linkedin::LinkedinUpstream;
use claviger_api::connector::oidc::{OidcClientAuthentication, OidcUpstream};
use claviger_domain::connector::Authenticated;

use crate::http::Http;
use crate::oauth2::{self, ApiError};
use crate::oidc::tokens::Received;
use crate::oidc::vendor::{Omissions, Vendor, settings};
use crate::oidc::{Dialect, Provider};
use crate::{BuildError, Resolved, SecretRef};

/// As its tokens say it.
const ISSUER: &str = "https://www.linkedin.com/oauth";

/// What is LinkedIn's own.
#[derive(Debug)]
struct Linkedin;

/// Which keys of which Secrets the connector needs.
pub fn secret_refs(spec: &LinkedinUpstream) -> Vec<SecretRef> {
    oauth2::secret_refs(Some(&spec.client_secret_ref), &spec.tls)
}

/// Contacts nobody. `name` is for logs.
///
/// # Errors
/// [`BuildError`] names the field and the fix.
pub fn provider(
    name: &str,
    spec: &LinkedinUpstream,
    resolved: &Resolved,
) -> Result<Provider, BuildError> {
    // It gives refresh tokens to some partners, without being asked.
    let oidc = OidcUpstream {
        client_authentication: Some(OidcClientAuthentication::ClientSecretPost),
        ..settings(ISSUER, &spec.client_id, Some(&spec.client_secret_ref), &spec.tls)
    };
    let dialect = Dialect {
        field: "linkedin",
        vendor: Some(Arc::new(Linkedin)),
        stated_issuer: None,
        authentication: None,
    };
    Provider::speaking(name, &oidc, resolved, dialect)
}

#[async_trait]
impl Vendor for Linkedin {
    fn omits(&self) -> Omissions {
        Omissions { nonce: true, pkce: true }
    }

    async fn complete(
        &self,
        _http: &Http,
        _received: &Received,
        _user: &mut Authenticated,
    ) -> Result<(), ApiError> {
        Ok(())
    }
}
