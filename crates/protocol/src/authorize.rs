//! The authorization endpoint (RFC 6749 4.1.1, OIDC Core 3.1.2): a request in two stages, and its answer.
//!
//! Before client and redirect URI are known good, an error may only be shown to the user; afterwards
//! it goes to the client. [`UnverifiedRequest`] is the first stage, [`AuthorizationRequest`] the second.

use std::collections::BTreeSet;

use crate::error::{ErrorCode, ErrorResponse, printable};
use crate::form::Params;
use crate::pkce::CodeChallenge;
use crate::redirect_uri::RedirectUri;
use crate::scope::ScopeSet;

/// Longest `state`, in bytes. State, nonce, scope and redirect URI together must fit one cookie.
pub const MAX_STATE: usize = 512;
/// Longest `nonce`, in bytes.
pub const MAX_NONCE: usize = 256;
const MAX_CLIENT_ID: usize = 512;
const MAX_REDIRECT_URI: usize = 2_048;
const MAX_HINT: usize = 254;

/// A request whose client and redirect URI are still to be checked.
#[derive(Debug, Clone)]
pub struct UnverifiedRequest {
    /// `client_id`.
    pub client_id: String,
    /// `redirect_uri`.
    pub redirect_uri: Option<String>,
    /// `state`; an error returns it whatever its length (RFC 6749 4.1.2.1).
    pub state: Option<String>,
    params: Params,
}

/// A request that is in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationRequest {
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
        match params.required("response_type", 128)?.as_str() {
            "code" => {}
            _ => {
                return Err(ErrorResponse::new(
                    ErrorCode::UnsupportedResponseType,
                    "response_type must be code",
                ));
            }
        }
        match params.get("response_mode") {
            None | Some("query") => {}
            Some(_) => return Err(ErrorResponse::invalid_request("response_mode must be query")),
        }
        let challenge = params
            .get("code_challenge")
            .map(|challenge| CodeChallenge::parse(challenge, params.get("code_challenge_method")))
            .transpose()?;
        if challenge.is_none() && params.get("code_challenge_method").is_some() {
            return Err(ErrorResponse::invalid_request("code_challenge is missing"));
        }
        Ok(AuthorizationRequest {
            scope: scope(params)?,
            state: params.bounded("state", MAX_STATE)?,
            nonce: params.bounded("nonce", MAX_NONCE)?,
            code_challenge: challenge,
            prompt: prompt(params)?,
            max_age: max_age(params)?,
            login_hint: params.get("login_hint").filter(|h| h.len() <= MAX_HINT).map(str::to_owned),
            connector_id: params.bounded("connector_id", 253)?,
            force_approval: params.get("approval_prompt") == Some("force"),
        })
    }
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

/// An authorization response: what is added to the redirect URI.
#[derive(Debug, Clone)]
pub struct AuthorizationResponse(Vec<(&'static str, String)>);

impl AuthorizationResponse {
    /// A code, with the issuer that made it (RFC 9207).
    pub fn success(code: &str, state: Option<&str>, issuer: &str) -> Self {
        Self(vec![("code", code.to_owned())]).finish(state, issuer)
    }

    /// An error.
    pub fn error(code: ErrorCode, description: &str, state: Option<&str>, issuer: &str) -> Self {
        let mut params = vec![("error", code.as_str().to_owned())];
        if !description.is_empty() {
            params.push(("error_description", printable(description)));
        }
        Self(params).finish(state, issuer)
    }

    /// Where the browser is sent.
    pub fn location(&self, redirect_uri: &RedirectUri) -> String {
        redirect_uri.with_params(self.0.iter().map(|(name, value)| (*name, value.as_str())))
    }

    fn finish(mut self, state: Option<&str>, issuer: &str) -> Self {
        if let Some(state) = state {
            self.0.push(("state", state.to_owned()));
        }
        self.0.push(("iss", issuer.to_owned()));
        self
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
             prompt=login+consent&max_age=0&login_hint=a@b&connector_id=ldap&approval_prompt=force",
        )
        .unwrap();
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
            (&format!("{base}&response_mode=fragment"), ErrorCode::InvalidRequest),
            (&format!("{base}&code_challenge_method=S256"), ErrorCode::InvalidRequest),
            (&format!("{base}&state={}", "s".repeat(513)), ErrorCode::InvalidRequest),
            (&format!("{base}&nonce={}", "n".repeat(257)), ErrorCode::InvalidRequest),
        ] {
            assert_eq!(validate(query).err(), Some(code), "{query}");
        }
    }

    #[test]
    fn answers_carry_state_and_issuer() {
        let redirect_uri = RedirectUri::parse("https://a.example/cb").unwrap();
        let answer = AuthorizationResponse::success("c", Some("s&"), "https://id.example");
        assert_eq!(
            answer.location(&redirect_uri),
            "https://a.example/cb?code=c&state=s%26&iss=https%3A%2F%2Fid.example"
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
