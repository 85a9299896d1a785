//! OpenStack's Identity service (Keystone, API version 3).
//!
//! ```text
//! mod (login, re-check, probe) → api (questions, page by page) → account_api → http
//!                                 └ service_token: ours, kept until shortly before its end
//! ```
//! What always holds: a user is their ID, never their name; they are of the connector's domain, and so is each of their groups;
//! what Keystone lists is read to its end, and a list that it cut short is an error; a token of the user's is not kept, and is
//! good for no project.

mod api;
mod service_token;

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use chrono::{NaiveDateTime, Utc};
use claviger_api::connector::http::EmailVerification;
use claviger_api::connector::keystone::{
    KeystoneDomain, KeystoneExpiredPassword, KeystoneScope, KeystoneUpstream,
};
use claviger_domain::connector::{
    Authenticated, ConnectorData, LoginError, PasswordLogin, Recheck, RecheckError,
};
use claviger_domain::identity::Identity;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::api::{Api, Credentials, Signed};
use self::service_token::ServiceToken;
use crate::account_api::{Failure, in_time, read_part, require_usable};
use crate::http::Http;
use crate::oauth2::{secret_refs as shared_refs, url};
use crate::{BuildError, Probe, ProbeError, Purpose, Resolved, SecretRef};

/// What messages call it.
const NAME: &str = "Keystone";

/// The users of one domain.
pub struct Keystone {
    username_label: String,
    domain: KeystoneDomain,
    email_verified: bool,
    expired_password: KeystoneExpiredPassword,
    api: Api,
}

impl fmt::Debug for Keystone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keystone({:?})", self.domain)
    }
}

/// `GET /users/{id}`, in part.
#[derive(Deserialize)]
struct User {
    id: String,
    name: String,
    domain_id: String,
    enabled: bool,
    email: Option<String>,
    password_expires_at: Option<String>,
    #[serde(default)]
    options: Options,
}

#[derive(Default, Deserialize)]
struct Options {
    #[serde(default)]
    ignore_password_expiry: Option<bool>,
}

/// One of `GET /users/{id}/groups`, in part.
#[derive(Deserialize)]
struct Group {
    name: String,
    domain_id: String,
}

/// `GET /domains/{id}`, in part.
#[derive(Deserialize)]
struct Domain {
    id: String,
    name: String,
    enabled: bool,
}

/// Which keys of which Secrets the connector needs.
pub fn secret_refs(spec: &KeystoneUpstream) -> Vec<SecretRef> {
    let password = &spec.service_account.password_secret_ref;
    let mut references = shared_refs(None, &spec.tls);
    references.push(SecretRef::new(password, Purpose::ServicePassword));
    references
}

impl Keystone {
    /// Contacts nobody.
    ///
    /// # Errors
    /// [`BuildError`] names the field and the fix.
    pub fn new(spec: &KeystoneUpstream, resolved: &Resolved) -> Result<Self, BuildError> {
        let account = &spec.service_account;
        let at = &account.password_secret_ref;
        let password = resolved.password(&at.name, &at.key, Purpose::ServicePassword)?;
        let scope = match account.scope {
            KeystoneScope::Domain => json!({"domain": named(&spec.domain)}),
            KeystoneScope::System => json!({"system": {"all": true}}),
        };
        let domain = account.domain.as_ref().unwrap_or(&spec.domain);
        let credentials =
            Credentials { name: account.name.clone(), domain: named(domain), password };
        Ok(Self {
            username_label: spec.username_prompt.clone().unwrap_or_else(|| "Username".into()),
            domain: spec.domain.clone(),
            email_verified: spec.email_verification == EmailVerification::Always,
            expired_password: spec.expired_password,
            api: Api {
                http: Http::trusting(&spec.tls, resolved)?,
                base: url("keystone", "url", &spec.url)?,
                token: ServiceToken::new(credentials, scope),
                reads_one_domain: account.scope == KeystoneScope::Domain,
                // A list for the system may be of another backend than that of the users' domain.
                is_among_users: account.scope == KeystoneScope::Domain
                    && account.domain.as_ref().is_none_or(|own| *own == spec.domain),
            },
        })
    }

    /// Who they are, by what the service account reads.
    async fn described(&self, said: Map<String, Value>) -> Result<Authenticated, Failure> {
        let user = parsed(&said)?;
        let listed = self.api.groups(&user.id).await?;
        let mut groups = Vec::new();
        for group in &listed {
            let group: Group = read_part(NAME, "the user's groups", group)?;
            if group.domain_id == user.domain_id {
                groups.push(group.name);
            }
        }
        let email = user.email.filter(|email| !email.is_empty());
        let identity = Identity {
            user_id: user.id,
            email_verified: email.is_some() && self.email_verified,
            email,
            name: None,
            preferred_username: Some(user.name),
            groups,
            extra: BTreeMap::new(),
        };
        let raw = Map::from_iter([
            ("user".to_owned(), Value::Object(said)),
            ("groups".to_owned(), Value::Array(listed)),
        ]);
        Ok(Authenticated { identity, raw, data: None })
    }

    /// Why the user's session ends, if it does.
    async fn verdict(&self, user: &User) -> Result<Option<&'static str>, Failure> {
        if !user.enabled {
            return Ok(Some("the account is disabled"));
        }
        let ends = self.expired_password == KeystoneExpiredPassword::End;
        if ends && user.password_has_expired(Utc::now().naive_utc())? {
            return Ok(Some("the password has expired"));
        }
        let domain: Domain = self.api.domain(&user.domain_id).await?;
        if !is(&self.domain, &domain.id, &domain.name) {
            return Ok(Some("the account is of another domain than the connector's"));
        }
        Ok((!domain.enabled).then_some("the account's domain is disabled"))
    }
}

impl User {
    /// UTC, as Keystone writes it (`2026-11-26T18:42:31.000000`).
    fn password_has_expired(&self, now: NaiveDateTime) -> Result<bool, Failure> {
        let Some(at) = &self.password_expires_at else { return Ok(false) };
        if self.options.ignore_password_expiry == Some(true) {
            return Ok(false);
        }
        let at = at.trim_end_matches('Z').parse::<NaiveDateTime>();
        let at = at.map_err(|_| {
            Failure::Unusable("Keystone's password_expires_at cannot be read as a time".into())
        })?;
        Ok(at <= now)
    }
}

fn parsed(said: &Map<String, Value>) -> Result<User, Failure> {
    read_part(NAME, "a user", said)
}

/// A domain, as a request names it.
fn named(domain: &KeystoneDomain) -> Value {
    match (&domain.id, &domain.name) {
        (Some(id), _) => json!({"id": id}),
        (None, name) => json!({"name": name}),
    }
}

/// Whether it is that domain.
fn is(domain: &KeystoneDomain, id: &str, name: &str) -> bool {
    match (&domain.id, &domain.name) {
        (Some(wanted), _) => wanted == id,
        (None, Some(wanted)) => wanted == name,
        (None, None) => false,
    }
}

#[async_trait]
impl PasswordLogin for Keystone {
    fn username_label(&self) -> &str {
        &self.username_label
    }

    async fn authenticate(
        &self,
        username: &str,
        password: &SecretString,
    ) -> Result<Authenticated, LoginError> {
        require_usable(username, password)?;
        in_time(NAME, async {
            let credentials = Credentials {
                name: username.to_owned(),
                domain: named(&self.domain),
                password: password.clone(),
            };
            let signed = match self.api.sign_in(&credentials, &json!("unscoped")).await? {
                Signed::In(issued) => issued.user,
                Signed::Refused(why) => return Err(LoginError::InvalidCredentials(why)),
            };
            if !is(&self.domain, &signed.domain.id, &signed.domain.name) {
                let why = "Keystone signed in a user of another domain than it was asked about";
                return Err(LoginError::Unusable(why.into()));
            }
            let user = self.api.user(&signed.id).await?;
            let user = user.ok_or_else(|| {
                LoginError::Unavailable("Keystone signs a user in and does not find them".into())
            })?;
            let read = parsed(&user)?;
            if read.id != signed.id || read.domain_id != signed.domain.id {
                let why = "Keystone describes another user than the one who signed in";
                return Err(LoginError::Unusable(why.into()));
            }
            if !read.enabled {
                return Err(LoginError::InvalidCredentials("the account is disabled".into()));
            }
            Ok(self.described(user).await?)
        })
        .await
    }
}

#[async_trait]
impl Recheck for Keystone {
    async fn recheck(
        &self,
        known: &Identity,
        _data: Option<&ConnectorData>,
    ) -> Result<Authenticated, RecheckError> {
        in_time(NAME, async {
            let gone = |why: &str| Err(RecheckError::Gone(why.to_owned()));
            let Some(said) = self.api.user(&known.user_id).await? else {
                return gone("the account is gone");
            };
            let user = parsed(&said)?;
            if user.id != known.user_id {
                let why = "Keystone describes another user than the one it was asked about";
                return Err(RecheckError::Unavailable(why.into()));
            }
            if let Some(why) = self.verdict(&user).await? {
                return gone(why);
            }
            Ok(self.described(said).await?)
        })
        .await
    }
}

#[async_trait]
impl Probe for Keystone {
    /// The service account's token is asked for anew, and its domain is read: a wrong password, a missing role and a domain
    /// that is none show before a user does.
    async fn probe(&self) -> Result<(), ProbeError> {
        in_time(NAME, async {
            let issued = self.api.fresh_token().await?;
            let id = match (&self.domain.id, issued.domain) {
                (Some(id), _) => id.clone(),
                (None, Some(domain)) => domain.id,
                (None, _) => self.api.domain_of_name(self.domain.name.as_deref()).await?,
            };
            let domain: Domain = self.api.domain(&id).await?;
            if domain.enabled {
                return Ok(());
            }
            let why = "the domain is disabled: nobody of it can sign in; enable it (openstack domain set --enable)";
            Err(Failure::Unusable(why.into()).into())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(change: &Value) -> User {
        let mut said = json!({"id": "1", "name": "ada", "domain_id": "default", "enabled": true});
        for (name, value) in change.as_object().unwrap() {
            said[name] = value.clone();
        }
        serde_json::from_value(said).unwrap()
    }

    #[test]
    fn a_password_expires_at_its_time_unless_the_user_is_exempt() {
        let now: NaiveDateTime = "2026-11-26T18:00:00".parse().unwrap();
        let expired = |change: Value| user(&change).password_has_expired(now);
        assert_eq!(expired(json!({})), Ok(false));
        assert_eq!(expired(json!({"password_expires_at": null})), Ok(false));
        for (at, wanted) in [
            ("2026-11-26T18:00:00.000000", true),
            ("2026-11-26T17:59:59Z", true),
            ("2026-11-26T18:00:01.000000", false),
        ] {
            assert_eq!(expired(json!({"password_expires_at": at})), Ok(wanted), "{at}");
        }
        let past = "2020-01-01T00:00:00.000000";
        let exempt =
            json!({"password_expires_at": past, "options": {"ignore_password_expiry": true}});
        assert_eq!(expired(exempt), Ok(false));
        assert!(expired(json!({"password_expires_at": "soon"})).is_err(), "no verdict");
    }

    #[test]
    fn a_domain_is_the_one_that_was_said() {
        let by = |id: Option<&str>, name: Option<&str>| KeystoneDomain {
            id: id.map(str::to_owned),
            name: name.map(str::to_owned),
        };
        assert!(is(&by(Some("d"), None), "d", "anything"));
        assert!(!is(&by(Some("d"), None), "e", "d"));
        assert!(is(&by(None, Some("Corp")), "anything", "Corp"));
        assert!(!is(&by(None, Some("Corp")), "Corp", "corp"));
        assert!(!is(&by(None, None), "", ""));
    }
}
