//! Cases of `Connector` with a vendor that has one address for everybody, or speaks OAuth 2.0.
#![expect(clippy::too_many_lines, reason = "a table is as long as what it lists")]

use serde_json::{Value, json};

use super::connector::{HTTPS, ONE_AUTHORITY};
use super::{Bad, Good, bad, changed, good};

/// What is taken.
pub fn good_cases() -> Vec<Good> {
    vec![
        good(
            "authorities of trust-manager",
            vendor(
                "google",
                &json!({"tls": {"caConfigMapRef": {"name": "corp-ca", "key": "bundle.pem"}}}),
            ),
        ),
        good("Google", vendor("google", &json!({}))),
        good(
            "Google with everything",
            changed(
                &vendor("google", &every_google_field()),
                &json!({"allowedGroups": ["ops@example.com"], "proxyURL": "http://proxy.example.com:3128"}),
            ),
        ),
        good("Microsoft", vendor("microsoft", &json!({"tenant": TENANT}))),
        good("Microsoft with everything", vendor("microsoft", &every_microsoft_field())),
        good(
            "Microsoft, by a certificate",
            known_by(&json!({"certificateSecretRef": {"name": "microsoft"}})),
        ),
        good("Microsoft, by a federated credential", known_by(&json!({"federatedCredential": {}}))),
        good("personal accounts", vendor("microsoft", &json!({"tenant": "consumers"}))),
        good("LinkedIn", vendor("linkedin", &json!({}))),
        good("GitHub", github(&json!({}))),
        good("GitHub with everything", github(&every_github_field())),
        good("GitLab", vendor("gitlab", &json!({}))),
        good(
            "GitLab with everything",
            vendor(
                "gitlab",
                &json!({
                    "url": "https://example.com/gitlab", "groups": "Accessible", "roles": "Suffix",
                    "tls": {"caSecretRef": {"name": "corp-ca", "key": "ca.crt"}},
                }),
            ),
        ),
        good("Gitea", vendor("gitea", &json!({"url": "https://codeberg.org"}))),
        good(
            "Gitea with everything",
            vendor(
                "gitea",
                &json!({
                    "url": "https://git.example.com", "groups": "All",
                    "organizations": [{"name": "acme", "id": 7, "teams": ["Owners"]}, {"name": "b.c"}],
                    "tls": {"caSecretRef": {"name": "corp-ca", "key": "ca.crt"}},
                }),
            ),
        ),
        good("Bitbucket Cloud", vendor("bitbucketCloud", &json!({}))),
        good(
            "Bitbucket Cloud with everything",
            vendor(
                "bitbucketCloud",
                &json!({
                    "roles": "Suffix", "url": "https://gateway.example.com",
                    "apiURL": "https://gateway.example.com/2.0",
                    "tls": {"caSecretRef": {"name": "corp-ca", "key": "ca.crt"}},
                }),
            ),
        ),
        good("any vendor", vendor("oauth2", &endpoints())),
        good("any vendor with everything", vendor("oauth2", &every_oauth2_field())),
        good("OpenShift", vendor("openshift", &cluster())),
        good(
            "OpenShift with everything",
            vendor(
                "openshift",
                &json!({
                    "url": "https://api.example.com:6443", "clientID": "system:serviceaccount:a:b",
                    "tls": {"caSecretRef": {"name": "corp-ca", "key": "ca.crt"}},
                }),
            ),
        ),
    ]
}

/// What is not.
pub fn bad_cases() -> Vec<Bad> {
    [openid_vendors(), githubs(), oauth2_vendors()].into_iter().flatten().collect()
}

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const NEEDS_GROUPS_READ: &str = "allowedGroups needs groups to be read: say groups in upstream.google or upstream.microsoft; LinkedIn has none";
const ONE_CREDENTIAL: &str = "say exactly one of clientSecretRef, certificateSecretRef and federatedCredential, by which Microsoft knows Claviger";
const MANY_TENANTS: &str = "tenant common and organizations admit every tenant in the world: list those you mean in allowedTenants, or name one tenant";

fn every_google_field() -> Value {
    json!({
        "hostedDomains": ["example.com"],
        "groups": {
            "serviceAccountSecretRef": {"name": "google", "key": "serviceAccount"},
            "administrators": [
                {"domain": "example.com", "email": "admin@example.com"},
                {"domain": "*", "email": "admin@example.org"},
            ],
            "nesting": "Nested",
        },
        "tls": {"caSecretRef": {"name": "google", "key": "ca.crt"}},
    })
}

fn every_microsoft_field() -> Value {
    json!({
        "tenant": "organizations", "allowedTenants": [TENANT], "cloud": "USGovernment",
        "email": "UserPrincipalName", "groups": {"names": "DisplayName", "types": "All"},
        "domainHint": "corp.example", "tls": {"caSecretRef": {"name": "microsoft", "key": "ca.crt"}},
    })
}

/// Microsoft, to which Claviger shows this instead of a secret.
fn known_by(what: &Value) -> Value {
    let by_nothing = json!({"tenant": TENANT, "clientSecretRef": null});
    vendor("microsoft", &changed_keeping_nulls(&by_nothing, what))
}

/// Both, with what is null in either.
fn changed_keeping_nulls(base: &Value, change: &Value) -> Value {
    let mut all = base.as_object().cloned().unwrap_or_default();
    all.extend(change.as_object().cloned().unwrap_or_default());
    Value::Object(all)
}

fn openid_vendors() -> Vec<Bad> {
    let grouped = |kind: &str, change: &Value| {
        changed(&vendor(kind, change), &json!({"allowedGroups": ["ops"]}))
    };
    let microsoft = |change: &Value| vendor("microsoft", change);
    let administrator = |domain: &str| {
        vendor(
            "google",
            &json!({"groups": {
                "serviceAccountSecretRef": {"name": "google", "key": "serviceAccount"},
                "administrators": [{"domain": domain, "email": "admin@example.com"}],
            }}),
        )
    };
    vec![
        bad("Google's groups, not read", grouped("google", &json!({})), NEEDS_GROUPS_READ),
        bad(
            "Microsoft's groups, not read",
            grouped("microsoft", &json!({"tenant": TENANT})),
            NEEDS_GROUPS_READ,
        ),
        bad("nothing by which Microsoft knows us", known_by(&json!({})), ONE_CREDENTIAL),
        bad(
            "two things by which Microsoft knows us",
            microsoft(&json!({"tenant": TENANT, "federatedCredential": {}})),
            ONE_CREDENTIAL,
        ),
        bad(
            "a certificate and a federated credential",
            known_by(&json!({"certificateSecretRef": {"name": "m"}, "federatedCredential": {}})),
            ONE_CREDENTIAL,
        ),
        bad("LinkedIn's groups", grouped("linkedin", &json!({})), NEEDS_GROUPS_READ),
        bad(
            "a Workspace with @",
            vendor("google", &json!({"hostedDomains": ["@example.com"]})),
            "hostedDomains must be lower-case domains without '@', such as example.com",
        ),
        bad(
            "an administrator of no domain",
            administrator("Example.com"),
            "domain must be a lower-case domain, such as example.com, or * for every domain that is not listed",
        ),
        bad("Google by another ID", vendor("google", &json!({"clientID": "clavigér"})), CLIENT_ID),
        bad(
            "LinkedIn by another ID",
            vendor("linkedin", &json!({"clientID": "clavigér"})),
            CLIENT_ID,
        ),
        bad(
            "Microsoft by another ID",
            microsoft(&json!({"tenant": TENANT, "clientID": "é"})),
            CLIENT_ID,
        ),
        bad(
            "a tenant by its domain",
            microsoft(&json!({"tenant": "corp.onmicrosoft.com"})),
            "tenant must be a tenant's ID (a lower-case UUID, as the overview of Entra ID shows it), common, organizations or consumers",
        ),
        bad("every organization", microsoft(&json!({"tenant": "organizations"})), MANY_TENANTS),
        bad(
            "every account",
            microsoft(&json!({"tenant": "common", "allowedTenants": []})),
            MANY_TENANTS,
        ),
        bad(
            "a list for one tenant",
            microsoft(&json!({"tenant": TENANT, "allowedTenants": [TENANT]})),
            "allowedTenants is for tenant common and organizations: remove it, this connector has one tenant",
        ),
        bad(
            "a tenant on the list in capitals",
            microsoft(
                &json!({"tenant": "common", "allowedTenants": ["AAAAAAAA-2222-3333-4444-555555555555"]}),
            ),
            "allowedTenants must be tenants' IDs: lower-case UUIDs, as the overview of Entra ID shows them",
        ),
        bad(
            "a proxy to a directory",
            json!({"proxyURL": "http://proxy.example.com:3128"}),
            "proxyURL is for upstreams with a web API: remove it",
        ),
        bad(
            "a proxy with a password",
            changed(
                &vendor("google", &json!({})),
                &json!({"proxyURL": "http://me:secret@proxy.example.com"}),
            ),
            "proxyURL must be http:// or https:// with a host and perhaps a port, such as http://proxy.example.com:3128",
        ),
    ]
}

const CLIENT_ID: &str = "clientID must be printable ASCII, as the provider shows it";

/// The base with GitHub instead.
fn github(change: &Value) -> Value {
    let upstream = json!({"clientID": "Iv1.abc", "clientSecretRef": {"name": "github", "key": "clientSecret"}});
    json!({"upstream": {"ldap": null, "github": changed(&upstream, change)}})
}

fn every_github_field() -> Value {
    json!({
        "url": "https://github.example.com",
        "apiURL": "https://github.example.com/api/v3",
        "organizations": [
            {"name": "acme", "id": 100, "teams": ["site-admins", "dev.ops_1"]},
            {"name": "Acme-Labs"},
        ],
        "groups": "All",
        "teamNames": "Both",
        "preferredEmailDomains": ["example.com"],
        "emailVerification": "Always",
        "tls": {"caSecretRef": {"name": "corp-ca", "key": "ca.crt"}},
    })
}

fn githubs() -> Vec<Bad> {
    let organization = |one: &Value| github(&json!({"organizations": [one]}));
    vec![
        bad("GitHub without TLS", github(&json!({"url": "http://github.example.com"})), HTTPS),
        bad("its API without TLS", github(&json!({"apiURL": "http://api.example.com"})), HTTPS),
        bad(
            "an application's ID of other characters",
            github(&json!({"clientID": "clavigér"})),
            "clientID must be printable ASCII, as the provider shows it",
        ),
        bad(
            "an organization twice",
            github(&json!({"organizations": [{"name": "acme"}, {"name": "Acme"}]})),
            "organizations must list each organization once; GitHub does not tell upper from lower \
             case",
        ),
        bad(
            "an organization by its address",
            organization(&json!({"name": "https://github.com/acme"})),
            "organizations.name must be the organization's name in addresses, such as acme",
        ),
        bad(
            "a team by what people see",
            organization(&json!({"name": "acme", "teams": ["Site Admins"]})),
            "teams must be slugs, as in the team's address: lower case, no spaces",
        ),
        bad(
            "a preferred domain with @",
            github(&json!({"preferredEmailDomains": ["@example.com"]})),
            "preferredEmailDomains must be lower-case domains without '@', such as example.com",
        ),
        bad(
            "groups that nobody reads",
            changed(&github(&json!({})), &json!({"allowedGroups": ["acme"]})),
            "allowedGroups needs groups to be read: list upstream.github.organizations, or set \
             upstream.github.groups to All",
        ),
        bad(
            "a ConfigMap and a bundle for GitHub",
            github(&json!({"tls": {
                "caConfigMapRef": {"name": "ca"}, "caBundle": "-----BEGIN CERTIFICATE-----",
            }})),
            ONE_AUTHORITY,
        ),
        bad(
            "two sources of certificates for GitHub",
            github(&json!({"tls": {
                "caSecretRef": {"name": "ca", "key": "ca.crt"},
                "caBundle": "-----BEGIN CERTIFICATE-----",
            }})),
            "tls takes caSecretRef or caBundle, not both: remove one",
        ),
    ]
}

/// The base with another vendor instead.
fn vendor(kind: &str, change: &Value) -> Value {
    let upstream =
        json!({"clientID": "claviger", "clientSecretRef": {"name": "corp", "key": "clientSecret"}});
    json!({"upstream": {"ldap": null, kind: changed(&upstream, change)}})
}

fn endpoints() -> Value {
    json!({
        "authorizationURL": "https://vendor.example.com/authorize",
        "tokenURL": "https://vendor.example.com/token",
        "userinfoURL": "https://api.vendor.example.com/me",
    })
}

fn every_oauth2_field() -> Value {
    changed(
        &endpoints(),
        &json!({
            "clientAuthentication": "ClientSecretPost",
            "scopes": ["read", "urn:example:teams"],
            "claims": {
                "userID": "data.id", "username": "data.login", "name": "data.name", "email": "data.mail",
                "emailVerified": "data.confirmed", "groups": "teams",
            },
            "emailVerification": "Always",
            "accessTokens": "Lasting",
            "tls": {"caSecretRef": {"name": "corp-ca", "key": "ca.crt"}},
        }),
    )
}

fn cluster() -> Value {
    json!({"url": "https://api.example.com:6443"})
}

fn oauth2_vendors() -> Vec<Bad> {
    let of = |kind: &str, base: &Value, change: &Value| {
        changed(&vendor(kind, base), &json!({"upstream": {kind: change}}))
    };
    let oauth2 = |change: &Value| of("oauth2", &endpoints(), change);
    let gitea = |change: &Value| of("gitea", &json!({"url": "https://git.example.com"}), change);
    vec![
        bad("OpenShift without TLS", vendor("openshift", &json!({"url": "http://api"})), HTTPS),
        bad(
            "an OAuth client of no name",
            of("openshift", &cluster(), &json!({"clientID": "ä"})),
            "clientID must be printable ASCII, as the provider shows it",
        ),
        bad(
            "GitLab without TLS",
            vendor("gitlab", &json!({"url": "http://gitlab.example.com"})),
            HTTPS,
        ),
        bad("Gitea without TLS", gitea(&json!({"url": "http://git.example.com"})), HTTPS),
        bad(
            "a gateway without TLS",
            vendor("bitbucketCloud", &json!({"apiURL": "http://a.b"})),
            HTTPS,
        ),
        bad(
            "a vendor without TLS",
            oauth2(&json!({"userinfoURL": "http://api.example.com/me"})),
            HTTPS,
        ),
        bad(
            "a token endpoint with a query",
            oauth2(&json!({"tokenURL": "https://a.b/t?x=y"})),
            HTTPS,
        ),
        bad(
            "an organization of Gitea's twice",
            gitea(&json!({"organizations": [{"name": "acme"}, {"name": "ACME"}]})),
            "organizations must list each organization once; Gitea does not tell upper from lower \
             case",
        ),
        bad(
            "an organization of Gitea's by its address",
            gitea(&json!({"organizations": [{"name": "git.example.com/acme"}]})),
            "organizations.name must be the organization's name in the addresses of its repositories, \
             such as acme",
        ),
        bad(
            "a team of Gitea's with a space",
            gitea(&json!({"organizations": [{"name": "acme", "teams": ["the owners"]}]})),
            "teams must be names as the organization's list of teams shows them, without spaces",
        ),
        bad(
            "groups of Gitea's that nobody reads",
            changed(&gitea(&json!({})), &json!({"allowedGroups": ["acme"]})),
            "allowedGroups needs groups to be read: list upstream.gitea.organizations, or set \
             upstream.gitea.groups to All",
        ),
        bad(
            "groups of a vendor's that nobody reads",
            changed(&oauth2(&json!({})), &json!({"allowedGroups": ["acme"]})),
            "allowedGroups needs groups to be read: name their claim in upstream.oauth2.claims.groups",
        ),
        bad(
            "a secret for a vendor's form and none to put there",
            oauth2(&json!({"clientAuthentication": "ClientSecretPost", "clientSecretRef": null})),
            "clientAuthentication needs clientSecretRef: name the Secret, or set clientAuthentication \
             to None",
        ),
        bad(
            "a secret that a vendor is not shown",
            oauth2(&json!({"clientAuthentication": "None"})),
            "clientAuthentication None uses no secret: remove clientSecretRef, or set ClientSecretBasic \
             or ClientSecretPost",
        ),
    ]
}
