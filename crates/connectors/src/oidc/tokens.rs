//! The provider's token and userinfo endpoints, and whether an ID token is believed.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use claviger_api::connector::oidc::OidcUserinfo;
use claviger_domain::no_verdict::NoVerdict;
use claviger_domain::trip::Trip;
use openidconnect::core::{
    CoreClient, CoreErrorResponseType, CoreGenderClaim, CoreIdToken, CoreIdTokenClaims,
    CoreIdTokenVerifier, CoreJwsSigningAlgorithm, CoreTokenResponse,
};
use openidconnect::{
    AccessTokenHash, AdditionalClaims, AuthType, AuthorizationCode, ClaimsVerificationError,
    ClientId, ClientSecret, EndpointMaybeSet, EndpointNotSet, EndpointSet, IssuerUrl, Nonce,
    OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken,
    RequestTokenError, StandardErrorResponse, SubjectIdentifier, TokenResponse, UserInfoClaims,
    UserInfoError,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::client_authentication::ClientAuthentication;
use super::description::{Configuration, Description};
use super::{Provider, claims};
use crate::http::HttpError;

/// Signatures that are believed: by a key that the provider alone has. HMAC would make our secret that key.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];
/// Seconds by which two clocks may differ.
const SKEW: TimeDelta = TimeDelta::seconds(60);

/// Every claim that the library has no field for.
#[derive(Debug, Serialize, Deserialize)]
struct Everything(Map<String, Value>);

impl AdditionalClaims for Everything {}

/// What a provider said about a user, believed.
pub struct Received {
    /// `sub`.
    pub subject: String,
    /// Everything it said: the ID token's claims, and userinfo's over them.
    pub claims: Map<String, Value>,
    /// `auth_time`.
    pub auth_time: Option<i64>,
    /// `amr`.
    pub amr: Vec<String>,
    /// The ID token itself.
    pub id_token: Option<String>,
    /// The refresh token to ask with next.
    pub refresh_token: Option<String>,
    /// What opens the vendor's API for this user.
    pub access_token: SecretString,
}

/// What an ID token belongs to.
enum Occasion {
    /// A sign-in of this nonce, where the provider says it again.
    SignIn(Option<String>),
    /// A refresh.
    Refresh,
}

/// Why there is nothing to believe.
pub enum TokenFailure {
    /// The provider refuses what we asked with: a verdict about this grant.
    Refused(String),
    /// It answered, and the answer is not believed.
    Unverified {
        /// One word.
        reason: &'static str,
        /// For logs.
        message: String,
    },
    /// No verdict.
    Unavailable(NoVerdict),
}

impl TokenFailure {
    /// What it comes to where only a refusal of what we asked with is a verdict.
    pub fn no_verdict(self) -> NoVerdict {
        match self {
            Self::Unavailable(why) => why,
            Self::Refused(why) | Self::Unverified { message: why, .. } => why.into(),
        }
    }
}

/// PKCE S256 (RFC 7636 4.2).
pub fn challenge(verifier: &str) -> String {
    let verifier = PkceCodeVerifier::new(verifier.to_owned());
    PkceCodeChallenge::from_code_verifier_sha256(&verifier).as_str().to_owned()
}

type Relying = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

impl Provider {
    /// Redeems a code (OIDC Core 3.1.3).
    pub(super) async fn redeem(
        &self,
        trip: &Trip<'_>,
        code: &str,
    ) -> Result<Received, TokenFailure> {
        let metadata = self.known().await?;
        let client = self.client(&metadata);
        let shown = self.assertion(&metadata, trip.now).await?;
        let callback = RedirectUrl::new(trip.callback.clone()).map_err(|error| ours(&error))?;
        let tokens = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|error| ours(&error))?
            .set_redirect_uri(Cow::Owned(callback));
        let tokens = if self.omits().pkce {
            tokens
        } else {
            tokens.set_pkce_verifier(PkceCodeVerifier::new(trip.code_verifier()))
        };
        let tokens =
            shown.iter().fold(tokens, |tokens, (name, value)| tokens.add_extra_param(*name, value));
        let tokens = tokens.request_async(&self.http).await.map_err(|error| refusal(&error))?;
        let id_token = tokens.id_token().ok_or_else(no_id_token)?;
        let occasion = Occasion::SignIn((!self.omits().nonce).then(|| trip.nonce()));
        let claims = self.verified(id_token, &tokens, &occasion, trip.now).await?;
        self.received(&client, &tokens, (Some(id_token), Some(&claims)), None).await
    }

    /// Uses a refresh token (OIDC Core 12). What the provider gives to ask with next comes also where nothing else of its
    /// answer is any good.
    pub(super) async fn renew(
        &self,
        refresh_token: &str,
        subject: &str,
    ) -> Result<Received, (TokenFailure, Option<String>)> {
        let nothing_used = |failure| (failure, None);
        let metadata = self.known().await.map_err(nothing_used)?;
        let client = self.client(&metadata);
        let shown = self.assertion(&metadata, Utc::now().timestamp()).await;
        let shown = shown.map_err(nothing_used)?;
        let used = RefreshToken::new(refresh_token.to_owned());
        let asking = client
            .exchange_refresh_token(&used)
            .map_err(|error| ours(&error))
            .map_err(nothing_used)?;
        let asking =
            shown.iter().fold(asking, |asking, (name, value)| asking.add_extra_param(*name, value));
        let tokens = asking.request_async(&self.http).await;
        let tokens = tokens.map_err(|error| nothing_used(refusal(&error)))?;
        // Kept where the provider gives no other (RFC 6749 6).
        let next = tokens.refresh_token().unwrap_or(&used).secret().clone();
        match self.renewed(&client, &tokens, subject).await {
            Ok(received) => Ok(Received { refresh_token: Some(next), ..received }),
            Err(failure) => Err((failure, Some(next))),
        }
    }

    async fn renewed(
        &self,
        client: &Relying,
        tokens: &CoreTokenResponse,
        subject: &str,
    ) -> Result<Received, TokenFailure> {
        let now = Utc::now().timestamp();
        let claims = match tokens.id_token() {
            Some(id_token) => Some(self.verified(id_token, tokens, &Occasion::Refresh, now).await?),
            None => None,
        };
        let said = (tokens.id_token(), claims.as_ref());
        self.received(client, tokens, said, Some(subject)).await
    }

    async fn known(&self) -> Result<std::sync::Arc<Description>, TokenFailure> {
        let known = self.metadata.get(&self.http).await;
        known.map_err(|error| TokenFailure::Unavailable(error.into()))
    }

    fn client(&self, metadata: &Configuration) -> Relying {
        let (secret, by) = match &self.authentication {
            ClientAuthentication::Secret(secret, by) => {
                (Some(ClientSecret::new(secret.expose_secret().to_owned())), by.clone())
            }
            // It says its name, and proves it by something else if at all.
            _ => (None, AuthType::RequestBody),
        };
        let id = ClientId::new(self.spec.client_id.clone());
        CoreClient::from_provider_metadata(metadata.clone(), id, secret).set_auth_type(by)
    }

    /// What shows who we are, where no secret does.
    async fn assertion(
        &self,
        metadata: &Configuration,
        now: i64,
    ) -> Result<Vec<(&'static str, String)>, TokenFailure> {
        let shown = self.authentication.assertion(&self.spec.client_id, metadata, now);
        shown.await.map_err(|why| TokenFailure::Unavailable(why.into()))
    }

    /// Whether an ID token is believed (OIDC Core 3.1.3.7, 12.2); keys are read once more for one that is not known.
    async fn verified(
        &self,
        id_token: &CoreIdToken,
        tokens: &CoreTokenResponse,
        occasion: &Occasion,
        now: i64,
    ) -> Result<CoreIdTokenClaims, TokenFailure> {
        let issuer = self.issuer_of(id_token)?;
        let mut known = self.known().await?;
        let mut believed = self.believe((&known, &issuer), id_token, (occasion, now));
        if matches!(believed, Err(ClaimsVerificationError::SignatureVerification(_))) {
            let again = self.metadata.again(&self.http).await;
            known = again.map_err(|error| TokenFailure::Unavailable(error.into()))?;
            believed = self.believe((&known, &issuer), id_token, (occasion, now));
        }
        let claims = believed.map_err(|error| disbelief(&error))?;
        self.check_parties(&claims)?;
        if matches!(occasion, Occasion::SignIn(_)) {
            self.check_acr(&claims)?; // a refreshed token is of no new authentication
        }
        let Some(expected) = claims.access_token_hash() else { return Ok(claims) };
        let verifier = self.verifier((&known, &issuer), now);
        let actual = id_token.signing_alg().ok().and_then(|algorithm| {
            let key = id_token.signing_key(&verifier).ok()?;
            AccessTokenHash::from_token(tokens.access_token(), algorithm, key).ok()
        });
        if actual.as_ref() == Some(expected) {
            Ok(claims)
        } else {
            Err(unbelievable("WrongAccessToken", "at_hash is not of this access token"))
        }
    }

    fn believe(
        &self,
        from: (&Description, &Option<String>),
        id_token: &CoreIdToken,
        (occasion, now): (&Occasion, i64),
    ) -> Result<CoreIdTokenClaims, ClaimsVerificationError> {
        let verifier = self.verifier(from, now);
        id_token
            .claims(&verifier, |said: Option<&Nonce>| match (occasion, said) {
                // A refreshed token has none, or that of the sign-in.
                (Occasion::Refresh | Occasion::SignIn(None), _) => Ok(()),
                (Occasion::SignIn(Some(expected)), Some(said)) if said.secret() == expected => {
                    Ok(())
                }
                _ => Err("nonce is not the one of this sign-in".to_owned()),
            })
            .cloned()
    }

    /// The issuer that a token must name, where it is not the provider's one. What the token says is not believed yet:
    /// it chooses among issuers that the vendor's keys are for.
    fn issuer_of(&self, id_token: &CoreIdToken) -> Result<Option<String>, TokenFailure> {
        let Some(vendor) = &self.vendor else { return Ok(None) };
        Ok(vendor.issuer_of(&payload(id_token)?))
    }

    fn verifier(
        &self,
        (known, issuer): (&Description, &Option<String>),
        now: i64,
    ) -> CoreIdTokenVerifier<'static> {
        let issuer = issuer.clone().and_then(|issuer| IssuerUrl::new(issuer).ok());
        let issuer = issuer.unwrap_or_else(|| known.issuer().clone());
        let at = DateTime::from_timestamp(now, 0).unwrap_or_default();
        CoreIdTokenVerifier::new_public_client(
            ClientId::new(self.spec.client_id.clone()),
            issuer.clone(),
            known.keys_of(issuer.as_str()),
        )
        .set_allowed_algs(ALGORITHMS)
        .set_time_fn(move || at - SKEW)
        .set_issue_time_verifier_fn(move |issued| {
            if issued > at + SKEW { Err("iat is in the future".to_owned()) } else { Ok(()) }
        })
        .set_other_audience_verifier_fn(|_| true) // judged by azp
    }

    /// A token for others too names us as the one it was given to (OIDC Core 3.1.3.7, 4 and 5).
    fn check_parties(&self, claims: &CoreIdTokenClaims) -> Result<(), TokenFailure> {
        let ours = self.spec.client_id.as_str();
        let presenter = claims.authorized_party().map(|party| party.as_str());
        let is_shared = claims.audiences().len() > 1;
        match presenter {
            Some(presenter) if presenter == ours => Ok(()),
            None if !is_shared => Ok(()),
            _ => Err(unbelievable("WrongAudience", "the token was given to another client")),
        }
    }

    fn check_acr(&self, claims: &CoreIdTokenClaims) -> Result<(), TokenFailure> {
        let wanted = &self.spec.acr_values;
        let reached = claims.auth_context_ref().map(|acr| acr.as_str());
        if wanted.is_empty() || reached.is_some_and(|acr| wanted.iter().any(|one| one == acr)) {
            return Ok(());
        }
        Err(unbelievable("WrongACR", "acr of the token is none of the connector's acrValues"))
    }

    /// What was said in all.
    async fn received(
        &self,
        client: &Relying,
        tokens: &CoreTokenResponse,
        (id_token, verified): (Option<&CoreIdToken>, Option<&CoreIdTokenClaims>),
        known_subject: Option<&str>,
    ) -> Result<Received, TokenFailure> {
        let mut claims = id_token.map(payload).transpose()?.unwrap_or_default();
        let subject = verified.map(|claims| claims.subject().as_str()).or(known_subject);
        let subject = subject.ok_or_else(no_id_token)?.to_owned();
        if known_subject.is_some_and(|known| known != subject) {
            return Err(unbelievable("WrongSubject", "the refreshed token is about another user"));
        }
        let may_be_thin = known_subject.is_some()
            && self.vendor.is_none()
            && (self.wants_all || self.lacks(&claims));
        let is_thin = may_be_thin && self.has_userinfo().await;
        if id_token.is_none() || self.spec.userinfo == OidcUserinfo::Always || is_thin {
            let said = self.userinfo(client, tokens, &subject).await?;
            // What is said of one address is not said of another.
            if said.get("email").is_some_and(|email| claims.get("email") != Some(email)) {
                claims.remove("email_verified");
            }
            claims.extend(said);
        }
        let amr = verified.and_then(|claims| claims.auth_method_refs());
        Ok(Received {
            subject,
            claims,
            auth_time: verified.and_then(|claims| Some(claims.auth_time()?.timestamp())),
            amr: amr.into_iter().flatten().map(|method| method.as_str().to_owned()).collect(),
            id_token: id_token.map(ToString::to_string),
            refresh_token: tokens.refresh_token().map(|token| token.secret().clone()),
            access_token: SecretString::from(tokens.access_token().secret().as_str()),
        })
    }

    /// Whether a refreshed token leaves out what one of a sign-in may have said: that is no verdict.
    fn lacks(&self, claims: &Map<String, Value>) -> bool {
        let names = &self.spec.claims;
        let wanted = [Some(&names.email), names.groups.as_ref()].into_iter().flatten();
        wanted.into_iter().any(|name| claims::find(claims, name).is_none())
    }

    async fn has_userinfo(&self) -> bool {
        self.known().await.is_ok_and(|known| known.userinfo_endpoint().is_some())
    }

    /// What the userinfo endpoint says (OIDC Core 5.3), about this user and nobody else.
    async fn userinfo(
        &self,
        client: &Relying,
        tokens: &CoreTokenResponse,
        subject: &str,
    ) -> Result<Map<String, Value>, TokenFailure> {
        let about = SubjectIdentifier::new(subject.to_owned());
        let asking = client.user_info(tokens.access_token().clone(), Some(about)).map_err(|_| {
            let why = "the provider has no userinfo endpoint: say it in endpoints.userinfoURL, or set userinfo to Never";
            TokenFailure::Unavailable(why.into())
        })?;
        let said: Result<UserInfoClaims<Everything, CoreGenderClaim>, _> =
            asking.request_async(&self.http).await;
        let said = said.map_err(|error| match error {
            UserInfoError::ClaimsVerification(error) => disbelief(&error),
            UserInfoError::Request(error) => TokenFailure::Unavailable((&error).into()),
            other => TokenFailure::Unavailable(format!("userinfo is not usable: {other}").into()),
        })?;
        match serde_json::to_value(&said) {
            Ok(Value::Object(claims)) => Ok(claims),
            _ => Err(TokenFailure::Unavailable("userinfo is not an object".into())),
        }
    }
}

/// The claims of a verified token, as they stand in it.
fn payload(id_token: &CoreIdToken) -> Result<Map<String, Value>, TokenFailure> {
    let compact = id_token.to_string();
    let middle = compact.split('.').nth(1).unwrap_or_default();
    let bytes =
        data_encoding::BASE64URL_NOPAD.decode(middle.as_bytes()).map_err(|error| ours(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| ours(&error))
}

fn ours(error: &impl ToString) -> TokenFailure {
    TokenFailure::Unavailable(error.to_string().into())
}

fn no_id_token() -> TokenFailure {
    unbelievable(
        "NoIDToken",
        "the provider gave no ID token: is the scope openid granted to this client?",
    )
}

fn unbelievable(reason: &'static str, message: &str) -> TokenFailure {
    TokenFailure::Unverified { reason, message: message.to_owned() }
}

/// Why a token is not believed, in one word and in the library's.
fn disbelief(error: &ClaimsVerificationError) -> TokenFailure {
    let reason = match error {
        ClaimsVerificationError::Expired(_) => "WrongTime",
        ClaimsVerificationError::InvalidAudience(_) => "WrongAudience",
        ClaimsVerificationError::InvalidIssuer(_) => "WrongIssuer",
        ClaimsVerificationError::InvalidNonce(_) => "WrongNonce",
        ClaimsVerificationError::InvalidSubject(_) => "WrongSubject",
        ClaimsVerificationError::SignatureVerification(_) => "WrongSignature",
        _ => "Unverified",
    };
    TokenFailure::Unverified { reason, message: error.to_string() }
}

/// What an answer of the token endpoint means (RFC 6749 5.2): only `invalid_grant` is about the user.
fn refusal(
    error: &RequestTokenError<HttpError, StandardErrorResponse<CoreErrorResponseType>>,
) -> TokenFailure {
    match error {
        RequestTokenError::ServerResponse(answer) => {
            let code = answer.error().as_ref();
            let why = format!("the provider's token endpoint answered {code}");
            match answer.error() {
                CoreErrorResponseType::InvalidGrant => TokenFailure::Refused(why),
                CoreErrorResponseType::InvalidClient
                | CoreErrorResponseType::UnauthorizedClient => {
                    let fix = "compare clientID, and the secret, key or certificate that Claviger shows, with what is registered there";
                    TokenFailure::Unavailable(format!("{why}: {fix}").into())
                }
                _ => TokenFailure::Unavailable(why.into()),
            }
        }
        RequestTokenError::Request(error) => TokenFailure::Unavailable(error.into()),
        RequestTokenError::Parse(error, _) => {
            // Where, and not what: the words of the error may hold what was answered.
            let place = error.path();
            let why =
                format!("the provider's token endpoint answered what cannot be read, at {place}");
            TokenFailure::Unavailable(why.into())
        }
        RequestTokenError::Other(why) => TokenFailure::Unavailable(why.as_str().into()),
    }
}
