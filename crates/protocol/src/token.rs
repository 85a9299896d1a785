//! The token endpoint's request and answer (RFC 6749 4.1.3, 5.1 and 6).

use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};

use crate::authorize::resources;
use crate::device::{self, DeviceAccessTokenRequest};
use crate::error::{ErrorCode, ErrorResponse};
use crate::form::Params;
use crate::jwt_bearer::{self, JwtBearerRequest};
use crate::pkce::CodeVerifier;
use crate::scope::ScopeSet;
use crate::token_exchange::{self, IssuedTokenType, TokenExchangeRequest};

const MAX_REDIRECT_URI: usize = 2_048;

/// A request at the token endpoint, by grant type.
#[derive(Debug)]
pub enum TokenRequest {
    /// `authorization_code`.
    AuthorizationCode(AuthorizationCodeRequest),
    /// `refresh_token`.
    RefreshToken(RefreshTokenRequest),
    /// `client_credentials`.
    ClientCredentials(ClientCredentialsRequest),
    /// `urn:ietf:params:oauth:grant-type:token-exchange`.
    TokenExchange(TokenExchangeRequest),
    /// `urn:ietf:params:oauth:grant-type:device_code`.
    DeviceCode(DeviceAccessTokenRequest),
    /// `urn:ietf:params:oauth:grant-type:jwt-bearer`.
    JwtBearer(JwtBearerRequest),
    /// `password`.
    Password(PasswordRequest),
}

/// `grant_type=authorization_code` (RFC 6749 4.1.3, RFC 7636 4.5).
#[derive(Debug)]
pub struct AuthorizationCodeRequest {
    /// The code, of any length: one that is not ours is `invalid_grant`.
    pub code: SecretString,
    /// `redirect_uri`, to be compared with that of the authorization request.
    pub redirect_uri: Option<String>,
    /// PKCE verifier.
    pub code_verifier: Option<CodeVerifier>,
    /// Resources to narrow the access token to (RFC 8707 2.2).
    pub resources: Vec<String>,
}

/// `grant_type=refresh_token` (RFC 6749 6).
#[derive(Debug)]
pub struct RefreshTokenRequest {
    /// The token.
    pub refresh_token: SecretString,
    /// Scopes to narrow the answer to.
    pub scope: Option<ScopeSet>,
    /// Resources to narrow the access token to (RFC 8707 2.2).
    pub resources: Vec<String>,
}

/// `grant_type=client_credentials` (RFC 6749 4.4.2).
#[derive(Debug)]
pub struct ClientCredentialsRequest {
    /// Scopes asked for.
    pub scope: Option<ScopeSet>,
    /// Resources the access token is to be for (RFC 8707 2.2).
    pub resources: Vec<String>,
}

/// `grant_type=password` (RFC 6749 4.3.2).
#[derive(Debug)]
pub struct PasswordRequest {
    /// The user's name.
    pub username: String,
    /// Their password.
    pub password: SecretString,
    /// Scopes asked for; `openid` is among them.
    pub scope: ScopeSet,
    /// Resources the access token is to be for (RFC 8707 2.2).
    pub resources: Vec<String>,
}

/// Longest user name looked at, in bytes.
const MAX_USERNAME: usize = 512;
/// Longest password looked at, in bytes.
const MAX_PASSWORD: usize = 1_024;

impl PasswordRequest {
    fn parse(params: &Params) -> Result<Self, ErrorResponse> {
        let scope = scope(params)?.unwrap_or_default();
        if !scope.contains("openid") {
            let why = "scope must contain openid";
            return Err(ErrorResponse::new(ErrorCode::InvalidScope, why));
        }
        Ok(Self {
            username: params.required("username", MAX_USERNAME)?,
            password: SecretString::from(params.required("password", MAX_PASSWORD)?),
            scope,
            resources: resources(params)?,
        })
    }
}

impl TokenRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// `invalid_request`, `invalid_scope` or `unsupported_grant_type`.
    pub fn parse(params: &Params) -> Result<Self, ErrorResponse> {
        match params.required("grant_type", 128)?.as_str() {
            "authorization_code" => {
                let verifier = params.get("code_verifier").map(CodeVerifier::parse).transpose()?;
                Ok(Self::AuthorizationCode(AuthorizationCodeRequest {
                    code: SecretString::from(params.required("code", usize::MAX)?),
                    redirect_uri: params.bounded("redirect_uri", MAX_REDIRECT_URI)?,
                    code_verifier: verifier,
                    resources: resources(params)?,
                }))
            }
            "refresh_token" => {
                let scope = scope(params)?;
                let refresh_token = params.required("refresh_token", usize::MAX)?;
                Ok(Self::RefreshToken(RefreshTokenRequest {
                    refresh_token: SecretString::from(refresh_token),
                    scope,
                    resources: resources(params)?,
                }))
            }
            "client_credentials" => {
                let scope = scope(params)?;
                let resources = resources(params)?;
                Ok(Self::ClientCredentials(ClientCredentialsRequest { scope, resources }))
            }
            token_exchange::GRANT_TYPE => {
                TokenExchangeRequest::parse(params, scope(params)?).map(Self::TokenExchange)
            }
            device::GRANT_TYPE => DeviceAccessTokenRequest::parse(params).map(Self::DeviceCode),
            jwt_bearer::GRANT_TYPE => {
                JwtBearerRequest::parse(params, scope(params)?).map(Self::JwtBearer)
            }
            "password" => PasswordRequest::parse(params).map(Self::Password),
            _ => Err(ErrorResponse::new(
                ErrorCode::UnsupportedGrantType,
                "grant_type must be one of grant_types_supported in the issuer's metadata",
            )),
        }
    }
}

fn scope(params: &Params) -> Result<Option<ScopeSet>, ErrorResponse> {
    let scope = params.get("scope").map(ScopeSet::parse).transpose();
    scope.map_err(|error| ErrorResponse::new(ErrorCode::InvalidScope, &error.to_string()))
}

/// A successful answer (RFC 6749 5.1, OIDC Core 3.1.3.3).
#[derive(Debug, Serialize)]
pub struct TokenResponse {
    /// Access token.
    #[serde(serialize_with = "expose")]
    pub access_token: SecretString,
    /// `Bearer`, `DPoP` for a token that is bound to a key, or `N_A` where what was issued is no access token
    /// (RFC 8693 2.2.1).
    pub token_type: &'static str,
    /// What an exchange issued (RFC 8693 2.2.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_token_type: Option<IssuedTokenType>,
    /// Seconds until the access token dies.
    pub expires_in: i64,
    /// Refresh token, where there is one.
    #[serde(serialize_with = "expose_some", skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<SecretString>,
    /// ID token.
    #[serde(serialize_with = "expose_some", skip_serializing_if = "Option::is_none")]
    pub id_token: Option<SecretString>,
    /// Granted scopes, space-separated; none is left out (RFC 6749 3.3 has no empty list).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
}

impl TokenResponse {
    /// An answer with these tokens.
    pub fn new(
        access_token: String,
        expires_in: i64,
        id_token: Option<String>,
        refresh_token: Option<SecretString>,
        scope: String,
    ) -> Self {
        Self {
            access_token: SecretString::from(access_token),
            token_type: "Bearer",
            issued_token_type: None,
            expires_in,
            refresh_token,
            id_token: id_token.map(SecretString::from),
            scope,
        }
    }

    /// The same as the answer to an exchange: what stands in `access_token` is of this type.
    #[must_use]
    pub fn exchanged(self, issued: IssuedTokenType) -> Self {
        let token_type = match issued {
            IssuedTokenType::AccessToken => "Bearer",
            IssuedTokenType::IdToken => "N_A",
        };
        Self { token_type, issued_token_type: Some(issued), ..self }
    }

    /// The same, of a token that is bound to the client's key (RFC 9449 5).
    #[must_use]
    pub fn bound_to_key(self) -> Self {
        Self { token_type: "DPoP", ..self }
    }
}

fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

#[expect(clippy::ref_option, reason = "the signature that serde's serialize_with calls")]
fn expose_some<S: Serializer>(
    secret: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => expose(secret, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<TokenRequest, ErrorCode> {
        TokenRequest::parse(&Params::parse(body.as_bytes()).unwrap()).map_err(|error| error.error)
    }

    #[test]
    fn requests_are_read_and_nonsense_is_named() {
        assert!(matches!(
            parse("grant_type=authorization_code&code=c&redirect_uri=https://a/"),
            Ok(TokenRequest::AuthorizationCode(r)) if r.code.expose_secret() == "c" && r.code_verifier.is_none()
        ));
        assert!(matches!(
            parse("grant_type=refresh_token&refresh_token=t&scope=openid"),
            Ok(TokenRequest::RefreshToken(r)) if r.scope.is_some()
        ));
        assert!(matches!(
            parse("grant_type=client_credentials&scope=groups"),
            Ok(TokenRequest::ClientCredentials(r)) if r.scope.is_some()
        ));
        for (body, code) in [
            ("grant_type=client_credentials&scope=%22", ErrorCode::InvalidScope),
            (
                "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&scope=openid",
                ErrorCode::InvalidRequest,
            ),
            ("", ErrorCode::InvalidRequest),
            ("grant_type=implicit", ErrorCode::UnsupportedGrantType),
            ("grant_type=password&username=u&password=p&scope=email", ErrorCode::InvalidScope),
            ("grant_type=password&username=u&password=p", ErrorCode::InvalidScope),
            ("grant_type=password&username=u&scope=openid", ErrorCode::InvalidRequest),
            ("grant_type=password&password=p&scope=openid", ErrorCode::InvalidRequest),
            ("grant_type=authorization_code", ErrorCode::InvalidRequest),
            ("grant_type=authorization_code&code=c&code_verifier=short", ErrorCode::InvalidRequest),
            ("grant_type=refresh_token&refresh_token=t&scope=%22", ErrorCode::InvalidScope),
        ] {
            assert_eq!(parse(body).err(), Some(code), "{body}");
        }
    }

    #[test]
    fn answers_are_json_on_the_wire_and_redacted_in_logs() {
        let refresh = Some(SecretString::from("rt"));
        let answer =
            TokenResponse::new("at".into(), 600, Some("id".into()), refresh, "openid".into());
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            r#"{"access_token":"at","token_type":"Bearer","expires_in":600,"refresh_token":"rt","id_token":"id","scope":"openid"}"#
        );
        assert!(!format!("{answer:?}").contains("\"at\""));
    }
}
