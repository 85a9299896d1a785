//! Forms of the token endpoint, by grant: what is read is what was written, bounded, and in no log.

use claviger_protocol::form::Params;
use claviger_protocol::scope::ScopeSet;
use claviger_protocol::token::TokenRequest;
use claviger_protocol::token_exchange::{IssuedTokenType, SubjectTokenType};
use secrecy::{ExposeSecret, SecretString};

const TYPES: &str = "urn:ietf:params:oauth:token-type:";

/// A form: whichever grant it asks for.
pub fn grant(bytes: &[u8]) {
    let Ok(params) = Params::parse(bytes) else { return };
    let Ok(request) = TokenRequest::parse(&params) else { return };
    let printed = format!("{request:?}");
    let secret = |name: &str, read: &SecretString| {
        let written = params.get(name).expect("what is demanded is there");
        assert_eq!(read.expose_secret(), written, "{name}");
        let is_telling =
            written.len() > 16 && !params.pairs().any(|(n, v)| n != name && v.contains(written));
        assert!(!is_telling || !printed.contains(written), "{name} is in a log: {printed}");
    };
    match &request {
        TokenRequest::AuthorizationCode(request) => {
            secret("code", &request.code);
            are_resources(&params, &request.resources);
        }
        TokenRequest::RefreshToken(request) => {
            secret("refresh_token", &request.refresh_token);
            are_resources(&params, &request.resources);
            are_scopes(&params, request.scope.as_ref());
        }
        TokenRequest::ClientCredentials(request) => {
            are_resources(&params, &request.resources);
            are_scopes(&params, request.scope.as_ref());
        }
        TokenRequest::Password(request) => {
            secret("password", &request.password);
            assert_eq!(params.get("username"), Some(request.username.as_str()));
            assert!(
                request.username.len() <= 512 && request.password.expose_secret().len() <= 1_024
            );
            assert!(request.scope.contains("openid"), "a password for no user");
            are_resources(&params, &request.resources);
            are_scopes(&params, Some(&request.scope));
        }
        TokenRequest::DeviceCode(request) => {
            secret("device_code", &request.device_code);
            are_resources(&params, &request.resources);
        }
        TokenRequest::JwtBearer(request) => {
            secret("assertion", &request.assertion);
            are_resources(&params, &request.resources);
            are_scopes(&params, request.scope.as_ref());
        }
        TokenRequest::TokenExchange(request) => {
            secret("subject_token", &request.subject_token);
            are_resources(&params, &request.resources);
            are_scopes(&params, request.scope.as_ref());
            let kind = match request.subject_token_type {
                SubjectTokenType::AccessToken => "access_token",
                SubjectTokenType::IdToken => "id_token",
                SubjectTokenType::Jwt => "jwt",
            };
            assert_eq!(params.get("subject_token_type"), Some(&*format!("{TYPES}{kind}")));
            assert!(params.get("actor_token").is_none(), "an actor is passed over");
            let audiences: Vec<_> = params.all("audience").collect();
            assert_eq!(audiences, request.audience.as_deref().as_slice(), "an audience is lost");
            assert!(audiences.iter().all(|audience| audience.len() <= 512));
            let wanted = match params.get("requested_token_type") {
                Some(said) => said == format!("{TYPES}id_token"),
                None => !audiences.is_empty(),
            };
            assert_eq!(request.requested == IssuedTokenType::IdToken, wanted);
        }
    }
}

/// Resources are those that were named, each once, absolute and without fragment (RFC 8707 2).
pub fn are_resources(params: &Params, read: &[String]) {
    assert!(read.len() <= 4, "{} resources", read.len());
    for named in params.all("resource") {
        assert!(read.iter().any(|one| one == named), "{named} is lost");
    }
    for (at, one) in read.iter().enumerate() {
        assert!(params.all("resource").any(|named| named == one), "{one} was not named");
        assert!(!read[..at].contains(one), "{one} twice");
        assert!(url::Url::parse(one).is_ok_and(|url| url.fragment().is_none()), "{one}");
        assert!(one.len() <= 512, "a resource of {}", one.len());
    }
}

/// Scopes are those that were asked for.
fn are_scopes(params: &Params, read: Option<&ScopeSet>) {
    let asked: Vec<_> = params.get("scope").into_iter().flat_map(|text| text.split(' ')).collect();
    for scope in read.into_iter().flat_map(ScopeSet::iter) {
        assert!(asked.contains(&scope.as_str()), "{} was not asked for", scope.as_str());
    }
}
