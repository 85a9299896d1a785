//! The authorization endpoint (RFC 6749 4.1.1, OIDC Core 3.1.2): a request in two stages, and its answer.
//!
//! Before client and redirect URI are known good, an error may only be shown to the user; afterwards
//! it goes to the client. [`UnverifiedRequest`] is the first stage, [`AuthorizationRequest`] the second.

use std::collections::BTreeSet;

use url::Url;

use crate::claims_request::ClaimsRequest;
use crate::error::{ErrorCode, ErrorResponse, printable};
use crate::form::Params;
use crate::pkce::CodeChallenge;
use crate::redirect_uri::RedirectUri;
use crate::response_type::{Delivery, ResponseMode, ResponseType};
use crate::scope::ScopeSet;

/// Longest `state`, in bytes. State, nonce, scope and redirect URI together must fit one cookie.
pub const MAX_STATE: usize = 512;
/// Longest `nonce`, in bytes.
pub const MAX_NONCE: usize = 256;
const MAX_CLIENT_ID: usize = 512;
const MAX_REDIRECT_URI: usize = 2_048;
const MAX_HINT: usize = 254;
/// Longest `id_token_hint`, in bytes: an ID token with many groups fits no URL longer than this.
const MAX_ID_TOKEN_HINT: usize = 16 * 1024;
/// Longest `acr_values`, in bytes.
const MAX_ACR_VALUES: usize = 512;
/// Longest `resource`, in bytes, and most of them.
const MAX_RESOURCE: usize = 512;
const MAX_RESOURCES: usize = 4;
/// Characters of a SHA-256 thumbprint.
const THUMBPRINT: usize = 43;

/// A request whose client and redirect URI are still to be checked.
#[derive(Debug, Clone)]
pub struct UnverifiedRequest {
    /// `client_id`.
    pub client_id: String,
    /// `redirect_uri`.
    pub redirect_uri: Option<String>,
    /// `state`; an error returns it whatever its length (RFC 6749 4.1.2.1).
    pub state: Option<String>,
    /// How an error travels back: as the answer would have (OAuth 2.0 Multiple Response Type Encoding
    /// Practices 5), as far as the request says so.
    pub response_mode: ResponseMode,
    params: Params,
}

/// A request that is in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationRequest {
    /// `response_type`.
    pub response_type: ResponseType,
    /// `response_mode`, or the default of the type.
    pub response_mode: ResponseMode,
    /// Requested scopes; `openid` is among them.
    pub scope: ScopeSet,
    /// `state`.
    pub state: Option<String>,
    /// `nonce`.
    pub nonce: Option<String>,
    /// `code_challenge` (S256).
    pub code_challenge: Option<CodeChallenge>,
    /// `prompt`.
    pub prompt: BTreeSet<Prompt>,
    /// `max_age`, in seconds.
    pub max_age: Option<i64>,
    /// `login_hint`.
    pub login_hint: Option<String>,
    /// `id_token_hint`.
    pub id_token_hint: Option<String>,
    /// `acr_values`, the best first.
    pub acr_values: Vec<String>,
    /// `claims`.
    pub claims: ClaimsRequest,
    /// `resource`: absolute URIs without fragment (RFC 8707 2).
    pub resources: Vec<String>,
    /// `dpop_jkt`: thumbprint of the key that the code shall be bound to (RFC 9449 10).
    pub dpop_jkt: Option<String>,
    /// dex's `connector_id`.
    pub connector_id: Option<String>,
    /// dex's and Google's `approval_prompt=force`.
    pub force_approval: bool,
}

/// A value of `prompt` (OIDC Core 3.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prompt {
    /// Ask the user nothing.
    None,
    /// Sign in again.
    Login,
    /// Ask for consent again.
    Consent,
    /// Let the user choose an account.
    SelectAccount,
}

impl UnverifiedRequest {
    /// Reads what decides where errors go.
    ///
    /// # Errors
    /// To be shown to the user: `client_id` is missing, or a value is too long.
    pub fn parse(params: &Params) -> Result<Self, ErrorResponse> {
        Ok(Self {
            client_id: params.required("client_id", MAX_CLIENT_ID)?,
            redirect_uri: params.bounded("redirect_uri", MAX_REDIRECT_URI)?,
            state: params.get("state").map(str::to_owned),
            response_mode: mode_of_errors(params),
            params: params.clone(),
        })
    }

    /// Checks the rest.
    ///
    /// # Errors
    /// To be sent to the client, with the code that the specifications give.
    pub fn validate(&self) -> Result<AuthorizationRequest, ErrorResponse> {
        let params = &self.params;
        refuse_unsupported(params)?;
        let response_type = ResponseType::parse(&params.required("response_type", 128)?)
            .ok_or_else(|| {
                ErrorResponse::new(ErrorCode::UnsupportedResponseType, "response_type is unknown")
            })?;
        let response_mode = response_mode(params, response_type)?;
        let challenge = params
            .get("code_challenge")
            .map(|challenge| CodeChallenge::parse(challenge, params.get("code_challenge_method")))
            .transpose()?;
        if challenge.is_none() && params.get("code_challenge_method").is_some() {
            return Err(ErrorResponse::invalid_request("code_challenge is missing"));
        }
        let nonce = params.bounded("nonce", MAX_NONCE)?;
        if nonce.is_none() && response_type.has_id_token() {
            // OIDC Core 3.2.2.1 and 3.3.2.11
            let why = format!("nonce is missing: response_type={response_type} needs one");
            return Err(ErrorResponse::invalid_request(&why));
        }
        Ok(AuthorizationRequest {
            response_type,
            response_mode,
            scope: scope(params)?,
            state: params.bounded("state", MAX_STATE)?,
            nonce,
            code_challenge: challenge,
            prompt: prompt(params)?,
            max_age: max_age(params)?,
            login_hint: params.get("login_hint").filter(|h| h.len() <= MAX_HINT).map(str::to_owned),
            id_token_hint: params.bounded("id_token_hint", MAX_ID_TOKEN_HINT)?,
            acr_values: acr_values(params)?,
            claims: params.get("claims").map(ClaimsRequest::parse).transpose()?.unwrap_or_default(),
            resources: resources(params)?,
            dpop_jkt: dpop_jkt(params)?,
            connector_id: params.bounded("connector_id", 253)?,
            force_approval: params.get("approval_prompt") == Some("force"),
        })
    }
}

/// As the answer would travel, or as near to it as what was sent can be understood.
fn mode_of_errors(params: &Params) -> ResponseMode {
    let asked = params.get("response_mode").and_then(ResponseMode::parse);
    let words = params.get("response_type").unwrap_or_default();
    let default = match ResponseType::parse(words) {
        Some(known) => known.default_mode(),
        None if words.split(' ').any(|word| matches!(word, "token" | "id_token")) => {
            ResponseMode::Fragment
        }
        None => ResponseMode::Query,
    };
    // An error is no secret, but whoever asked for a token in the query gets nothing there.
    asked.filter(|mode| *mode != ResponseMode::Query || default == *mode).unwrap_or(default)
}

fn response_mode(
    params: &Params,
    response_type: ResponseType,
) -> Result<ResponseMode, ErrorResponse> {
    let Some(text) = params.get("response_mode") else { return Ok(response_type.default_mode()) };
    let mode = ResponseMode::parse(text).ok_or_else(|| {
        ErrorResponse::invalid_request("response_mode must be query, fragment or form_post")
    })?;
    if mode.carries(response_type) {
        return Ok(mode);
    }
    let why = "response_mode=query carries no token: use fragment or form_post";
    Err(ErrorResponse::invalid_request(why))
}

fn acr_values(params: &Params) -> Result<Vec<String>, ErrorResponse> {
    let values = params.bounded("acr_values", MAX_ACR_VALUES)?.unwrap_or_default();
    Ok(values.split(' ').filter(|value| !value.is_empty()).map(str::to_owned).collect())
}

/// A SHA-256 thumbprint (RFC 7638), base64url. Taken for what it is not, it would bind the code to no key at all.
fn dpop_jkt(params: &Params) -> Result<Option<String>, ErrorResponse> {
    let Some(text) = params.get("dpop_jkt") else { return Ok(None) };
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if text.len() == THUMBPRINT && text.bytes().all(is_base64url) {
        Ok(Some(text.to_owned()))
    } else {
        let why = "dpop_jkt must be the base64url SHA-256 thumbprint of a key (RFC 7638)";
        Err(ErrorResponse::invalid_request(why))
    }
}

/// The `resource` parameters of any request (RFC 8707 2).
///
/// # Errors
/// `invalid_target`.
pub fn resources(params: &Params) -> Result<Vec<String>, ErrorResponse> {
    let invalid = |why: &str| Err(ErrorResponse::new(ErrorCode::InvalidTarget, why));
    let mut resources: Vec<String> = Vec::new();
    for resource in params.all("resource") {
        if resource.len() > MAX_RESOURCE || resource.contains('#') || Url::parse(resource).is_err()
        {
            return invalid(
                "resource must be an absolute URI without fragment, of at most 512 bytes",
            );
        }
        if !resources.iter().any(|known| known == resource) {
            resources.push(resource.to_owned());
        }
    }
    if resources.len() > MAX_RESOURCES {
        return invalid("more than 4 resources");
    }
    Ok(resources)
}

fn refuse_unsupported(params: &Params) -> Result<(), ErrorResponse> {
    for (name, code) in [
        ("request", ErrorCode::RequestNotSupported),
        ("request_uri", ErrorCode::RequestUriNotSupported),
        ("registration", ErrorCode::RegistrationNotSupported),
    ] {
        if params.get(name).is_some() {
            return Err(ErrorResponse::new(code, &format!("{name} is not supported")));
        }
    }
    Ok(())
}

fn scope(params: &Params) -> Result<ScopeSet, ErrorResponse> {
    let invalid = |why: &str| ErrorResponse::new(ErrorCode::InvalidScope, why);
    let scope = ScopeSet::parse(params.get("scope").unwrap_or_default())
        .map_err(|error| invalid(&error.to_string()))?;
    if scope.contains("openid") { Ok(scope) } else { Err(invalid("scope must contain openid")) }
}

fn prompt(params: &Params) -> Result<BTreeSet<Prompt>, ErrorResponse> {
    let mut prompts = BTreeSet::new();
    for word in params.get("prompt").unwrap_or_default().split(' ').filter(|w| !w.is_empty()) {
        prompts.insert(match word {
            "none" => Prompt::None,
            "login" => Prompt::Login,
            "consent" => Prompt::Consent,
            "select_account" => Prompt::SelectAccount,
            _ => {
                return Err(ErrorResponse::invalid_request(
                    "prompt must be none, login, consent or select_account",
                ));
            }
        });
    }
    if prompts.contains(&Prompt::None) && prompts.len() > 1 {
        return Err(ErrorResponse::invalid_request("prompt=none stands alone"));
    }
    Ok(prompts)
}

fn max_age(params: &Params) -> Result<Option<i64>, ErrorResponse> {
    params
        .get("max_age")
        .map(|text| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or_else(|| {
                ErrorResponse::invalid_request("max_age must be a number of seconds")
            })
        })
        .transpose()
}

/// An authorization response: its parameters, wherever they travel.
#[derive(Debug, Clone, Default)]
pub struct AuthorizationResponse(Vec<(&'static str, String)>);

impl AuthorizationResponse {
    /// An error.
    pub fn error(code: ErrorCode, description: &str) -> Self {
        let mut params = vec![("error", code.as_str().to_owned())];
        if !description.is_empty() {
            params.push(("error_description", printable(description)));
        }
        Self(params)
    }

    /// The same with one parameter more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    /// The response on its way: with `state`, as it was sent, and the issuer that answers (RFC 9207 2).
    pub fn deliver(
        self,
        state: Option<&str>,
        issuer: &str,
        to: (&RedirectUri, ResponseMode),
    ) -> Delivery {
        let (redirect_uri, mode) = to;
        let mut fields = self.0;
        fields.extend(state.map(|state| ("state", state.to_owned())));
        fields.push(("iss", issuer.to_owned()));
        Delivery::of(fields, mode, redirect_uri)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn validate(query: &str) -> Result<AuthorizationRequest, ErrorCode> {
        let params = Params::parse(query.as_bytes()).unwrap();
        UnverifiedRequest::parse(&params).unwrap().validate().map_err(|error| error.error)
    }

    #[test]
    fn a_good_request_is_read_whole() {
        let request = validate(
            "client_id=web&redirect_uri=https://a/&response_type=code&scope=openid+email&state=s&nonce=n&\
             code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256&\
             prompt=login+consent&max_age=0&login_hint=a@b&connector_id=ldap&approval_prompt=force&\
             acr_values=silver+gold&id_token_hint=ey&claims=%7B%22id_token%22:%7B%22acr%22:null%7D%7D&\
             resource=https://a/&resource=urn:b&ui_locales=de&display=popup&unknown=x",
        )
        .unwrap();
        assert_eq!(request.response_type, ResponseType::Code);
        assert_eq!(request.response_mode, ResponseMode::Query);
        assert_eq!(request.acr_values, ["silver", "gold"]);
        assert_eq!(request.id_token_hint.as_deref(), Some("ey"));
        assert!(request.claims.id_token.contains_key("acr"));
        assert_eq!(request.resources, ["https://a/", "urn:b"]);
        assert!(request.code_challenge.is_some() && request.force_approval);
        assert_eq!(request.prompt, BTreeSet::from([Prompt::Login, Prompt::Consent]));
        assert_eq!((request.max_age, request.login_hint.as_deref()), (Some(0), Some("a@b")));
    }

    #[test]
    fn each_fault_has_the_specifications_code() {
        let base = "client_id=web&response_type=code&scope=openid";
        assert!(validate(base).is_ok());
        for (query, code) in [
            ("client_id=web&scope=openid", ErrorCode::InvalidRequest),
            ("client_id=web&response_type=token&scope=openid", ErrorCode::UnsupportedResponseType),
            ("client_id=web&response_type=code", ErrorCode::InvalidScope),
            (&format!("{base}&request=x"), ErrorCode::RequestNotSupported),
            (&format!("{base}&request_uri=x"), ErrorCode::RequestUriNotSupported),
            (&format!("{base}&registration=x"), ErrorCode::RegistrationNotSupported),
            (&format!("{base}&prompt=none+login"), ErrorCode::InvalidRequest),
            (&format!("{base}&prompt=x"), ErrorCode::InvalidRequest),
            (&format!("{base}&max_age=-1"), ErrorCode::InvalidRequest),
            (&format!("{base}&max_age=%2B5"), ErrorCode::InvalidRequest),
            (&format!("{base}&response_mode=web_message"), ErrorCode::InvalidRequest),
            ("client_id=web&response_type=id_token&scope=openid", ErrorCode::InvalidRequest),
            (
                "client_id=web&response_type=code+token&scope=openid&response_mode=query",
                ErrorCode::InvalidRequest,
            ),
            (&format!("{base}&claims=x"), ErrorCode::InvalidRequest),
            (&format!("{base}&resource=api"), ErrorCode::InvalidTarget),
            (&format!("{base}&resource=https://a/%23x"), ErrorCode::InvalidTarget),
            (
                &format!("{base}&resource=a:1&resource=a:2&resource=a:3&resource=a:4&resource=a:5"),
                ErrorCode::InvalidTarget,
            ),
            (&format!("{base}&code_challenge_method=S256"), ErrorCode::InvalidRequest),
            (&format!("{base}&state={}", "s".repeat(513)), ErrorCode::InvalidRequest),
            (&format!("{base}&nonce={}", "n".repeat(257)), ErrorCode::InvalidRequest),
        ] {
            assert_eq!(validate(query).err(), Some(code), "{query}");
        }
    }

    #[test]
    fn errors_travel_as_the_answer_would_have() {
        use ResponseMode::{FormPost, Fragment, Query};
        let mode = |query: &str| {
            let params = Params::parse(format!("client_id=web&{query}").as_bytes()).unwrap();
            UnverifiedRequest::parse(&params).unwrap().response_mode
        };
        for (query, expected) in [
            ("", Query),
            ("response_type=code", Query),
            ("response_type=nonsense", Query),
            ("response_type=token", Fragment),
            ("response_type=token+nonsense", Fragment),
            ("response_type=id_token", Fragment),
            ("response_type=code+id_token&response_mode=query", Fragment),
            ("response_type=code&response_mode=fragment", Fragment),
            ("response_type=code&response_mode=form_post", FormPost),
            ("response_type=id_token&response_mode=nonsense", Fragment),
        ] {
            assert_eq!(mode(query), expected, "{query}");
        }
    }

    #[test]
    fn answers_carry_state_and_issuer() {
        let redirect_uri = RedirectUri::parse("https://a.example/cb").unwrap();
        let answer = AuthorizationResponse::default().with("code", "c");
        let to = (&redirect_uri, ResponseMode::Query);
        assert_eq!(
            answer.deliver(Some("s&"), "https://id.example", to),
            Delivery::Redirect(
                "https://a.example/cb?code=c&state=s%26&iss=https%3A%2F%2Fid.example".into()
            )
        );
    }

    proptest! {
        #[test]
        fn any_query_is_answered(query in "\\PC{0,200}") {
            if let Ok(request) = Params::parse(query.as_bytes()).and_then(|p| UnverifiedRequest::parse(&p)) {
                let _ = request.validate();
            }
        }
    }
}
