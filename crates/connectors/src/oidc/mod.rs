//! Any OpenID provider as upstream (OIDC Core 3.1, authorization code flow).
//!
//! ```text
//! mod (depart, arrive, re-check, probe) → metadata (configuration and keys) → http
//!   ├ client_authentication: how we show the token endpoint who we are; federated_token: by a token of the cluster's
//!   ├ tokens: the token endpoint, and whether an ID token is believed
//!   ├ vendor: what a vendor does otherwise, and what is asked of it beyond the standard
//!   ├ logout_notice: the provider's word that a user has signed out there
//!   ├ presented: ID tokens for others, brought to be exchanged
//!   ├ sign_out: where users sign out there
//!   └ claims: who it is about
//! ```
//! What always holds: the code is bound to our PKCE verifier and the ID token to our nonce, both of this flow and
//! connector; a token is believed for its signature by an asymmetric key of the provider, its issuer, audience and time;
//! an answer about the user is a verdict, and everything else, our own secret refused above all, is `Unavailable`.

pub(crate) mod claims;
pub(crate) mod client_authentication;
mod description;
pub(crate) mod federated_token;
mod logout_notice;
mod metadata;
mod presented;
mod sign_out;
mod signed;
pub(crate) mod tokens;
pub(crate) mod vendor;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use claviger_api::Reason;
use claviger_api::connector::oidc::{
    OidcOfflineAccess, OidcOfflinePrompt, OidcRefreshTokens, OidcSignOut, OidcUpstream,
};
use claviger_domain::connector::{Authenticated, ConnectorData, LoginError, Recheck, RecheckError};
use claviger_domain::identity::Identity;
use claviger_domain::no_verdict::NoVerdict;
use claviger_domain::trip::{Arrival, RedirectLogin, Trip};
use claviger_domain::upstream_logout::LogoutNotices;
use claviger_domain::upstream_token::UpstreamTokens;
use claviger_protocol::form::Params;
use claviger_protocol::response_type::Delivery;
use openidconnect::IssuerUrl;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::client_authentication::ClientAuthentication;
use self::metadata::Metadata;
use self::tokens::{Received, TokenFailure};
use self::vendor::{Omissions, Vendor};
use crate::http::Http;
use crate::oauth2::ApiError;
use crate::{BuildError, Probe, ProbeError, Purpose, Resolved, SecretRef};

/// Longest a vendor may take to say more of one user: with the token endpoint it stays below what a refresh waits for.
const ASK: Duration = Duration::from_secs(25);
/// Longest `sid` that is kept.
const MAX_SID: usize = 128;
const TOO_SLOW: &str = "the vendor did not say all of the user in time";

/// One provider.
pub struct Provider {
    name: String,
    spec: OidcUpstream,
    authentication: ClientAuthentication,
    metadata: Metadata,
    http: Http,
    vendor: Option<Arc<dyn Vendor>>,
    /// Whether a refreshed token may leave nothing out, since nobody knows what of it is looked at.
    wants_all: bool,
}

/// How a vendor speaks OpenID Connect.
pub(crate) struct Dialect {
    /// The variant's name in YAML.
    pub field: &'static str,
    /// What is the vendor's own.
    pub vendor: Option<Arc<dyn Vendor>>,
    /// What its configuration says its issuer is, where that may be another than where it is read.
    pub stated_issuer: Option<String>,
    /// How it is shown who we are, where that is not as OpenID providers are shown it.
    pub authentication: Option<ClientAuthentication>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Provider({:?})", self.name)
    }
}

/// What is kept to ask again about a user.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The provider's refresh token.
    #[serde(rename = "r")]
    refresh_token: String,
    /// `sub` there, whatever names the user here.
    #[serde(rename = "s")]
    subject: String,
    /// The session there.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
}

impl Kept {
    fn data(&self) -> Result<ConnectorData, String> {
        serde_json::to_vec(self).map(ConnectorData).map_err(|error| error.to_string())
    }
}

/// Which keys of which Secrets the connector needs.
pub fn secret_refs(spec: &OidcUpstream) -> Vec<SecretRef> {
    let authorities = spec.tls.ca_secret_ref.iter();
    let authorities = authorities.map(|at| SecretRef::new(at, Purpose::CertificateAuthority));
    client_authentication::secret_refs(spec).chain(authorities).collect()
}

impl Provider {
    /// Contacts nobody. `name` is for logs.
    ///
    /// # Errors
    /// [`BuildError`] names the field and the fix.
    pub fn new(name: &str, spec: &OidcUpstream, resolved: &Resolved) -> Result<Self, BuildError> {
        let dialect =
            Dialect { field: "oidc", vendor: None, stated_issuer: None, authentication: None };
        Self::speaking(name, spec, resolved, dialect)
    }

    /// The same, of a vendor.
    ///
    /// # Errors
    /// [`BuildError`] names the field and the fix.
    pub(crate) fn speaking(
        name: &str,
        spec: &OidcUpstream,
        resolved: &Resolved,
        dialect: Dialect,
    ) -> Result<Self, BuildError> {
        let field = dialect.field;
        let issuer = IssuerUrl::new(spec.issuer.clone())
            .map_err(|error| BuildError::Oidc(format!("{field}: issuer: {error}")))?;
        let authentication = match dialect.authentication {
            Some(authentication) => authentication,
            None => ClientAuthentication::of(field, spec, resolved)?,
        };
        Ok(Self {
            name: name.to_owned(),
            authentication,
            metadata: Metadata::of(issuer, dialect.stated_issuer, spec.endpoints.clone()),
            http: Http::trusting(&spec.tls, resolved)?,
            spec: spec.clone(),
            vendor: dialect.vendor,
            wants_all: false,
        })
    }

    /// Asks the userinfo endpoint at each refresh, where there is one: a claim mapping may look at whatever the sign-in said.
    #[must_use]
    pub fn for_mapping(mut self, is_mapped: bool) -> Self {
        self.wants_all = is_mapped;
        self
    }

    /// Whether users who sign out here sign out there too.
    pub fn signs_out(&self) -> bool {
        self.spec.sign_out == OidcSignOut::Provider
    }

    fn omits(&self) -> Omissions {
        self.vendor.as_ref().map(|vendor| vendor.omits()).unwrap_or_default()
    }

    /// The parameters of an authentication request (OIDC Core 3.1.2.1, RFC 7636 4.3).
    fn parameters(&self, trip: &Trip<'_>) -> Vec<(&'static str, String)> {
        let spec = &self.spec;
        let mut scopes = vec!["openid".to_owned()];
        scopes.extend(spec.scopes.iter().cloned());
        let mut parameters = Vec::new();
        let mut prompts = Vec::new();
        if trip.must_authenticate {
            prompts.push("login");
        }
        if trip.offline {
            match spec.offline_access {
                OidcOfflineAccess::Scope => scopes.push("offline_access".to_owned()),
                OidcOfflineAccess::AccessType => {
                    parameters.push(("access_type", "offline".to_owned()));
                }
                OidcOfflineAccess::None => {}
            }
            let asks = spec.offline_access != OidcOfflineAccess::None;
            if asks && spec.offline_prompt == OidcOfflinePrompt::Consent {
                prompts.push("consent");
            }
        }
        parameters.extend([
            ("response_type", "code".to_owned()),
            ("client_id", spec.client_id.clone()),
            ("redirect_uri", trip.callback.clone()),
            ("scope", scopes.join(" ")),
            ("state", trip.state.to_owned()),
        ]);
        if !self.omits().nonce {
            parameters.push(("nonce", trip.nonce()));
        }
        if !self.omits().pkce {
            parameters.push(("code_challenge", tokens::challenge(&trip.code_verifier())));
            parameters.push(("code_challenge_method", "S256".to_owned()));
        }
        parameters.extend(self.vendor.iter().flat_map(|vendor| vendor.parameters()));
        let optional = [
            ("prompt", Some(prompts.join(" "))),
            ("acr_values", Some(spec.acr_values.join(" "))),
            // Without it a provider need not say when its user signed in.
            (
                "max_age",
                trip.max_age.or(trip.must_authenticate.then_some(0)).map(|s| s.to_string()),
            ),
            ("login_hint", trip.login_hint.map(str::to_owned)),
        ];
        for (name, value) in optional {
            parameters.extend(value.filter(|value| !value.is_empty()).map(|value| (name, value)));
        }
        parameters
    }

    /// Who the tokens are about, and what to keep of them.
    async fn authenticated(
        &self,
        received: &Received,
        known_sid: Option<String>,
    ) -> Result<Authenticated, ApiError> {
        let spec = &self.spec;
        let identity = claims::identity(&received.claims, &spec.claims, spec.email_verification);
        let identity = identity.map_err(ApiError::Unusable)?;
        let kept = received.refresh_token.clone();
        let sid = received.claims.get("sid").and_then(Value::as_str).map(str::to_owned);
        let sid = sid.filter(|sid| sid.len() <= MAX_SID).or(known_sid);
        let subject = received.subject.clone();
        let kept = kept.map(|refresh_token| Kept { refresh_token, subject, sid });
        let data = kept.as_ref().map(Kept::data).transpose().map_err(ApiError::Unusable)?;
        let mut user = Authenticated { identity, raw: received.claims.clone(), data };
        if let Some(vendor) = &self.vendor {
            let completing = vendor.complete(&self.http, received, &mut user);
            let completed = tokio::time::timeout(ASK, completing).await;
            completed.unwrap_or_else(|_| Err(ApiError::Unavailable(TOO_SLOW.into())))?;
        }
        Ok(user)
    }
}

#[async_trait]
impl RedirectLogin for Provider {
    async fn depart(&self, trip: &Trip<'_>) -> Result<Delivery, LoginError> {
        let metadata = self.metadata.get(&self.http).await;
        let metadata = metadata.map_err(|error| LoginError::Unavailable(error.into()))?;
        let mut url = metadata.authorization_endpoint().url().clone();
        url.query_pairs_mut().extend_pairs(self.parameters(trip));
        Ok(Delivery::Redirect(url.into()))
    }

    fn notices(&self) -> Option<&dyn LogoutNotices> {
        self.vendor.is_none().then_some(self)
    }

    fn session_there(&self, data: Option<&ConnectorData>) -> Option<String> {
        serde_json::from_slice::<Kept>(&data?.0).ok()?.sid
    }

    fn tokens(&self) -> Option<&dyn UpstreamTokens> {
        self.spec.token_exchange.is_some().then_some(self)
    }

    async fn arrive(&self, trip: &Trip<'_>, answer: &Params) -> Result<Arrival, LoginError> {
        if let Some(issuer) = answer.get("iss")
            && issuer != self.spec.issuer
        {
            // RFC 9207 2.4: another provider's answer.
            return Err(unverified("WrongIssuer", "iss of the answer is another provider's"));
        }
        if let Some(error) = answer.get("error") {
            return Err(refusal(error));
        }
        let code = answer.get("code").filter(|code| !code.is_empty());
        let code =
            code.ok_or_else(|| unverified("NoCode", "the answer has neither code nor error"))?;
        let received = self.redeem(trip, code).await.map_err(|failure| match failure {
            TokenFailure::Refused(why) => unverified("CodeRefused", &why),
            TokenFailure::Unverified { reason, message } => {
                LoginError::Unverified { reason, message }
            }
            TokenFailure::Unavailable(why) => LoginError::Unavailable(why),
        })?;
        let (time, amr) = (received.auth_time, received.amr.clone());
        let authenticated =
            self.authenticated(&received, None).await.map_err(|error| match error {
                ApiError::Refused(why) => LoginError::Refused(why),
                ApiError::Unusable(why) => LoginError::Unusable(why),
                other @ (ApiError::TokenRefused(_) | ApiError::Unavailable(_)) => {
                    LoginError::Unavailable(other.no_verdict())
                }
            })?;
        Ok(Arrival { authenticated, time, amr, once: None, sign_out: self.hint(&received) })
    }
}

#[async_trait]
impl Recheck for Provider {
    fn consumes(&self, _data: Option<&ConnectorData>) -> bool {
        let rotates = || self.spec.refresh_tokens == OidcRefreshTokens::Rotating;
        self.vendor.as_ref().map_or_else(rotates, |vendor| vendor.rotates())
    }

    fn can_ask(&self, data: Option<&ConnectorData>) -> bool {
        data.is_some()
    }

    async fn recheck(
        &self,
        _known: &Identity,
        data: Option<&ConnectorData>,
    ) -> Result<Authenticated, RecheckError> {
        let kept = data.and_then(|data| serde_json::from_slice::<Kept>(&data.0).ok());
        let Some(kept) = kept else {
            return Err(RecheckError::Gone("nothing is kept to ask the provider with".into()));
        };
        let interrupted = |why: NoVerdict, next: String| {
            let (subject, sid) = (kept.subject.clone(), kept.sid.clone());
            let kept = Kept { refresh_token: next, subject, sid };
            match kept.data() {
                Ok(data) => RecheckError::Interrupted { why, data },
                Err(why) => RecheckError::Unavailable(why.into()),
            }
        };
        match self.renew(&kept.refresh_token, &kept.subject).await {
            Ok(received) => {
                let next = received.refresh_token.clone().unwrap_or_default();
                let known = self.authenticated(&received, kept.sid.clone()).await;
                known.map_err(|error| match error {
                    ApiError::Refused(why) => RecheckError::Gone(why),
                    other => interrupted(other.no_verdict(), next),
                })
            }
            Err((TokenFailure::Refused(why), None)) => Err(RecheckError::Gone(why)),
            Err((failure, None)) => Err(RecheckError::Unavailable(failure.no_verdict())),
            Err((failure, Some(next))) => Err(interrupted(failure.no_verdict(), next)),
        }
    }
}

#[async_trait]
impl Probe for Provider {
    async fn probe(&self) -> Result<(), ProbeError> {
        self.metadata.refresh(&self.http).await.map_err(|error| ProbeError {
            reason: error.reason().as_str(),
            message: error.to_string(),
        })?;
        let unusable = |message| ProbeError { reason: Reason::UpstreamUnusable.as_str(), message };
        self.authentication.check(Utc::now().timestamp()).await.map_err(unusable)?;
        let Some(vendor) = &self.vendor else { return Ok(()) };
        vendor.probe(&self.http).await.map_err(|error| {
            let reason = match error {
                ApiError::Unavailable(_) => Reason::UpstreamUnreachable,
                _ => Reason::UpstreamUnusable,
            };
            ProbeError { reason: reason.as_str(), message: error.to_string() }
        })
    }
}

pub(crate) fn unverified(reason: &'static str, message: &str) -> LoginError {
    LoginError::Unverified { reason, message: message.to_owned() }
}

/// What an error of the provider's means (RFC 6749 4.1.2.1, OIDC Core 3.1.2.6). It came by the browser: only a word that
/// is known is said again.
pub(crate) fn refusal(error: &str) -> LoginError {
    match error {
        "access_denied" => LoginError::Refused("the user, or the other sign-in, refused".into()),
        "login_required"
        | "interaction_required"
        | "account_selection_required"
        | "consent_required" => {
            LoginError::Refused("the other sign-in needs the user, who was not there".into())
        }
        "server_error" | "temporarily_unavailable" => {
            LoginError::Unavailable(format!("the provider answered {error}").into())
        }
        "invalid_request"
        | "unauthorized_client"
        | "unsupported_response_type"
        | "invalid_scope" => LoginError::Unusable(format!(
            "the provider answered {error}: compare clientID, scopes and the redirect URI with what is registered there"
        )),
        _ => LoginError::Refused("the other sign-in failed".into()),
    }
}

#[cfg(test)]
mod tests;
