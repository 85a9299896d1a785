//! Client metadata (RFC 7591 2, OpenID Connect Dynamic Client Registration 1.0 section 2) and what is answered.
//!
//! What always holds: what is not understood is ignored, as both demand; what is understood and would weaken or
//! break the client if it were ignored is refused by name. Nothing here knows who may register what.

use serde_json::{Map, Value, json};

use crate::error::{ErrorCode, ErrorResponse};
use crate::redirect_uri::RedirectUri;
use crate::response_type::ResponseType;
use crate::scope::ScopeSet;

/// Longest client name, in characters.
const MAX_NAME: usize = 64;
/// Longest URI that is no redirect URI, in bytes.
const MAX_URI: usize = 512;
/// Most contacts, redirect URIs and post-logout redirect URIs.
const MAX_CONTACTS: usize = 8;
const MAX_REDIRECT_URIS: usize = 32;
/// What OAuth calls tokens from the authorization endpoint.
pub const IMPLICIT: &str = "implicit";

/// How a registered client proves who it is (RFC 7591 2, `token_endpoint_auth_method`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisteredProof {
    /// `client_secret_basic`.
    SecretBasic,
    /// `client_secret_post`.
    SecretPost,
    /// `private_key_jwt` with these keys (a JWKS).
    Keys(Value),
    /// `private_key_jwt` with the keys at this URL.
    KeysAt(String),
    /// `none`.
    Nothing,
}

impl RegisteredProof {
    /// The method on the wire.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::SecretBasic => "client_secret_basic",
            Self::SecretPost => "client_secret_post",
            Self::Keys(_) | Self::KeysAt(_) => "private_key_jwt",
            Self::Nothing => "none",
        }
    }

    /// Whether the client has a secret.
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::SecretBasic | Self::SecretPost)
    }
}

/// Pages about a client, for its users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientPages {
    /// `client_uri`: its home page.
    pub client: Option<String>,
    /// `logo_uri`.
    pub logo: Option<String>,
    /// `policy_uri`: what it does with what it learns of them.
    pub policy: Option<String>,
    /// `tos_uri`: its terms of service.
    pub terms: Option<String>,
}

/// Where a client is told that a session of its users is over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogoutAddresses {
    /// `backchannel_logout_uri` (Back-Channel Logout 1.0 section 2.2).
    pub back_channel: Option<BackChannelAddress>,
    /// `frontchannel_logout_uri` (Front-Channel Logout 1.0 section 2). Its `iss` and `sid` are always sent, whether
    /// `frontchannel_logout_session_required` or not.
    pub front_channel: Option<String>,
}

/// Where logout tokens are posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackChannelAddress {
    /// `backchannel_logout_uri`: https, wherever a provider may be made to ask.
    pub uri: String,
    /// `backchannel_logout_session_required`: whether the client knows its sessions by their `sid`. One that does not
    /// must be told the user.
    pub session_required: bool,
}

/// What a client says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientMetadata {
    /// `redirect_uris`, byte for byte.
    pub redirect_uris: Vec<String>,
    /// `post_logout_redirect_uris`, byte for byte.
    pub post_logout_redirect_uris: Vec<String>,
    /// `response_types`.
    pub response_types: Vec<ResponseType>,
    /// `grant_types`, `implicit` among them.
    pub grant_types: Vec<String>,
    /// `token_endpoint_auth_method`, `jwks` and `jwks_uri`.
    pub proof: RegisteredProof,
    /// `client_name`.
    pub name: Option<String>,
    /// `client_uri`, `logo_uri`, `policy_uri`, `tos_uri`.
    pub pages: ClientPages,
    /// `backchannel_logout_uri`, `frontchannel_logout_uri` and what they need.
    pub logout: LogoutAddresses,
    /// `contacts`.
    pub contacts: Vec<String>,
    /// `scope`.
    pub scope: Option<ScopeSet>,
    /// `id_token_signed_response_alg`.
    pub id_token_algorithm: Option<String>,
    /// `require_pushed_authorization_requests` (RFC 9126 6).
    pub pushed_requests: bool,
    /// `dpop_bound_access_tokens` (RFC 9449 5.2).
    pub dpop: bool,
}

impl ClientMetadata {
    /// Reads a registration request's body.
    ///
    /// # Errors
    /// `invalid_redirect_uri`, `invalid_client_metadata` or `unapproved_software_statement` (RFC 7591 3.2.2), with
    /// the member that is wrong.
    pub fn parse(body: &[u8]) -> Result<Self, ErrorResponse> {
        let Ok(Value::Object(said)) = serde_json::from_slice(body) else {
            return Err(invalid("the body must be one JSON object: send application/json"));
        };
        refuse_what_is_not_supported(&said)?;
        let said = Members(&said);
        let response_types = said.response_types()?;
        let grant_types =
            said.texts("grant_types")?.unwrap_or_else(|| vec!["authorization_code".into()]);
        check_grants_fit(&response_types, &grant_types)?;
        let scope = said.text("scope")?.map(|text| ScopeSet::parse(&text)).transpose();
        let metadata = Self {
            redirect_uris: said.uris("redirect_uris", MAX_REDIRECT_URIS)?,
            post_logout_redirect_uris: said.uris("post_logout_redirect_uris", MAX_REDIRECT_URIS)?,
            proof: said.proof()?,
            name: said.name()?,
            pages: ClientPages {
                client: said.page("client_uri")?,
                logo: said.page("logo_uri")?,
                policy: said.page("policy_uri")?,
                terms: said.page("tos_uri")?,
            },
            logout: said.logout()?,
            contacts: said.contacts()?,
            scope: scope.map_err(|error| invalid(&format!("scope: {error}")))?,
            id_token_algorithm: said.text("id_token_signed_response_alg")?,
            pushed_requests: said.flag("require_pushed_authorization_requests")?,
            dpop: said.flag("dpop_bound_access_tokens")?,
            response_types,
            grant_types,
        };
        metadata.check_redirect_uris(said.is_native()?)?;
        metadata.check_front_channel()?;
        Ok(metadata)
    }

    /// Front-Channel Logout 2: domain, port and scheme are those of a registered redirect URI.
    fn check_front_channel(&self) -> Result<(), ErrorResponse> {
        let Some(page) = &self.logout.front_channel else { return Ok(()) };
        let origin = |uri: &str| RedirectUri::parse(uri).ok().and_then(|uri| uri.origin());
        let own = origin(page).filter(|_| page.len() <= MAX_URI);
        if own.is_some_and(|own| {
            self.redirect_uris.iter().any(|uri| origin(uri).as_ref() == Some(&own))
        }) {
            return Ok(());
        }
        Err(invalid(&format!(
            "frontchannel_logout_uri must have the scheme, host and port of one of the redirect_uris, and at most {MAX_URI} bytes"
        )))
    }

    /// OpenID Connect Registration 2, `application_type`: what a web application with tokens in the browser may have.
    fn check_redirect_uris(&self, native: bool) -> Result<(), ErrorResponse> {
        let in_browser = self.response_types.iter().any(|t| *t != ResponseType::Code);
        for raw in &self.redirect_uris {
            let wrong = |why: &str| {
                let why = format!("redirect_uris: {raw}: {why}");
                ErrorResponse::new(ErrorCode::InvalidRedirectUri, &why)
            };
            RedirectUri::parse(raw).map_err(|error| wrong(&error.to_string()))?;
            if in_browser && !native && !raw.starts_with("https://") {
                return Err(wrong(
                    "a web application whose tokens come by the browser needs https://",
                ));
            }
        }
        if self.redirect_uris.is_empty()
            && self.grant_types.iter().any(|g| g == "authorization_code" || g == IMPLICIT)
        {
            let why = "redirect_uris must have at least one";
            return Err(ErrorResponse::new(ErrorCode::InvalidRedirectUri, why));
        }
        Ok(())
    }

    /// Everything as the answer says it (RFC 7591 3.2.1).
    pub fn to_members(&self) -> Map<String, Value> {
        let types: Vec<_> = self.response_types.iter().map(|t| t.as_str()).collect();
        let mut members = Map::new();
        let mut say = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
        say("redirect_uris", json!(self.redirect_uris));
        say("response_types", json!(types));
        say("grant_types", json!(self.grant_types));
        say("token_endpoint_auth_method", json!(self.proof.as_str()));
        say("subject_type", json!("public"));
        say("require_pushed_authorization_requests", json!(self.pushed_requests));
        say("dpop_bound_access_tokens", json!(self.dpop));
        match &self.proof {
            RegisteredProof::Keys(keys) => say("jwks", keys.clone()),
            RegisteredProof::KeysAt(uri) => say("jwks_uri", json!(uri)),
            RegisteredProof::SecretBasic
            | RegisteredProof::SecretPost
            | RegisteredProof::Nothing => {}
        }
        if let Some(back_channel) = &self.logout.back_channel {
            say("backchannel_logout_uri", json!(back_channel.uri));
            say("backchannel_logout_session_required", json!(back_channel.session_required));
        }
        if let Some(page) = &self.logout.front_channel {
            say("frontchannel_logout_uri", json!(page));
            say("frontchannel_logout_session_required", json!(true));
        }
        if !self.post_logout_redirect_uris.is_empty() {
            say("post_logout_redirect_uris", json!(self.post_logout_redirect_uris));
        }
        if !self.contacts.is_empty() {
            say("contacts", json!(self.contacts));
        }
        let scope = self.scope.as_ref().map(ToString::to_string);
        let optional = [
            ("client_name", &self.name),
            ("client_uri", &self.pages.client),
            ("logo_uri", &self.pages.logo),
            ("policy_uri", &self.pages.policy),
            ("tos_uri", &self.pages.terms),
            ("scope", &scope),
            ("id_token_signed_response_alg", &self.id_token_algorithm),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                say(name, json!(value));
            }
        }
        members
    }
}

/// The members of a registration, read one by one.
struct Members<'a>(&'a Map<String, Value>);

impl Members<'_> {
    /// A member that is there; `null` is not.
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<String>, ErrorResponse> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(invalid(&format!("{name} must be a string"))),
        }
    }

    fn flag(&self, name: &str) -> Result<bool, ErrorResponse> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(invalid(&format!("{name} must be true or false"))),
        }
    }

    fn texts(&self, name: &str) -> Result<Option<Vec<String>>, ErrorResponse> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let texts: Option<Vec<_>> = value
            .as_array()
            .map(|all| all.iter().map(|one| one.as_str().map(str::to_owned)).collect())
            .unwrap_or_default();
        let mut texts =
            texts.ok_or_else(|| invalid(&format!("{name} must be an array of strings")))?;
        let mut seen = std::collections::BTreeSet::new();
        texts.retain(|text| seen.insert(text.clone()));
        Ok(Some(texts))
    }

    fn uris(&self, name: &str, most: usize) -> Result<Vec<String>, ErrorResponse> {
        let uris = self.texts(name)?.unwrap_or_default();
        if uris.len() > most {
            return Err(invalid(&format!("{name} must have at most {most}")));
        }
        Ok(uris)
    }

    fn response_types(&self) -> Result<Vec<ResponseType>, ErrorResponse> {
        let Some(words) = self.texts("response_types")? else {
            return Ok(vec![ResponseType::Code]);
        };
        let known = words.iter().map(|text| {
            ResponseType::parse(text)
                .ok_or_else(|| invalid(&format!("response_types: {text} is not supported")))
        });
        known.collect()
    }

    fn name(&self) -> Result<Option<String>, ErrorResponse> {
        let name = self.text("client_name")?.filter(|name| !name.is_empty());
        if name
            .as_ref()
            .is_some_and(|name| name.chars().count() > MAX_NAME || name.chars().any(is_invisible))
        {
            return Err(invalid(
                "client_name must have at most 64 characters, none of them invisible or turning the direction of text",
            ));
        }
        Ok(name)
    }

    fn page(&self, name: &str) -> Result<Option<String>, ErrorResponse> {
        let Some(uri) = self.text(name)? else { return Ok(None) };
        if is_https(&uri) {
            return Ok(Some(uri));
        }
        Err(invalid(&format!("{name} must be an https:// URL of at most {MAX_URI} bytes")))
    }

    fn logout(&self) -> Result<LogoutAddresses, ErrorResponse> {
        let session_required = self.flag("backchannel_logout_session_required")?;
        let back_channel = self.page("backchannel_logout_uri")?;
        self.flag("frontchannel_logout_session_required")?; // it is sent to everybody
        Ok(LogoutAddresses {
            back_channel: back_channel.map(|uri| BackChannelAddress { uri, session_required }),
            front_channel: self.text("frontchannel_logout_uri")?,
        })
    }

    fn contacts(&self) -> Result<Vec<String>, ErrorResponse> {
        let contacts = self.texts("contacts")?.unwrap_or_default();
        if contacts.len() > MAX_CONTACTS || contacts.iter().any(|c| c.is_empty() || c.len() > 254) {
            return Err(invalid("contacts must have at most 8 addresses of at most 254 bytes"));
        }
        Ok(contacts)
    }

    fn is_native(&self) -> Result<bool, ErrorResponse> {
        match self.text("application_type")?.as_deref() {
            None | Some("web") => Ok(false),
            Some("native") => Ok(true),
            Some(_) => Err(invalid("application_type must be web or native")),
        }
    }

    fn proof(&self) -> Result<RegisteredProof, ErrorResponse> {
        let method = self.text("token_endpoint_auth_method")?;
        let keys = match (self.get("jwks"), self.text("jwks_uri")?) {
            (Some(_), Some(_)) => return Err(invalid("give jwks or jwks_uri, not both")),
            (Some(keys @ Value::Object(_)), None) => Some(RegisteredProof::Keys(keys.clone())),
            (Some(_), None) => return Err(invalid("jwks must be a JSON Web Key Set")),
            (None, Some(uri)) if is_https(&uri) => Some(RegisteredProof::KeysAt(uri)),
            (None, Some(_)) => {
                return Err(invalid("jwks_uri must be an https:// URL of at most 512 bytes"));
            }
            (None, None) => None,
        };
        match (method.as_deref().unwrap_or("client_secret_basic"), keys) {
            ("private_key_jwt", Some(keys)) => Ok(keys),
            ("private_key_jwt", None) => Err(invalid("private_key_jwt needs jwks or jwks_uri")),
            // Keys may be for what this provider does not do, such as encryption.
            ("client_secret_basic", _) => Ok(RegisteredProof::SecretBasic),
            ("client_secret_post", _) => Ok(RegisteredProof::SecretPost),
            ("none", _) => Ok(RegisteredProof::Nothing),
            (other, _) => {
                Err(invalid(&format!("token_endpoint_auth_method {other} is not supported")))
            }
        }
    }
}

/// Refuses what the client would rely on and would not get.
fn refuse_what_is_not_supported(said: &Map<String, Value>) -> Result<(), ErrorResponse> {
    const ENCRYPTED: [&str; 6] = [
        "id_token_encrypted_response_alg",
        "id_token_encrypted_response_enc",
        "userinfo_encrypted_response_alg",
        "userinfo_encrypted_response_enc",
        "request_object_encryption_alg",
        "request_object_encryption_enc",
    ];
    let there = |name: &str| said.get(name).is_some_and(|value| !value.is_null());
    if there("software_statement") {
        let why = "software statements are not taken: leave it out";
        return Err(ErrorResponse::new(ErrorCode::UnapprovedSoftwareStatement, why));
    }
    if let Some(name) = ENCRYPTED.into_iter().find(|name| there(name)) {
        return Err(invalid(&format!("{name}: nothing is encrypted here, leave it out")));
    }
    if there("default_max_age") {
        return Err(invalid("default_max_age is not kept: send max_age in each request"));
    }
    if said.get("subject_type").is_some_and(|kind| *kind != "public" && !kind.is_null()) {
        return Err(invalid("subject_type must be public"));
    }
    Ok(())
}

/// RFC 7591 2.1: what a response type needs of the grants.
fn check_grants_fit(
    response_types: &[ResponseType],
    grant_types: &[String],
) -> Result<(), ErrorResponse> {
    let has = |grant: &str| grant_types.iter().any(|known| known == grant);
    for response_type in response_types {
        let word = response_type.as_str();
        if response_type.has_code() && !has("authorization_code") && !only_without_user(grant_types)
        {
            return Err(invalid(&format!(
                "response type {word} needs grant_types with authorization_code"
            )));
        }
        if *response_type != ResponseType::Code && !has(IMPLICIT) {
            return Err(invalid(&format!("response type {word} needs grant_types with implicit")));
        }
    }
    Ok(())
}

/// Whether no user ever comes by the authorization endpoint: the default response type means nothing then.
fn only_without_user(grant_types: &[String]) -> bool {
    grant_types
        .iter()
        .all(|grant| grant != "authorization_code" && grant != IMPLICIT && grant != "refresh_token")
}

/// What a reader does not see, or what makes them read something else: controls and format characters.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

fn is_https(uri: &str) -> bool {
    let printable =
        uri.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'"');
    let url = url::Url::parse(uri);
    uri.len() <= MAX_URI
        && printable
        && uri.starts_with("https://")
        && !uri.contains('#')
        && url.is_ok_and(|url| url.username().is_empty() && url.password().is_none())
}

fn invalid(why: &str) -> ErrorResponse {
    ErrorResponse::new(ErrorCode::InvalidClientMetadata, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(said: &Value) -> Result<ClientMetadata, ErrorResponse> {
        ClientMetadata::parse(said.to_string().as_bytes())
    }

    fn refused(said: &Value) -> (ErrorCode, String) {
        let error = parse(said).unwrap_err();
        (error.error, error.error_description.unwrap_or_default())
    }

    fn web(member: &str, value: Value) -> Value {
        let mut said = json!({"redirect_uris": ["https://app.example.org/callback"]});
        said[member] = value;
        said
    }

    #[test]
    fn what_is_left_out_has_the_default_of_the_specification() {
        let metadata = parse(&web("unheard_of", json!({"a": 1}))).unwrap();
        assert_eq!(metadata.response_types, [ResponseType::Code]);
        assert_eq!(metadata.grant_types, ["authorization_code"]);
        assert_eq!(metadata.proof, RegisteredProof::SecretBasic);
        let answer = Value::Object(metadata.to_members());
        assert_eq!(answer["token_endpoint_auth_method"], "client_secret_basic");
        assert_eq!(answer["redirect_uris"], json!(["https://app.example.org/callback"]));
        assert_eq!(answer.get("unheard_of"), None);
        assert_eq!(answer.get("client_name"), None);
    }

    #[test]
    fn what_the_answer_says_is_read_back_as_the_same() {
        let said = json!({
            "redirect_uris": ["https://app.example.org/callback"],
            "post_logout_redirect_uris": ["https://app.example.org/"],
            "response_types": ["code", "code id_token"],
            "grant_types": ["authorization_code", "implicit", "refresh_token"],
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks_uri": "https://app.example.org/keys",
            "client_name": "App", "client_uri": "https://app.example.org/", "logo_uri": "https://app.example.org/a.png",
            "policy_uri": "https://app.example.org/policy", "tos_uri": "https://app.example.org/terms",
            "backchannel_logout_uri": "https://app.example.org/out?by=op", "backchannel_logout_session_required": true,
            "frontchannel_logout_uri": "https://app.example.org/frame", "frontchannel_logout_session_required": true,
            "contacts": ["ops@example.org"], "scope": "openid email",
            "id_token_signed_response_alg": "ES256",
            "require_pushed_authorization_requests": true, "dpop_bound_access_tokens": true,
        });
        let metadata = parse(&said).unwrap();
        let again = parse(&Value::Object(metadata.to_members())).unwrap();
        assert_eq!(again, metadata);
        for (name, value) in said.as_object().unwrap() {
            assert_eq!(metadata.to_members()[name], *value, "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let metadata = |said| (ErrorCode::InvalidClientMetadata, said);
        for (said, expected) in [
            (
                web("redirect_uris", json!("https://x")),
                metadata("redirect_uris must be an array of strings"),
            ),
            (web("client_name", json!(7)), metadata("client_name must be a string")),
            (web("subject_type", json!("pairwise")), metadata("subject_type must be public")),
            (
                web("jwks_uri", json!("http://app.example.org/keys")),
                metadata("jwks_uri must be an https:// URL"),
            ),
            (
                web("logo_uri", json!("https://u@app.example.org/")),
                metadata("logo_uri must be an https:// URL"),
            ),
            (
                web("response_types", json!(["token"])),
                metadata("response_types: token is not supported"),
            ),
            (
                web("response_types", json!(["id_token"])),
                metadata("needs grant_types with implicit"),
            ),
            (
                web("grant_types", json!(["refresh_token"])),
                metadata("needs grant_types with authorization_code"),
            ),
            (
                web("token_endpoint_auth_method", json!("tls_client_auth")),
                metadata("tls_client_auth is not supported"),
            ),
            (
                web("token_endpoint_auth_method", json!("private_key_jwt")),
                metadata("needs jwks or jwks_uri"),
            ),
            (
                web("id_token_encrypted_response_alg", json!("RSA-OAEP")),
                metadata("nothing is encrypted here"),
            ),
            (web("default_max_age", json!(10)), metadata("send max_age in each request")),
            (
                web("application_type", json!("phone")),
                metadata("application_type must be web or native"),
            ),
            (web("dpop_bound_access_tokens", json!("yes")), metadata("must be true or false")),
            (web("contacts", json!([""])), metadata("contacts must have")),
            (web("scope", json!("a\"b")), metadata("scope: ")),
        ] {
            let (code, description) = refused(&said);
            assert_eq!(code, expected.0, "{said}");
            assert!(description.contains(expected.1), "{said}: {description}");
        }
        assert_eq!(refused(&json!([])).0, ErrorCode::InvalidClientMetadata);
        assert_eq!(
            refused(&web("software_statement", json!("eyJ"))).0,
            ErrorCode::UnapprovedSoftwareStatement
        );
        for uris in [
            json!([]),
            json!(["/callback"]),
            json!(["https://a/#b"]),
            json!(["http://app.example.org/"]),
        ] {
            assert_eq!(
                refused(&web("redirect_uris", uris.clone())).0,
                ErrorCode::InvalidRedirectUri,
                "{uris}"
            );
        }
    }

    #[test]
    fn tokens_by_the_browser_need_https_unless_the_application_is_native() {
        let mut said = json!({
            "redirect_uris": ["http://127.0.0.1/callback"],
            "response_types": ["id_token"],
            "grant_types": ["implicit"],
        });
        assert_eq!(refused(&said).0, ErrorCode::InvalidRedirectUri);
        said["application_type"] = json!("native");
        assert!(parse(&said).is_ok());
    }

    #[test]
    fn where_a_client_is_told_of_sign_outs_is_its_own() {
        let none = parse(&web("backchannel_logout_session_required", json!(true))).unwrap();
        assert_eq!(none.logout, LogoutAddresses::default(), "nowhere by default");
        let member = |name: &str| none.to_members().contains_key(name);
        assert!(!member("backchannel_logout_session_required"));
        assert!(!member("frontchannel_logout_session_required"));
        for member in
            ["backchannel_logout_session_required", "frontchannel_logout_session_required"]
        {
            let (_, description) = refused(&web(member, json!("yes")));
            assert_eq!(description, format!("{member} must be true or false"));
        }

        let told =
            parse(&web("backchannel_logout_uri", json!("https://x.example.org/out"))).unwrap();
        let uri = "https://x.example.org/out".to_owned();
        let expected = BackChannelAddress { uri, session_required: false };
        assert_eq!(told.logout.back_channel, Some(expected), "2.2: false by default");
        let long = format!("https://x.example.org/{}", "a".repeat(512));
        for uri in [
            "http://x.example.org/",
            "http://127.0.0.1/",
            "https://x.example.org/#a",
            "/out",
            &long,
        ] {
            let (code, description) = refused(&web("backchannel_logout_uri", json!(uri)));
            assert_eq!(code, ErrorCode::InvalidClientMetadata);
            assert!(
                description.contains("backchannel_logout_uri must be an https:// URL"),
                "{uri}"
            );
        }

        let framed = web("frontchannel_logout_uri", json!("https://app.example.org/frame?a=b"));
        let answer = parse(&framed).unwrap().to_members();
        assert_eq!(answer["frontchannel_logout_uri"], "https://app.example.org/frame?a=b");
        assert_eq!(answer["frontchannel_logout_session_required"], true, "it is always sent");
        let long = format!("https://app.example.org/{}", "a".repeat(512));
        for uri in [
            "https://evil.example.org/frame",
            "https://app.example.org:8443/frame",
            "http://app.example.org/frame",
            "https://app.example.org/#frame",
            "com.example.app:/frame",
            &long,
        ] {
            let (code, description) = refused(&web("frontchannel_logout_uri", json!(uri)));
            assert_eq!(code, ErrorCode::InvalidClientMetadata);
            assert!(
                description.contains("frontchannel_logout_uri must have"),
                "{uri}: {description}"
            );
        }
    }

    #[test]
    fn a_name_is_what_it_looks_like() {
        for name in ["kube\u{202e}ctl", "kubectl\u{200b}", "kube\nctl", &"k".repeat(65)] {
            let (code, description) = refused(&web("client_name", json!(name)));
            assert_eq!(code, ErrorCode::InvalidClientMetadata, "{name:?}");
            assert!(description.contains("none of them invisible"), "{description}");
        }
        assert!(parse(&web("client_name", json!("Zoë's κλειδί"))).is_ok());
    }

    #[test]
    fn a_program_without_users_needs_no_redirect_uri() {
        let program = parse(&json!({"grant_types": ["client_credentials"]})).unwrap();
        assert_eq!(program.redirect_uris, [""; 0]);
    }
}
