//! Keycloak as an OpenID provider: a client of it for each scene, and users who can be moved and disabled.

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::Browser;
use crate::browser::Landing;
use crate::keycloak::{Keycloak, PASSWORD, client as client_of};

/// The secret of every client of it.
pub const CLIENT_SECRET: &str = "what-keycloak-knows-us-by";

/// A user there.
#[derive(Debug, Clone)]
pub struct Person {
    /// What is typed.
    pub name: String,
    /// `sub`.
    pub id: String,
}

impl Keycloak {
    /// Makes the connector `corp` of an issuer known to it as a client, whose tokens name groups in the claim `groups`.
    ///
    /// # Errors
    /// With its answer.
    pub async fn register_openid(&self, client_id: &str, issuer: &str) -> Result<()> {
        let config = json!({
            "claim.name": "groups", "full.path": "false", "id.token.claim": "true",
            "userinfo.token.claim": "true", "access.token.claim": "false",
        });
        let client = json!({
            "clientId": client_id, "protocol": "openid-connect", "enabled": true,
            "publicClient": false, "secret": CLIENT_SECRET,
            "redirectUris": [format!("{issuer}/callback/corp")],
            "attributes": {
                "post.logout.redirect.uris": format!("{issuer}/logout"),
                "backchannel.logout.url": format!("{issuer}/callback/corp/logout"),
                "backchannel.logout.session.required": "true",
            },
            "protocolMappers": [{
                "name": "groups", "protocol": "openid-connect",
                "protocolMapper": "oidc-group-membership-mapper", "config": config,
            }],
        });
        self.administer(Method::POST, "clients", &client).await.map(drop)
    }

    /// An ID token of a user for another application there, made known to it for that.
    ///
    /// # Errors
    /// With its answer.
    pub async fn id_token_for(&self, client_id: &str, name: &str) -> Result<String> {
        let config =
            json!({"claim.name": "groups", "full.path": "false", "id.token.claim": "true"});
        let client = json!({
            "clientId": client_id, "protocol": "openid-connect", "enabled": true,
            "publicClient": true, "directAccessGrantsEnabled": true,
            "protocolMappers": [{
                "name": "groups", "protocol": "openid-connect",
                "protocolMapper": "oidc-group-membership-mapper", "config": config,
            }],
        });
        self.administer(Method::POST, "clients", &client).await?;
        let form = [
            ("grant_type", "password"),
            ("client_id", client_id),
            ("username", name),
            ("password", PASSWORD),
            ("scope", "openid"),
        ];
        let place = format!("{}/protocol/openid-connect/token", self.entity_id());
        let answer = client_of(self.authority())?.post(place).form(&form).send().await?;
        let said: Value = serde_json::from_str(&answer.text().await?)?;
        let id_token = said["id_token"].as_str().with_context(|| format!("no ID token: {said}"))?;
        Ok(id_token.to_owned())
    }

    /// The `upstream` of a Connector to it, its secret in the Secret `upstream`.
    pub fn openid_upstream(&self, client_id: &str) -> Value {
        json!({"oidc": {
            "issuer": self.entity_id(), "clientID": client_id,
            "clientSecretRef": {"name": "upstream", "key": "clientSecret"},
            "claims": {"groups": "groups"},
            "tls": {"caBundle": self.authority().certificate_pem()},
        }})
    }

    /// Makes a user, with a verified address at example.com, in these groups.
    ///
    /// # Errors
    /// With its answer.
    pub async fn add_person(&self, name: &str, groups: &[&str]) -> Result<Person> {
        let groups: Vec<_> = groups.iter().map(|group| format!("/{group}")).collect();
        let user = json!({
            "username": name, "enabled": true, "email": format!("{name}@example.com"),
            "emailVerified": true, "firstName": name, "lastName": "Person", "groups": groups,
            "credentials": [{"type": "password", "value": PASSWORD}],
        });
        let answer = self.administer(Method::POST, "users", &user).await?;
        let location = answer.headers().get("location").context("no Location of the user")?;
        let id = location.to_str()?.rsplit('/').next().context("no ID of the user")?.to_owned();
        Ok(Person { name: name.to_owned(), id })
    }

    /// Puts a user into a group of the realm.
    ///
    /// # Errors
    /// With its answer.
    pub async fn join(&self, person: &Person, group: &str) -> Result<()> {
        let groups = self.administer(Method::GET, "groups", &Value::Null).await?;
        let groups: Value = serde_json::from_str(&groups.text().await?)?;
        let group = groups.as_array().into_iter().flatten().find(|one| one["name"] == group);
        let group = group.and_then(|one| one["id"].as_str()).context("no such group")?;
        let path = format!("users/{}/groups/{group}", person.id);
        self.administer(Method::PUT, &path, &Value::Null).await.map(drop)
    }

    /// Takes a user out of service.
    ///
    /// # Errors
    /// With its answer.
    pub async fn disable(&self, person: &Person) -> Result<()> {
        let path = format!("users/{}", person.id);
        self.administer(Method::PUT, &path, &json!({"enabled": false})).await.map(drop)
    }

    /// Signs a user out of all their browsers.
    ///
    /// # Errors
    /// With its answer.
    pub async fn sign_out(&self, person: &Person) -> Result<()> {
        let path = format!("users/{}/logout", person.id);
        self.administer(Method::POST, &path, &Value::Null).await.map(drop)
    }

    /// A browser that trusts it.
    ///
    /// # Errors
    /// When its authority is none.
    pub fn browser(&self) -> Result<Browser> {
        Browser::new(self.authority().certificate_pem())
    }

    /// Signs a user in who arrives here from Claviger, with the password unless this browser has signed in before, and
    /// returns where the browser is sent back to.
    ///
    /// # Errors
    /// With the page that came instead.
    pub async fn sign_in_openid(
        &self,
        browser: &Browser,
        arriving: &Url,
        name: &str,
    ) -> Result<Url> {
        ensure!(arriving.as_str().starts_with(&self.entity_id()), "{arriving}");
        let form = match browser.open(arriving).await? {
            Landing::Application(back) => return Ok(back),
            Landing::Page(form) => form,
        };
        ensure!(form.form_field("password").is_some(), "{}: {}", form.status, form.html);
        match browser.submit(&form, &[("username", name), ("password", PASSWORD)]).await? {
            Landing::Application(back) => Ok(back),
            Landing::Page(page) => bail!("{}: {}", page.status, page.html),
        }
    }
}
