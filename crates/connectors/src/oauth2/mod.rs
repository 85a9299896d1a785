//! The authorization code flow of OAuth 2.0 (RFC 6749 4.1), and behind it a vendor's API that says who a token is about.
//!
//! ```text
//! mod (depart, arrive, re-check, probe) → token (the token endpoint) → http
//!   ├ endpoints: where users and codes go
//!   └ Vendor (one file each; generic: any other) → api (questions, page by page) → http
//!       └ organizations: which of a user's are groups
//! ```
//! What always holds: the code is bound to our PKCE verifier, of this flow and connector; a user's token goes to the
//! vendor's API and nowhere else, whatever an answer points at; what is asked has a largest number of pages, of things and
//! of seconds; a token of the vendor's is kept only sealed in a session; only the vendor's word about this user or this
//! grant is a verdict, and everything else, our own secret refused above all, is `Unavailable`.

mod api;
mod endpoints;
pub mod generic;
pub mod organizations;
mod token;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::oauth2::{PkceCodeChallenge, PkceCodeVerifier};
use async_trait::async_trait;
use chrono::Utc;
use claviger_api::connector::http::HttpTls;
use claviger_api::{Reason, SecretKeyRef};
use claviger_domain::connector::{Authenticated, ConnectorData, LoginError, Recheck, RecheckError};
use claviger_domain::identity::Identity;
use claviger_domain::trip::{Arrival, RedirectLogin, Trip};
use claviger_protocol::form::Params;
use claviger_protocol::response_type::Delivery;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::timeout;
use url::Url;

pub use self::api::{Answer, Api, ApiError, Listed, Paging};
pub use self::endpoints::Endpoints;
use self::endpoints::{Document, Known, Places};
pub use self::token::{Authentication, Blame};
use self::token::{Endpoint, Received, TokenFailure};
use crate::http::Http;
use crate::kept::Kept as Remembered;
use crate::oidc::{refusal, unverified};
use crate::{BuildError, Probe, ProbeError, Purpose, Resolved, SecretRef};

/// Longest a vendor may take to say all about one user. With the token endpoint's own deadline it stays below what a
/// refresh waits for, so that a refresh token given meanwhile is not lost.
const ASK: Duration = Duration::from_secs(25);
/// A code that no user ever got: how the token endpoint takes it says whether it knows us.
const NOBODYS_CODE: &str = "is-this-client-known";

/// Who a token is about, in the language of one vendor.
#[async_trait]
pub trait Vendor: Send + Sync + fmt::Debug + 'static {
    /// What messages call it.
    const NAME: &'static str;

    /// Scopes to ask the user for: as few as will do.
    fn scopes(&self) -> Vec<String>;

    /// Whether a scope that was not granted is missed, where the vendor says what it granted.
    fn insists_on_scopes(&self) -> bool {
        true
    }

    /// Further parameters of the authorization request.
    fn parameters(&self, _trip: &Trip<'_>) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Base of the API. Users' tokens go below it alone.
    fn api(&self) -> &Url;

    /// Headers of each question.
    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("accept", "application/json")]
    }

    /// Whether an access token that came without a refresh token is good until somebody takes it back.
    fn has_lasting_tokens(&self) -> bool {
        false
    }

    /// Whether an access token that came without a refresh token, and with an end, is asked with until that end; the user signs
    /// in again then.
    fn asks_until_tokens_end(&self) -> bool {
        false
    }

    /// Whether `expires_in: 0` says that a token has no end. Elsewhere such a token has ended: nothing is asked with it later.
    fn says_zero_of_no_end(&self) -> bool {
        false
    }

    /// Whose fault an error of the token endpoint is.
    fn blame(&self, code: &str, _description: &str) -> Blame {
        Blame::by_rfc(code)
    }

    /// The redirect URI that goes with a code which no user got, where the vendor will not look at the code without one.
    /// Most want none, or one that is registered, which only an issuer has.
    fn probe_callback(&self) -> Option<&'static str> {
        None
    }

    /// What an answer that is no success says against the user, where it does.
    fn verdict(&self, _answer: &Answer) -> Option<String> {
        None
    }

    /// Asks about the user whose token the API has.
    ///
    /// # Errors
    /// [`ApiError`].
    async fn user(&self, api: &Api<'_>) -> Result<User, ApiError>;

    /// Whether a lasting token was really taken back, where the API refused it and there is another way to know.
    ///
    /// # Errors
    /// [`ApiError`]: nobody knows.
    async fn is_revoked(&self, _api: &Api<'_>, _client: (&str, &str)) -> Result<bool, ApiError> {
        Ok(true)
    }
}

/// A user as a vendor says.
#[derive(Debug, Clone)]
pub struct User {
    /// Who they are here.
    pub identity: Identity,
    /// What the vendor said.
    pub raw: Map<String, Value>,
}

/// What every vendor's resource says.
#[derive(Debug, Clone)]
pub struct Settings<'s> {
    /// The variant's name in YAML.
    pub field: &'static str,
    /// Our ID there.
    pub client_id: &'s str,
    /// Our secret.
    pub client_secret: Option<&'s SecretKeyRef>,
    /// How it is shown.
    pub authentication: Authentication,
    /// Where users and codes go.
    pub endpoints: Endpoints,
    /// Whom to trust.
    pub tls: &'s HttpTls,
}

/// One vendor, as a connector.
#[derive(Debug)]
pub struct Service<V> {
    name: String,
    client_id: String,
    secret: Option<SecretString>,
    places: Known,
    http: Http,
    vendor: V,
}

/// What is kept to ask again about a user.
#[derive(Serialize, Deserialize)]
enum Kept {
    /// An access token that lasts.
    #[serde(rename = "a")]
    Lasting(String),
    /// An access token, and until when it is good, in seconds since the Unix epoch.
    #[serde(rename = "e")]
    Ending(String, i64),
    /// A refresh token, good once.
    #[serde(rename = "r")]
    Renewing(String),
}

impl Kept {
    fn of(data: Option<&ConnectorData>) -> Option<Self> {
        serde_json::from_slice(&data?.0).ok()
    }

    fn data(&self) -> Result<ConnectorData, RecheckError> {
        let written = serde_json::to_vec(self).map(ConnectorData);
        written.map_err(|error| RecheckError::Unavailable(error.to_string().into()))
    }
}

/// Which keys of which Secrets such a connector needs.
pub fn secret_refs(secret: Option<&SecretKeyRef>, tls: &HttpTls) -> Vec<SecretRef> {
    let secret = secret.map(|at| SecretRef::new(at, Purpose::ClientSecret));
    let authorities = tls.ca_secret_ref.as_ref();
    let authorities = authorities.map(|at| SecretRef::new(at, Purpose::CertificateAuthority));
    secret.into_iter().chain(authorities).collect()
}

/// A URL that an administrator wrote, without a slash at its end.
///
/// # Errors
/// [`BuildError`] names the field.
pub fn url(field: &'static str, name: &str, value: &str) -> Result<Url, BuildError> {
    let parsed = Url::parse(value.trim_end_matches('/'));
    parsed.map_err(|error| BuildError::OAuth2(format!("{field}: {name}: {error}")))
}

impl<V: Vendor> Service<V> {
    /// Contacts nobody. `name` is for logs.
    ///
    /// # Errors
    /// [`BuildError`] names the field and the fix.
    pub fn new(
        name: &str,
        settings: &Settings<'_>,
        vendor: V,
        resolved: &Resolved,
    ) -> Result<Self, BuildError> {
        let secret = settings.client_secret;
        let secret = secret.map(|at| resolved.password(&at.name, &at.key, Purpose::ClientSecret));
        let secret = secret.transpose()?;
        let field = settings.field;
        let endpoint = |url: Url| Endpoint {
            vendor: V::NAME,
            url,
            client_id: settings.client_id.to_owned(),
            secret: secret.clone(),
            authentication: settings.authentication,
        };
        let places = match &settings.endpoints {
            Endpoints::Written { authorization, token } => Known::Written(Arc::new(Places {
                authorization: url(field, "authorization URL", authorization)?,
                token: endpoint(url(field, "token URL", token)?),
            })),
            Endpoints::Described { at } => {
                let at = url(field, "url", at)?;
                let token = endpoint(at.clone());
                Known::Described(Box::new(Document { at, token, kept: Remembered::default() }))
            }
        };
        Ok(Self {
            name: name.to_owned(),
            client_id: settings.client_id.to_owned(),
            secret,
            places,
            http: Http::trusting(settings.tls, resolved)?,
            vendor,
        })
    }

    fn api<'a>(&'a self, token: &'a str) -> Api<'a> {
        Api {
            http: &self.http,
            base: self.vendor.api(),
            token,
            vendor: V::NAME,
            headers: self.vendor.headers(),
            verdict: Box::new(|answer| self.vendor.verdict(answer)),
        }
    }

    /// Who the token is about.
    async fn user(&self, token: &str) -> Result<User, ApiError> {
        let api = self.api(token);
        let user = timeout(ASK, self.vendor.user(&api)).await.unwrap_or_else(|_| {
            let (name, seconds) = (V::NAME, ASK.as_secs());
            let why = format!("{name} did not say all within {seconds} s");
            Err(ApiError::Unavailable(why.into()))
        })?;
        if user.identity.user_id.is_empty() {
            let why = format!("{} reported a user without an identifier", V::NAME);
            return Err(ApiError::Unusable(why));
        }
        Ok(user)
    }

    /// What is kept of the tokens of a sign-in, if they are any good later.
    fn kept(&self, received: &Received, now: i64) -> Option<Kept> {
        let access_token = || received.access_token.clone();
        let ends = |seconds: &u64| *seconds > 0 || !self.vendor.says_zero_of_no_end();
        match (&received.refresh_token, received.seconds.filter(ends)) {
            (Some(refresh_token), _) => Some(Kept::Renewing(refresh_token.clone())),
            (None, None) if self.vendor.has_lasting_tokens() => Some(Kept::Lasting(access_token())),
            (None, Some(seconds)) if self.vendor.asks_until_tokens_end() => {
                let until = now.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX));
                Some(Kept::Ending(access_token(), until))
            }
            (None, _) => None,
        }
    }

    /// Asks with an access token, which stays as it was `kept`.
    async fn ask_by_access_token(
        &self,
        token: &str,
        kept: &Kept,
    ) -> Result<Authenticated, RecheckError> {
        match self.user(token).await {
            Ok(user) => {
                let data = kept.data()?;
                Ok(authenticated(user, Some(data)))
            }
            Err(ApiError::Refused(why)) => Err(RecheckError::Gone(why)),
            Err(ApiError::TokenRefused(why)) => {
                let secret = self.secret.as_ref().map(ExposeSecret::expose_secret);
                let client = (self.client_id.as_str(), secret.unwrap_or_default());
                match self.vendor.is_revoked(&self.api(token), client).await {
                    Ok(true) => Err(RecheckError::Gone(why)),
                    Ok(false) => Err(RecheckError::Unavailable(why.into())),
                    Err(error) => Err(RecheckError::Unavailable(error.no_verdict())),
                }
            }
            Err(error) => Err(RecheckError::Unavailable(error.no_verdict())),
        }
    }

    async fn ask_by_renewing(&self, refresh_token: &str) -> Result<Authenticated, RecheckError> {
        let blame = |code: &str, description: &str| self.vendor.blame(code, description);
        let places = self.places.get(&self.http).await;
        let places = places.map_err(|unknown| RecheckError::Unavailable(unknown.why))?;
        let received = places.token.renew(&self.http, refresh_token, &blame).await;
        let received = received.map_err(|failure| match failure {
            TokenFailure::Refused(why) => RecheckError::Gone(why),
            other => RecheckError::Unavailable(other.no_verdict()),
        })?;
        // Kept where the vendor gives no other (RFC 6749 6).
        let next = received.refresh_token.unwrap_or_else(|| refresh_token.to_owned());
        let data = Kept::Renewing(next).data()?;
        match self.user(&received.access_token).await {
            Ok(user) => Ok(authenticated(user, Some(data))),
            Err(ApiError::Refused(why)) => Err(RecheckError::Gone(why)),
            // A token that was given this moment: no verdict, whatever is said of it.
            Err(error) => Err(RecheckError::Interrupted { why: error.no_verdict(), data }),
        }
    }
}

fn authenticated(user: User, data: Option<ConnectorData>) -> Authenticated {
    Authenticated { identity: user.identity, raw: user.raw, data }
}

#[async_trait]
impl<V: Vendor> RedirectLogin for Service<V> {
    async fn depart(&self, trip: &Trip<'_>) -> Result<Delivery, LoginError> {
        let verifier = PkceCodeVerifier::new(trip.code_verifier());
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
        let places = self.places.get(&self.http).await;
        let places = places.map_err(|unknown| LoginError::Unavailable(unknown.why))?;
        let mut url = places.authorization.clone();
        let scopes = self.vendor.scopes();
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", &trip.callback)
            .append_pair("state", trip.state)
            .append_pair("code_challenge", challenge.as_str())
            .append_pair("code_challenge_method", "S256");
        if !scopes.is_empty() {
            query.append_pair("scope", &scopes.join(" "));
        }
        query.extend_pairs(self.vendor.parameters(trip));
        drop(query);
        Ok(Delivery::Redirect(url.into()))
    }

    async fn arrive(&self, trip: &Trip<'_>, answer: &Params) -> Result<Arrival, LoginError> {
        if let Some(error) = answer.get("error") {
            return Err(refusal(error));
        }
        let code = answer.get("code").filter(|code| !code.is_empty());
        let code =
            code.ok_or_else(|| unverified("NoCode", "the answer has neither code nor error"))?;
        let blame = |code: &str, description: &str| self.vendor.blame(code, description);
        let redeemed = (code, Some(trip.callback.as_str()), trip.code_verifier());
        let places = self.places.get(&self.http).await;
        let places = places.map_err(|unknown| LoginError::Unavailable(unknown.why))?;
        let received = places.token.redeem(&self.http, redeemed, &blame).await;
        let received = received.map_err(|failure| match failure {
            TokenFailure::Refused(why) => unverified("CodeRefused", &why),
            other => LoginError::Unavailable(other.no_verdict()),
        })?;
        if self.vendor.insists_on_scopes()
            && let Some(lacking) = received.lacking(&self.vendor.scopes())
        {
            // A user may take it out of the request; what we would read without it is not all there is.
            let why = format!("the other sign-in did not grant {lacking}");
            return Err(LoginError::Refused(why));
        }
        let user = self.user(&received.access_token).await.map_err(|error| match error {
            ApiError::Refused(why) => LoginError::Refused(why),
            ApiError::Unusable(why) => LoginError::Unusable(why),
            other @ (ApiError::TokenRefused(_) | ApiError::Unavailable(_)) => {
                LoginError::Unavailable(other.no_verdict())
            }
        })?;
        let kept = self.kept(&received, trip.now).as_ref().map(Kept::data);
        let data = kept.transpose().map_err(|why| LoginError::Unusable(why.to_string()))?;
        Ok(Arrival {
            authenticated: authenticated(user, data),
            time: None,
            amr: Vec::new(),
            once: None,
            sign_out: None,
        })
    }
}

#[async_trait]
impl<V: Vendor> Recheck for Service<V> {
    fn consumes(&self, data: Option<&ConnectorData>) -> bool {
        !matches!(Kept::of(data), Some(Kept::Lasting(_) | Kept::Ending(..)))
    }

    fn can_ask(&self, data: Option<&ConnectorData>) -> bool {
        data.is_some()
    }

    async fn recheck(
        &self,
        _known: &Identity,
        data: Option<&ConnectorData>,
    ) -> Result<Authenticated, RecheckError> {
        let kept = Kept::of(data);
        match &kept {
            Some(Kept::Ending(_, until)) if *until <= Utc::now().timestamp() => {
                // The user may be well, but nobody says so any more.
                let why =
                    format!("the token that {} gave at the sign-in has come to its end", V::NAME);
                Err(RecheckError::Gone(why))
            }
            Some(kept @ (Kept::Lasting(token) | Kept::Ending(token, _))) => {
                self.ask_by_access_token(token, kept).await
            }
            Some(Kept::Renewing(token)) => self.ask_by_renewing(token).await,
            None => Err(RecheckError::Gone(format!("nothing is kept to ask {} with", V::NAME))),
        }
    }
}

#[async_trait]
impl<V: Vendor> Probe for Service<V> {
    async fn probe(&self) -> Result<(), ProbeError> {
        let blame = |code: &str, description: &str| self.vendor.blame(code, description);
        let redeemed = (NOBODYS_CODE, self.vendor.probe_callback(), NOBODYS_CODE.to_owned());
        let asked = match self.places.refresh(&self.http).await {
            Ok(places) => places.token.ask(&self.http, redeemed, &blame).await,
            Err(unknown) => Err(unknown.into()),
        };
        match asked {
            // What else it says, it says to a question that no login asks.
            Ok(_) | Err((_, TokenFailure::Refused(_) | TokenFailure::Said(_))) => Ok(()),
            Err((_, TokenFailure::Client(message))) => {
                tracing::debug!(connector = self.name, "the vendor does not know us");
                let reason = Reason::UpstreamRefusedCredentials.as_str();
                Err(ProbeError { reason, message })
            }
            Err((reason, TokenFailure::Unavailable(message))) => {
                Err(ProbeError { reason: reason.as_str(), message: message.to_string() })
            }
        }
    }
}
