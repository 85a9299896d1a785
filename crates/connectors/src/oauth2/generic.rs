//! Any other vendor: one JSON object says who a token is about.
//!
//! What always holds: nothing is read from the token itself, which nobody has signed for us.

use async_trait::async_trait;
use claviger_api::connector::http::EmailVerification;
use claviger_api::connector::oauth2::{OAuth2AccessTokens, OAuth2Upstream};
use claviger_api::connector::oidc::{OidcClaims, OidcClientAuthentication, OidcEmailVerification};
use serde_json::{Map, Value};
use url::Url;

use super::{
    Api, ApiError, Authentication, Endpoints, Service, Settings, User, Vendor,
    secret_refs as shared_refs,
};
use crate::oidc::claims;
use crate::{BuildError, Resolved, SecretRef};

/// One vendor.
#[derive(Debug)]
pub struct Generic {
    spec: OAuth2Upstream,
    names: OidcClaims,
    userinfo: Url,
}

/// Which keys of which Secrets the connector needs.
pub fn secret_refs(spec: &OAuth2Upstream) -> Vec<SecretRef> {
    shared_refs(spec.client_secret_ref.as_ref(), &spec.tls)
}

/// Contacts nobody. `name` is for logs.
///
/// # Errors
/// [`BuildError`] names the field and the fix.
pub fn service(
    name: &str,
    spec: &OAuth2Upstream,
    resolved: &Resolved,
) -> Result<Service<Generic>, BuildError> {
    let authentication = match spec.client_authentication {
        Some(OidcClientAuthentication::ClientSecretPost) => Authentication::Form,
        _ => Authentication::Header,
    };
    let wants_secret =
        !matches!(spec.client_authentication, None | Some(OidcClientAuthentication::None));
    if wants_secret && spec.client_secret_ref.is_none() {
        let why = "oauth2: clientAuthentication needs clientSecretRef";
        return Err(BuildError::OAuth2(why.into()));
    }
    let settings = Settings {
        field: "oauth2",
        client_id: &spec.client_id,
        client_secret: spec.client_secret_ref.as_ref(),
        authentication,
        endpoints: Endpoints::Written {
            authorization: spec.authorization_url.clone(),
            token: spec.token_url.clone(),
        },
        tls: &spec.tls,
    };
    let userinfo = Url::parse(&spec.userinfo_url)
        .map_err(|error| BuildError::OAuth2(format!("oauth2: userinfoURL: {error}")))?;
    let names = OidcClaims {
        user_id: spec.claims.user_id.clone(),
        username: spec.claims.username.clone(),
        name: spec.claims.name.clone(),
        email: spec.claims.email.clone(),
        groups: spec.claims.groups.clone(),
    };
    Service::new(name, &settings, Generic { spec: spec.clone(), names, userinfo }, resolved)
}

#[async_trait]
impl Vendor for Generic {
    const NAME: &'static str = "the vendor";

    fn scopes(&self) -> Vec<String> {
        self.spec.scopes.clone()
    }

    /// Some grant scopes by longer names than those asked for.
    fn insists_on_scopes(&self) -> bool {
        false
    }

    fn api(&self) -> &Url {
        &self.userinfo
    }

    fn has_lasting_tokens(&self) -> bool {
        self.spec.access_tokens == OAuth2AccessTokens::Lasting
    }

    async fn user(&self, api: &Api<'_>) -> Result<User, ApiError> {
        let said: Map<String, Value> = api.object("").await?;
        let verification = OidcEmailVerification::Always; // judged below, by a name of the administrator's
        let mut identity =
            claims::identity(&said, &self.names, verification).map_err(ApiError::Unusable)?;
        identity.email_verified = identity.email.is_some()
            && (self.spec.email_verification == EmailVerification::Always
                || claims::find(&said, &self.spec.claims.email_verified)
                    .is_some_and(claims::is_true));
        Ok(User { identity, raw: said })
    }
}
