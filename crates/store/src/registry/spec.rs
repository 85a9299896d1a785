//! What a client says of itself ⇄ the spec of its OAuth2Client.

use claviger_api::time;
use claviger_api::{
    BackChannelLogout, ClientAuthentication, ClientAuthenticationMethod, ClientInformation,
    ClientRegistration, ClientType, Dpop, FrontChannelLogout, Grant, IssuerRef, JsonWebKeySet,
    LogoutTokenNames, OAuth2Client, OAuth2ClientSpec, PushedAuthorizationRequests, ResponseType,
    Scope, SecretKeyRef, SigningAlgorithm,
};
use claviger_domain::registry::{
    self, BackChannelAddress, ClientMetadata, ClientPages, KeptClient, LogoutAddresses, NewClient,
    RegisteredProof, RegistryError, ScopeSet,
};
use kube::api::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Key of a registered client's Secret.
pub const SECRET_KEY: &str = "client_secret";
/// The word for tokens from the authorization endpoint, which no OAuth2Client has among its grants.
const IMPLICIT: &str = "implicit";

/// The object of a new client.
pub fn object(client: &NewClient, home: &str) -> Result<OAuth2Client, RegistryError> {
    let mut spec = empty(client, home)?;
    let secret = client
        .secret
        .is_some()
        .then(|| SecretKeyRef { name: client.place.name.clone(), key: SECRET_KEY.to_owned() });
    spec.authentication = match &client.metadata.proof {
        RegisteredProof::Nothing => None,
        _ => Some(ClientAuthentication { secret_ref: secret, ..ClientAuthentication::default() }),
    };
    say(&mut spec, &client.metadata)?;
    Ok(OAuth2Client {
        metadata: ObjectMeta { name: Some(client.place.name.clone()), ..ObjectMeta::default() },
        spec,
        status: None,
    })
}

/// A spec with every default of the schema.
fn empty(client: &NewClient, home: &str) -> Result<OAuth2ClientSpec, RegistryError> {
    let type_ = match client.metadata.proof {
        RegisteredProof::Nothing => ClientType::Public,
        _ => ClientType::Confidential,
    };
    let issuer = IssuerRef { name: client.issuer.clone(), namespace: Some(home.to_owned()) };
    let mut spec: OAuth2ClientSpec =
        serde_json::from_value(json!({"issuerRef": issuer, "type": type_}))
            .map_err(|error| RegistryError::Unavailable(error.to_string()))?;
    spec.registration =
        Some(ClientRegistration { access_token_digest: client.token_digest.clone() });
    Ok(spec)
}

/// Writes what a client says into its spec, and nothing beside it.
pub fn say(spec: &mut OAuth2ClientSpec, said: &ClientMetadata) -> Result<(), RegistryError> {
    spec.display_name.clone_from(&said.name);
    spec.redirect_uris.clone_from(&said.redirect_uris);
    spec.post_logout_redirect_uris.clone_from(&said.post_logout_redirect_uris);
    spec.response_types = said
        .response_types
        .iter()
        .map(|response_type| word(response_type.as_str(), "response_types"))
        .collect::<Result<_, _>>()?;
    let grants = said.grant_types.iter().filter(|grant| *grant != IMPLICIT);
    spec.grants = grants.map(|grant| word(grant, "grant_types")).collect::<Result<_, _>>()?;
    // What an administrator added for a grant goes with the grant.
    if !spec.grants.contains(&Grant::Password) {
        spec.password_grant = None;
    }
    if !spec.grants.contains(&Grant::JwtBearer) {
        spec.jwt_bearer = None;
    }
    let scopes = said.scope.iter().flat_map(ScopeSet::iter);
    spec.scopes = scopes.map(|scope| word(scope.as_str(), "scope")).collect::<Result<_, _>>()?;
    let algorithm = said.id_token_algorithm.as_deref();
    spec.id_token_signing_algorithm =
        algorithm.map(|name| word(name, "id_token_signed_response_alg")).transpose()?;
    spec.pushed_authorization_requests =
        said.pushed_requests.then_some(PushedAuthorizationRequests::Required);
    spec.dpop = said.dpop.then_some(Dpop::Required);
    spec.information = information(said);
    say_logout(spec, &said.logout);
    if let Some(authentication) = &mut spec.authentication {
        prove(authentication, &said.proof)?;
    }
    Ok(())
}

/// A client that needs no `sid` knows its users alone, so it is told who (Back-Channel Logout 2.4).
fn say_logout(spec: &mut OAuth2ClientSpec, said: &LogoutAddresses) {
    spec.back_channel_logout = said.back_channel.as_ref().map(|said| BackChannelLogout {
        uri: said.uri.clone(),
        names: if said.session_required {
            LogoutTokenNames::Session
        } else {
            LogoutTokenNames::SessionAndUser
        },
    });
    let page = said.front_channel.clone();
    spec.front_channel_logout = page.map(|uri| FrontChannelLogout { uri });
}

fn logout(spec: &OAuth2ClientSpec) -> LogoutAddresses {
    LogoutAddresses {
        back_channel: spec.back_channel_logout.as_ref().map(|kept| BackChannelAddress {
            uri: kept.uri.clone(),
            session_required: kept.names == LogoutTokenNames::Session,
        }),
        front_channel: spec.front_channel_logout.as_ref().map(|kept| kept.uri.clone()),
    }
}

fn prove(
    authentication: &mut ClientAuthentication,
    proof: &RegisteredProof,
) -> Result<(), RegistryError> {
    authentication.jwks = None;
    authentication.jwks_uri = None;
    authentication.method = word(proof.as_str(), "token_endpoint_auth_method")?;
    match proof {
        RegisteredProof::Keys(keys) => {
            let keys: JsonWebKeySet = serde_json::from_value(keys.clone())
                .map_err(|error| RegistryError::Invalid(format!("jwks: {error}")))?;
            authentication.jwks = Some(keys);
        }
        RegisteredProof::KeysAt(uri) => authentication.jwks_uri = Some(uri.clone()),
        RegisteredProof::SecretBasic | RegisteredProof::SecretPost | RegisteredProof::Nothing => {}
    }
    Ok(())
}

fn information(said: &ClientMetadata) -> Option<ClientInformation> {
    let information = ClientInformation {
        client_uri: said.pages.client.clone(),
        logo_uri: said.pages.logo.clone(),
        policy_uri: said.pages.policy.clone(),
        tos_uri: said.pages.terms.clone(),
        contacts: said.contacts.clone(),
    };
    (information != ClientInformation::default()).then_some(information)
}

/// What is kept of a client.
pub fn kept(object: &OAuth2Client) -> KeptClient {
    let spec = &object.spec;
    let registered_at = object.metadata.creation_timestamp.as_ref().map(time::to_seconds);
    KeptClient {
        registered_at: registered_at.unwrap_or_default(),
        metadata: metadata(spec),
        token_digest: spec.registration.as_ref().map(|known| known.access_token_digest.clone()),
    }
}

fn metadata(spec: &OAuth2ClientSpec) -> ClientMetadata {
    let pages = spec.information.clone().unwrap_or_default();
    let types = spec.response_types.iter();
    let types = types.filter_map(|known| registry::ResponseType::parse(known.as_str()));
    let implicit = spec.response_types.iter().any(|known| *known != ResponseType::Code);
    let grants = spec.grants.iter().map(|grant| Grant::as_str(*grant));
    let scope: Vec<_> = spec.scopes.iter().map(|scope| Scope::as_str(*scope)).collect();
    ClientMetadata {
        redirect_uris: spec.redirect_uris.clone(),
        post_logout_redirect_uris: spec.post_logout_redirect_uris.clone(),
        response_types: types.collect(),
        grant_types: grants.chain(implicit.then_some(IMPLICIT)).map(str::to_owned).collect(),
        proof: proof(spec.authentication.as_ref()),
        name: spec.display_name.clone(),
        pages: ClientPages {
            client: pages.client_uri,
            logo: pages.logo_uri,
            policy: pages.policy_uri,
            terms: pages.tos_uri,
        },
        logout: logout(spec),
        contacts: pages.contacts,
        scope: ScopeSet::parse(&scope.join(" ")).ok(),
        id_token_algorithm: spec
            .id_token_signing_algorithm
            .map(|algorithm| SigningAlgorithm::as_str(algorithm).to_owned()),
        pushed_requests: spec.pushed_requests_required(),
        dpop: spec.dpop_required(),
    }
}

fn proof(authentication: Option<&ClientAuthentication>) -> RegisteredProof {
    let Some(authentication) = authentication else { return RegisteredProof::Nothing };
    let keys = authentication.jwks.as_ref().and_then(|keys| serde_json::to_value(keys).ok());
    match authentication.method {
        ClientAuthenticationMethod::ClientSecretBasic => RegisteredProof::SecretBasic,
        ClientAuthenticationMethod::ClientSecretPost => RegisteredProof::SecretPost,
        ClientAuthenticationMethod::PrivateKeyJwt => match (keys, &authentication.jwks_uri) {
            (None, Some(uri)) => RegisteredProof::KeysAt(uri.clone()),
            (keys, _) => RegisteredProof::Keys(keys.unwrap_or(Value::Null)),
        },
        // No client registers as a ServiceAccount; an administrator made it one.
        ClientAuthenticationMethod::KubernetesServiceAccount | ClientAuthenticationMethod::None => {
            RegisteredProof::Nothing
        }
    }
}

/// A word of the schema.
fn word<T: DeserializeOwned>(text: &str, member: &str) -> Result<T, RegistryError> {
    serde_json::from_value(Value::from(text))
        .map_err(|_| RegistryError::Invalid(format!("{member}: {text} is not supported")))
}

#[cfg(test)]
mod tests {
    use claviger_domain::registry::Place;

    use super::*;

    fn client(said: &Value) -> NewClient {
        let metadata = ClientMetadata::parse(said.to_string().as_bytes()).unwrap();
        NewClient {
            place: Place { namespace: "registered".into(), name: "dynamic-a".into() },
            issuer: "main".into(),
            token_digest: "d".repeat(43),
            secret: metadata.proof.is_secret().then(|| "s".into()),
            metadata,
        }
    }

    #[test]
    fn what_is_kept_is_what_was_said() {
        let everything = json!({
            "redirect_uris": ["https://app.example.org/callback"],
            "post_logout_redirect_uris": ["https://app.example.org/"],
            "response_types": ["code", "code id_token"],
            "grant_types": ["authorization_code", "refresh_token", "implicit"],
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks": {"keys": [{"kty": "EC", "crv": "P-256", "x": "eA", "y": "eQ"}]},
            "client_name": "App", "client_uri": "https://app.example.org/about",
            "logo_uri": "https://app.example.org/a.png", "policy_uri": "https://app.example.org/policy",
            "tos_uri": "https://app.example.org/terms", "contacts": ["ops@example.org"],
            "backchannel_logout_uri": "https://app.example.org/out", "backchannel_logout_session_required": true,
            "frontchannel_logout_uri": "https://app.example.org/frame",
            "scope": "openid email", "id_token_signed_response_alg": "ES256",
            "require_pushed_authorization_requests": true, "dpop_bound_access_tokens": true,
        });
        let other_proofs = ["client_secret_basic", "client_secret_post", "none"].map(|method| {
            json!({"redirect_uris": ["https://app.example.org/callback"], "scope": "openid",
                   "token_endpoint_auth_method": method})
        });
        for said in [everything].iter().chain(&other_proofs) {
            let new = client(said);
            let object = object(&new, "claviger").unwrap();
            assert_eq!(kept(&object).metadata, new.metadata, "{said}");
            assert_eq!(object.spec.issuer_ref.namespace.as_deref(), Some("claviger"));
            assert_eq!(object.spec.client_id, None);
        }
    }

    #[test]
    fn one_that_knows_no_session_is_told_the_user() {
        let mut said = json!({
            "redirect_uris": ["https://app.example.org/callback"], "scope": "openid",
            "backchannel_logout_uri": "https://app.example.org/out",
        });
        let mut spec = object(&client(&said), "claviger").unwrap().spec;
        let names = |spec: &OAuth2ClientSpec| spec.back_channel_logout.as_ref().map(|it| it.names);
        assert_eq!(names(&spec), Some(LogoutTokenNames::SessionAndUser));
        said["backchannel_logout_session_required"] = json!(true);
        say(&mut spec, &client(&said).metadata).unwrap();
        assert_eq!(names(&spec), Some(LogoutTokenNames::Session));
        said["backchannel_logout_uri"] = Value::Null;
        say(&mut spec, &client(&said).metadata).unwrap();
        assert_eq!(names(&spec), None, "a change replaces (RFC 7592 2.2)");
    }

    #[test]
    fn a_change_leaves_alone_what_an_administrator_said() {
        let mut spec = object(
            &client(&json!({"redirect_uris": ["https://app.example.org/callback"]})),
            "claviger",
        )
        .unwrap()
        .spec;
        spec.allowed_groups = vec!["developers".into()];
        let said = json!({"redirect_uris": ["https://app.example.org/other"], "scope": "openid"});
        say(&mut spec, &client(&said).metadata).unwrap();
        assert_eq!(spec.redirect_uris, ["https://app.example.org/other"]);
        assert_eq!(spec.allowed_groups, ["developers"]);
        assert_eq!(spec.registration.unwrap().access_token_digest, "d".repeat(43));
        assert_eq!(spec.authentication.unwrap().secret_ref.unwrap().name, "dynamic-a");
    }

    #[test]
    fn what_the_schema_has_no_word_for_is_named() {
        let mut new = client(&json!({"grant_types": ["client_credentials"]}));
        new.metadata.grant_types = vec!["urn:example:grant".into()];
        let refused = object(&new, "claviger").unwrap_err().to_string();
        assert!(refused.contains("grant_types: urn:example:grant"), "{refused}");
    }
}
