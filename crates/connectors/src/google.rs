//! Google: accounts, Workspace domains, and the groups of a Workspace by a service account.
//!
//! What always holds: `hd` is what Google says of the account, never what its address looks like, and is judged at every
//! answer; groups are asked for whatever scopes a client asks for, and where they cannot be had there is no user.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::Utc;
use claviger_api::connector::google::{GoogleGroups, GoogleNesting, GoogleUpstream};
use claviger_api::connector::oidc::{
    OidcClaims, OidcOfflineAccess, OidcOfflinePrompt, OidcUpstream,
};
use claviger_domain::connector::Authenticated;
use claviger_jose::{Algorithm, PrivateKey, Signer};
use http::{Method, Request, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::http::Http;
use crate::oauth2::{self, Answer, Api, ApiError};
use crate::oidc::tokens::Received;
use crate::oidc::vendor::{Vendor, settings};
use crate::oidc::{Dialect, Provider};
use crate::{BuildError, Purpose, Resolved, SecretRef};

/// As its tokens say it.
const ISSUER: &str = "https://accounts.google.com";
/// Where a service account gets its tokens.
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
/// The Directory API of the Admin SDK.
const DIRECTORY: &str = "https://admin.googleapis.com/admin/directory/v1";
/// What it may read.
const SCOPE: &str = "https://www.googleapis.com/auth/admin.directory.group.readonly";
/// Who may be any domain's administrator.
const ANY_DOMAIN: &str = "*";
/// Most groups of one user, nested ones included: each costs a question when groups are nested.
const MAX_NESTED: usize = 500;
/// Most pages of one list, of 200 groups each.
const MAX_PAGES: usize = 100;
/// Seconds a service account's token is asked to live.
const TOKEN_LIFE: i64 = 3_600;
/// How long one is used.
const TOKEN_USE: Duration = Duration::from_mins(50);

/// What is Google's own.
#[derive(Debug)]
struct Google {
    hosted_domains: BTreeSet<String>,
    directory: Option<Directory>,
}

/// A Workspace's groups.
struct Directory {
    account: ServiceAccount,
    /// In whose name they are read, by domain.
    admins: BTreeMap<String, String>,
    nesting: GoogleNesting,
    api: Url,
    tokens: Mutex<BTreeMap<String, (Instant, SecretString)>>,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directory({:?})", self.account.email)
    }
}

/// The key file of a service account.
struct ServiceAccount {
    email: String,
    key_id: String,
    signer: Signer,
}

#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: SecretString,
    private_key_id: String,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    groups: Vec<Group>,
    #[serde(rename = "nextPageToken")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Group {
    email: String,
}

/// Which keys of which Secrets the connector needs.
pub fn secret_refs(spec: &GoogleUpstream) -> Vec<SecretRef> {
    let account = spec.groups.iter();
    let account = account
        .map(|groups| SecretRef::new(&groups.service_account_secret_ref, Purpose::ServiceAccount));
    oauth2::secret_refs(Some(&spec.client_secret_ref), &spec.tls)
        .into_iter()
        .chain(account)
        .collect()
}

/// Contacts nobody. `name` is for logs.
///
/// # Errors
/// [`BuildError`] names the field and the fix.
pub fn provider(
    name: &str,
    spec: &GoogleUpstream,
    resolved: &Resolved,
) -> Result<Provider, BuildError> {
    let oidc = OidcUpstream {
        offline_access: OidcOfflineAccess::AccessType,
        // It gives a refresh token at the first consent alone.
        offline_prompt: OidcOfflinePrompt::Consent,
        claims: OidcClaims { username: "email".to_owned(), ..OidcClaims::default() },
        ..settings(ISSUER, &spec.client_id, Some(&spec.client_secret_ref), &spec.tls)
    };
    let directory =
        spec.groups.as_ref().map(|groups| Directory::new(groups, resolved)).transpose()?;
    let hosted_domains = spec.hosted_domains.iter().map(|domain| domain.to_lowercase()).collect();
    let vendor = Google { hosted_domains, directory };
    let dialect = Dialect {
        field: "google",
        vendor: Some(Arc::new(vendor)),
        stated_issuer: None,
        authentication: None,
    };
    Provider::speaking(name, &oidc, resolved, dialect)
}

#[async_trait]
impl Vendor for Google {
    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut domains = self.hosted_domains.iter();
        match (domains.next(), domains.next()) {
            (None, _) => Vec::new(),
            (Some(one), None) => vec![("hd", one.clone())],
            // Any Workspace; which, is judged by the answer.
            _ => vec![("hd", ANY_DOMAIN.to_owned())],
        }
    }

    fn rotates(&self) -> bool {
        false
    }

    async fn complete(
        &self,
        http: &Http,
        received: &Received,
        user: &mut Authenticated,
    ) -> Result<(), ApiError> {
        let domain = received.claims.get("hd").and_then(Value::as_str).map(str::to_lowercase);
        let is_admitted = self.hosted_domains.is_empty()
            || domain.as_ref().is_some_and(|domain| self.hosted_domains.contains(domain));
        if !is_admitted {
            let why = "the Google account belongs to none of the Workspace domains that are admitted here";
            return Err(ApiError::Refused(why.to_owned()));
        }
        if let (Some(directory), Some(domain)) = (&self.directory, domain) {
            user.identity.groups = directory.groups_of(http, &received.subject, &domain).await?;
            user.raw.insert("groups".to_owned(), user.identity.groups.clone().into());
        }
        Ok(())
    }

    async fn probe(&self, http: &Http) -> Result<(), ApiError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        for admin in directory.admins.values() {
            directory.token(http, admin).await?;
        }
        Ok(())
    }
}

impl Directory {
    fn new(spec: &GoogleGroups, resolved: &Resolved) -> Result<Self, BuildError> {
        let at = &spec.service_account_secret_ref;
        let unusable = |cause: &str| BuildError::unusable(at, Purpose::ServiceAccount, &cause);
        let file = resolved.bytes(&at.name, &at.key, Purpose::ServiceAccount)?;
        let file: KeyFile = serde_json::from_slice(file)
            .map_err(|_| unusable("it is not the JSON key file of a service account"))?;
        let key = PrivateKey::from_pkcs8_pem(Algorithm::RS256, file.private_key.expose_secret())
            .map_err(|error| unusable(&error.to_string()))?;
        let signer = Signer::new(&key).map_err(|error| unusable(&error.to_string()))?;
        let admins = spec.administrators.iter();
        Ok(Self {
            account: ServiceAccount {
                email: file.client_email,
                key_id: file.private_key_id,
                signer,
            },
            admins: admins.map(|a| (a.domain.to_lowercase(), a.email.clone())).collect(),
            nesting: spec.nesting,
            api: oauth2::url("google", "Directory API", DIRECTORY)?,
            tokens: Mutex::default(),
        })
    }

    /// Addresses of the groups that a user is in. A domain without an administrator has no groups here.
    async fn groups_of(
        &self,
        http: &Http,
        subject: &str,
        domain: &str,
    ) -> Result<Vec<String>, ApiError> {
        let admin = self.admins.get(domain).or_else(|| self.admins.get(ANY_DOMAIN));
        let Some(admin) = admin else { return Ok(Vec::new()) };
        match self.read(http, subject, admin).await {
            // Taken back before its time: another may do.
            Err(ApiError::TokenRefused(_)) => {
                self.tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(admin);
                self.read(http, subject, admin).await
            }
            read => read,
        }
    }

    async fn read(&self, http: &Http, subject: &str, admin: &str) -> Result<Vec<String>, ApiError> {
        let token = self.token(http, admin).await?;
        let api = Api::of(http, &self.api, token.expose_secret(), "Google");
        let mut found = BTreeSet::new();
        let mut waiting = VecDeque::from([subject.to_owned()]);
        while let Some(member) = waiting.pop_front() {
            for group in self.direct(&api, &member).await? {
                if found.insert(group.clone()) && self.nesting == GoogleNesting::Nested {
                    waiting.push_back(group);
                }
            }
            if self.nesting == GoogleNesting::Nested && found.len() > MAX_NESTED {
                let why = format!(
                    "the user is in more than {MAX_NESTED} groups: set groups.nesting to Direct"
                );
                return Err(ApiError::Unusable(why));
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Those that a user or group is in itself (`groups.list` by `userKey`).
    async fn direct(&self, api: &Api<'_>, member: &str) -> Result<Vec<String>, ApiError> {
        let mut groups = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let page: Page = api.object(&groups_path(member, token.as_deref())).await?;
            groups.extend(page.groups.into_iter().map(|group| group.email.to_lowercase()));
            match page.next.filter(|next| !next.is_empty()) {
                Some(next) => token = Some(next),
                None => return Ok(groups),
            }
        }
        let why = format!("the user's groups are on more than {MAX_PAGES} pages");
        Err(ApiError::Unusable(why))
    }

    /// A token that reads groups in an administrator's name (domain-wide delegation, RFC 7523 2.1).
    async fn token(&self, http: &Http, admin: &str) -> Result<SecretString, ApiError> {
        let known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(admin).cloned();
        if let Some((at, token)) = known
            && at.elapsed() < TOKEN_USE
        {
            return Ok(token);
        }
        let token = self.account.token_for(http, admin).await?;
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(admin.to_owned(), (Instant::now(), token.clone()));
        Ok(token)
    }
}

fn groups_path(member: &str, page: Option<&str>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("userKey", member).append_pair("maxResults", "200");
    query.extend_pairs(page.map(|page| ("pageToken", page)));
    format!("/groups?{}", query.finish())
}

impl ServiceAccount {
    async fn token_for(&self, http: &Http, admin: &str) -> Result<SecretString, ApiError> {
        let ours = |error: &dyn ToString| ApiError::Unavailable(error.to_string().into());
        let now = Utc::now().timestamp();
        let claims = json!({
            "iss": self.email, "sub": admin, "scope": SCOPE, "aud": TOKEN_URL,
            "iat": now, "exp": now + TOKEN_LIFE,
        });
        let header = json!({ "typ": "JWT", "kid": self.key_id });
        let assertion = self.signer.sign_under(&header, &claims).map_err(|error| ours(&error))?;
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
            .append_pair("assertion", &assertion)
            .finish();
        let request = Request::builder()
            .method(Method::POST)
            .uri(TOKEN_URL)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.into_bytes())
            .map_err(|error| ours(&error))?;
        let answer = http.send(request).await.map_err(|error| ours(&error))?;
        let (parts, body) = answer.into_parts();
        let answer = Answer { status: parts.status, headers: parts.headers, body };
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match (answer.status, said.get("access_token").and_then(Value::as_str)) {
            (StatusCode::OK, Some(token)) => Ok(SecretString::from(token)),
            (status, _) => Err(ApiError::Unavailable(answer.no_verdict(format!(
                "Google gives the service account no token ({}): delegate {SCOPE} to its client ID in the \
                 Workspace's admin console, and see that {admin} may read groups",
                status.as_u16()
            )))),
        }
    }
}
