//! Each kind of connector, and how it is pointed at a server of the test's.

use claviger_api::ConnectorSpec;
use claviger_connectors::{Purpose, Resolved, Upstream, build, secret_refs};
use claviger_testkit::tunnel::Tunnel;
use serde_json::{Value, json};

use crate::peer::Peer;

/// One kind.
pub struct Kind {
    /// As the schema calls it.
    pub name: &'static str,
    /// Its part of the spec, for a directory at this address where it is one.
    pub upstream: fn(&str) -> Value,
    /// What it keeps of a user, as it would be sealed in a Session.
    pub kept: &'static str,
}

/// Hosts that only vendors have, and those that the specs below name.
pub const HOSTS: [&str; 12] = [
    "upstream.example.com",
    "accounts.google.com",
    "login.microsoftonline.com",
    "graph.microsoft.com",
    "www.linkedin.com",
    "github.com",
    "api.github.com",
    "gitlab.com",
    "bitbucket.org",
    "api.bitbucket.org",
    "oauth2.googleapis.com",
    "api.linkedin.com",
];

/// Every kind whose upstream is asked anything. `local` and `authProxy` ask nobody.
pub const KINDS: [Kind; 15] = [
    Kind {
        name: "ldap",
        upstream: ldap,
        kept: r#"{"dn":"uid=alice,ou=people,dc=example,dc=org"}"#,
    },
    Kind {
        name: "activeDirectory",
        upstream: active_directory,
        kept: r#"{"dn":"CN=alice,CN=Users,DC=example,DC=org","pwdLastSet":1}"#,
    },
    Kind { name: "oidc", upstream: oidc, kept: REFRESH_TOKEN },
    Kind { name: "google", upstream: |_| vendor(), kept: REFRESH_TOKEN },
    Kind { name: "microsoft", upstream: microsoft, kept: REFRESH_TOKEN },
    Kind { name: "linkedin", upstream: |_| vendor(), kept: REFRESH_TOKEN },
    Kind { name: "github", upstream: github, kept: r#"{"a":"token"}"# },
    Kind { name: "gitlab", upstream: |_| vendor(), kept: r#"{"r":"token"}"# },
    Kind { name: "gitea", upstream: gitea, kept: r#"{"r":"token"}"# },
    Kind { name: "bitbucketCloud", upstream: |_| vendor(), kept: r#"{"r":"token"}"# },
    Kind { name: "oauth2", upstream: oauth2, kept: r#"{"r":"token"}"# },
    Kind { name: "openshift", upstream: gitea, kept: r#"{"a":"token"}"# },
    Kind { name: "atlassianCrowd", upstream: crowd, kept: "" },
    Kind { name: "keystone", upstream: keystone, kept: "" },
    Kind { name: "saml", upstream: saml, kept: "" },
];

const REFRESH_TOKEN: &str = r#"{"s":"08a8684b","r":"token"}"#;

impl Kind {
    /// A connector of this kind to the peer: straight, or through a proxy behind which there is nobody else.
    pub async fn connector(&self, peer: &Peer) -> (Upstream, Tunnel) {
        let tunnel = Tunnel::to(peer.address).await.unwrap();
        let mut upstream = (self.upstream)(&format!("ldaps://{}", peer.address));
        upstream["tls"]["caBundle"] = json!(peer.authority.certificate_pem());
        let spec = json!({"displayName": "Corp", "upstream": {self.name: upstream}});
        let spec: ConnectorSpec = serde_json::from_value(spec).unwrap();
        let mut resolved = Resolved::default();
        resolved.proxy = Some(tunnel.url());
        for reference in secret_refs(&spec) {
            assert!(matches!(
                reference.purpose,
                Purpose::ClientSecret | Purpose::BindPassword | Purpose::ServicePassword
            ));
            resolved.insert(&reference.name, &reference.key, b"secret".to_vec());
        }
        (build("corp", &spec, &resolved).unwrap(), tunnel)
    }
}

fn vendor() -> Value {
    json!({"clientID": "claviger", "clientSecretRef": {"name": "corp", "key": "secret"}, "tls": {}})
}

fn with(more: &Value) -> Value {
    let mut vendor = vendor();
    vendor.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    vendor
}

fn bind(url: &str) -> Value {
    json!({
        "urls": [url], "tls": {},
        "bind": {"dn": "cn=claviger,dc=example,dc=org", "passwordSecretRef": {"name": "corp", "key": "secret"}},
        "timeouts": {"connectSeconds": 2, "operationSeconds": 2},
    })
}

fn ldap(url: &str) -> Value {
    let mut ldap = bind(url);
    ldap["userSearch"] = json!({
        "baseDN": "ou=people,dc=example,dc=org", "usernameAttributes": ["uid"], "idAttribute": "entryUUID",
    });
    ldap
}

fn active_directory(url: &str) -> Value {
    let mut domain = bind(url);
    domain["bind"]["name"] = json!("claviger@example.org");
    domain["baseDN"] = json!("DC=example,DC=org");
    domain
}

fn oidc(_: &str) -> Value {
    with(&json!({"issuer": "https://upstream.example.com"}))
}

fn microsoft(_: &str) -> Value {
    with(&json!({"tenant": "11111111-2222-3333-4444-555555555555"}))
}

fn github(_: &str) -> Value {
    with(&json!({"organizations": [{"name": "acme"}]}))
}

fn gitea(_: &str) -> Value {
    with(&json!({"url": "https://upstream.example.com"}))
}

fn oauth2(_: &str) -> Value {
    with(&json!({
        "authorizationURL": "https://upstream.example.com/authorize",
        "tokenURL": "https://upstream.example.com/token",
        "userinfoURL": "https://upstream.example.com/me",
    }))
}

fn crowd(_: &str) -> Value {
    json!({
        "url": "https://upstream.example.com/crowd", "applicationName": "claviger", "tls": {},
        "applicationPasswordSecretRef": {"name": "corp", "key": "secret"},
    })
}

fn keystone(_: &str) -> Value {
    json!({
        "url": "https://upstream.example.com:5000/v3", "domain": {"name": "Corp"}, "tls": {},
        "serviceAccount": {"name": "claviger", "passwordSecretRef": {"name": "corp", "key": "secret"}},
    })
}

fn saml(_: &str) -> Value {
    json!({"metadataURL": "https://upstream.example.com/metadata", "tls": {}})
}
