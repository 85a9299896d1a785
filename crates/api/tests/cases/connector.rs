//! Cases of `Connector`.
#![expect(clippy::too_many_lines, reason = "a table is as long as what it lists")]

use serde_json::{Value, json};

use super::{Table, active_directory, atlassian_crowd, bad, changed, good, keystone, vendors};

const ONE_UPSTREAM: &str = "upstream must be exactly one of: local, ldap, activeDirectory, authProxy, oidc, google, microsoft, linkedin, \
                            saml, github, gitlab, gitea, bitbucketCloud, oauth2, openshift, keystone, atlassianCrowd";
const CLIENT_NAMES: &str = "allowedClientNames must be lower-case DNS names without wildcard, such \
                            as proxy.example.com, or URIs, such as spiffe://example.com/proxy";
const SIGN_OUT: &str = "signOut.url must be https://, without fragment, user or spaces";
const NEEDS_GROUPS: &str = "upstream.authProxy needs allowedGroups: its word is not checked, so \
                            list the groups it may speak for";
const OFFLINE: &str = "offlineSessionSeconds is for upstreams that cannot be asked again \
                       (authProxy, saml): remove it, the others are asked at refresh";
const LDAPS: &str =
    "tls.mode LDAPS needs ldaps:// urls: change the urls, or set tls.mode to StartTLS";
const NOT_LDAPS: &str = "tls.mode StartTLS and Plaintext need ldap:// urls: change the urls, or \
                         set tls.mode to LDAPS";
pub const URLS: &str = "urls must be ldaps://host[:port] or ldap://host[:port], without path, query or \
                    user";
const PLAINTEXT: &str = "tls.mode Plaintext uses no certificates: remove the other tls fields, or \
                         set tls.mode to LDAPS or StartTLS";
const DOMAINS: &str = "emailDomains must be lower-case domains without '@', such as example.com";
pub(super) const ONE_AUTHORITY: &str =
    "tls takes one of caConfigMapRef, caSecretRef and caBundle: remove the others";

pub fn table() -> Table {
    Table {
        kind: "Connector",
        base: json!({
            "displayName": "Corporate directory",
            "upstream": {"ldap": {
                "urls": ["ldaps://ldap.example.com"],
                "userSearch": {"baseDN": "ou=people,dc=example,dc=com", "usernameAttributes": ["uid"]},
            }},
        }),
        good: [vendors::good_cases(), others()].into_iter().flatten().collect(),
        bad: [
            upstreams(),
            directories(),
            active_directory::domains(),
            active_directory::trusted(),
            providers(),
            identity_providers(),
            vendors::bad_cases(),
            proxies(),
            policies(),
            keystone::openstacks(),
            atlassian_crowd::crowds(),
        ]
        .into_iter()
        .flatten()
        .collect(),
        bad_updates: vec![],
    }
}

/// What is taken of everything but vendors with one address for everybody, and OAuth 2.0.
fn others() -> Vec<super::Good> {
    vec![
        good("local", json!({"upstream": {"ldap": null, "local": {}}})),
        good("an OpenID provider", provider(&json!({}))),
        good(
            "an OpenID provider at an address",
            provider(&json!({"issuer": "https://[2001:db8::1]:8443/idp"})),
        ),
        good("an OpenID provider with everything", provider(&every_oidc_field())),
        good("an OpenID provider that is shown a key", provider(&by_key(&json!({})))),
        good("an identity provider", identity_provider(&json!({}))),
        good("an identity provider with everything", identity_provider(&every_saml_field())),
        good(
            "an identity provider by hand, and an offline period",
            json!({"offlineSessionSeconds": 3600, "upstream": {"ldap": null, "saml": by_hand(&json!({}))}}),
        ),
        good(
            "an identity provider's document",
            identity_provider(&json!({"metadataURL": null, "metadata": "<EntityDescriptor/>"})),
        ),
        good(
            "a directory behind authorities of trust-manager",
            json!({"upstream": {"ldap": {"tls": {
                "caSecretRef": null, "caBundle": null, "caConfigMapRef": {"name": "corp-ca", "key": "ca.crt"},
            }}}}),
        ),
        good("a Windows domain", active_directory::domain(&json!({}))),
        good(
            "a Windows domain with everything",
            active_directory::domain(&active_directory::every_domain_field()),
        ),
        good("Crowd", atlassian_crowd::crowd(&json!({}))),
        good(
            "Crowd with everything",
            atlassian_crowd::crowd(&atlassian_crowd::every_crowd_field()),
        ),
        good("an OpenStack", keystone::openstack(&json!({}))),
        good(
            "an OpenStack with everything",
            keystone::openstack(&keystone::every_keystone_field()),
        ),
        good("every way to read an answer", reading()),
        good("a trusted proxy", proxy(&json!({}))),
        good(
            "a trusted proxy with everything",
            proxy(&json!({
                "allowedClientNames": ["proxy.example.com", "spiffe://example.com/proxy"],
                "allowedSourceCIDRs": ["10.0.0.0/8", "2001:db8::/32"],
                "headers": {
                    "user": "Remote-User",
                    "userID": "X-Remote-User-Id",
                    "email": "X-Remote-User-Email",
                    "emailVerified": "X-Remote-User-Email-Verified",
                    "preferredUsername": "X-Remote-User-Login",
                    "name": "X-Remote-User-Name",
                    "groups": "X-Remote-Group",
                    "groupsSeparator": "|",
                },
                "staticGroups": ["staff"],
            })),
        ),
        good(
            "a trusted proxy with sessions that go on",
            changed(&proxy(&json!({})), &json!({"offlineSessionSeconds": 600})),
        ),
        good(
            "plain text when asked for",
            ldap(&json!({
                "urls": ["ldap://127.0.0.1:389", "ldap://[::1]:389"], "tls": {"mode": "Plaintext"},
            })),
        ),
        good(
            "everything",
            json!({
                "allowedGroups": ["admins"],
                "groupPrefix": "corp:",
                "acr": "urn:example:password",
                "emailDomains": ["example.com", "eu.example.com"],
                "recheckIntervalSeconds": 300,
                "upstream": {"ldap": {
                    "urls": ["ldap://a.example.com", "ldap://b.example.com:1389"],
                    "tls": {
                        "mode": "StartTLS",
                        "caSecretRef": {"name": "ldap-ca", "key": "ca.crt"},
                        "clientCertificateSecretRef": {"name": "ldap-client"},
                        "serverVerification": "InsecureSkip",
                    },
                    "bind": {
                        "dn": "cn=claviger,dc=example,dc=com",
                        "passwordSecretRef": {"name": "ldap", "key": "password"},
                    },
                    "usernamePrompt": "Login",
                    "userSearch": {
                        "filter": "(objectClass=person)",
                        "scope": "OneLevel",
                        "usernameAttributes": ["uid", "mail"],
                        "idAttribute": "entryUUID",
                        "emailAttribute": "mail",
                        "emailSuffix": "example.com",
                        "nameAttribute": "cn",
                        "preferredUsernameAttribute": "uid",
                        "claimAttributes": every_claim(),
                    },
                    "groupSearch": {
                        "baseDN": "ou=groups,dc=example,dc=com",
                        "filter": "(objectClass=groupOfNames)",
                        "scope": "OneLevel",
                        "userMatchers": [
                            {"userAttribute": "DN", "groupAttribute": "member",
                             "recursionGroupAttribute": "member"},
                            {"userAttribute": "DN",
                             "groupAttribute": "member:1.2.840.113556.1.4.1941:"},
                        ],
                        "nameAttribute": "ou",
                        "nestedDepth": 3,
                    },
                    "groupsFromAttribute": {
                        "attribute": "memberOf", "nameFormat": "FirstRDN", "nestedDepth": 2,
                    },
                    "timeouts": {"connectSeconds": 1, "operationSeconds": 2},
                    "poolSize": 1,
                }},
            }),
        ),
    ]
}

/// All claims an attribute may become.
pub fn every_claim() -> Value {
    json!({
        "givenName": "givenName",
        "familyName": "sn",
        "middleName": "middleName",
        "nickname": "displayName",
        "profile": "url",
        "picture": "photoURI",
        "website": "labeledURI",
        "gender": "gender",
        "birthdate": "schacDateOfBirth",
        "zoneinfo": "timezone",
        "locale": "preferredLanguage",
        "updatedAt": "modifyTimestamp",
        "phoneNumber": "telephoneNumber",
        "phoneNumberVerification": "Verified",
        "address": {
            "formatted": "postalAddress",
            "streetAddress": "street",
            "locality": "l",
            "region": "st",
            "postalCode": "postalCode",
            "country": "c",
        },
    })
}

fn ldap(change: &Value) -> Value {
    json!({"upstream": {"ldap": change}})
}

/// The base with a trusted proxy instead.
fn proxy(change: &Value) -> Value {
    let upstream = json!({
        "clientCASecretRef": {"name": "proxy", "key": "ca.crt"},
        "allowedClientNames": ["proxy.example.com"],
    });
    json!({
        "allowedGroups": ["staff"],
        "upstream": {"ldap": null, "authProxy": changed(&upstream, change)},
    })
}

/// The base with an identity provider instead.
fn identity_provider(change: &Value) -> Value {
    let upstream = json!({"metadataURL": "https://idp.example.com/saml/metadata?id=7"});
    json!({"upstream": {"ldap": null, "saml": changed(&upstream, change)}})
}

fn every_saml_field() -> Value {
    json!({
        "entityID": "urn:example:claviger",
        "nameIDFormat": "EmailAddress",
        "requestBinding": "Post",
        "signing": {
            "keySecretRef": {"name": "corp-saml", "key": "tls.key"},
            "certificateSecretRef": {"name": "corp-saml", "key": "tls.crt"},
        },
        "signatures": "Both",
        "requestedAuthnContexts": ["urn:oasis:names:tc:SAML:2.0:ac:classes:TimeSyncToken"],
        "attributes": {
            "userID": "uid", "username": "sAMAccountName", "name": "displayName", "email": "mail",
            "groups": "http://schemas.xmlsoap.org/claims/Group", "groupsDelimiter": ",",
        },
        "emailVerification": "Never",
        "tls": {"caSecretRef": {"name": "corp-ca", "key": "ca.crt"}},
    })
}

/// An identity provider without metadata.
fn by_hand(change: &Value) -> Value {
    let there = json!({
        "entityID": "https://idp.example.com/saml", "ssoURL": "https://idp.example.com/sso",
        "ssoBinding": "Post", "sloURL": "https://idp.example.com/slo?tenant=7",
        "certificatesSecretRef": {"name": "corp-saml", "key": "idp.crt"},
    });
    json!({"identityProvider": changed(&there, change)})
}

const SAML_URL: &str = "must be an https URL without user and fragment, such as \
                        https://idp.example.com/saml";
const ONE_PROVIDER: &str = "say exactly one of metadataURL, metadata and identityProvider: who the \
                            identity provider is";
const CERTIFICATES: &str = "identityProvider needs certificates or certificatesSecretRef, one of \
                            them: without a certificate no answer can be believed";

fn identity_providers() -> Vec<super::Bad> {
    let saml = |upstream: Value| json!({"upstream": {"ldap": null, "saml": upstream}});
    vec![
        bad("nobody to ask", saml(json!({})), ONE_PROVIDER),
        bad(
            "two to ask",
            identity_provider(&json!({"metadata": "<EntityDescriptor/>"})),
            ONE_PROVIDER,
        ),
        bad(
            "metadata without TLS",
            identity_provider(&json!({"metadataURL": "http://idp.example.com"})),
            SAML_URL,
        ),
        bad(
            "a document that is none",
            identity_provider(&json!({"metadataURL": null, "metadata": "<html/>"})),
            "metadata must be an EntityDescriptor in XML, as the identity provider serves it",
        ),
        bad(
            "an entity ID with a space",
            identity_provider(&json!({"entityID": "the portal"})),
            "entityID must be printable ASCII without spaces, usually a URL",
        ),
        bad(
            "a way to sign in that is no URI",
            identity_provider(&json!({"requestedAuthnContexts": ["by card"]})),
            "requestedAuthnContexts must be URIs, printable ASCII without spaces",
        ),
        bad(
            "a delimiter of nothing",
            identity_provider(&json!({"attributes": {"groupsDelimiter": ","}})),
            "attributes.groupsDelimiter needs attributes.groups: name the attribute whose values it \
             divides",
        ),
        bad(
            "a provider that signs by nothing",
            saml(by_hand(&json!({"certificatesSecretRef": null}))),
            CERTIFICATES,
        ),
        bad(
            "certificates twice",
            saml(by_hand(&json!({"certificates": "-----BEGIN CERTIFICATE-----"}))),
            CERTIFICATES,
        ),
        bad(
            "certificates that are none",
            saml(by_hand(&json!({"certificatesSecretRef": null, "certificates": "idp.crt"}))),
            "certificates must be in PEM form (-----BEGIN CERTIFICATE-----)",
        ),
        bad(
            "a place to sign in without TLS",
            saml(by_hand(&json!({"ssoURL": "http://idp.example.com/sso"}))),
            SAML_URL,
        ),
        bad(
            "a place to sign out without TLS",
            saml(by_hand(&json!({"sloURL": "http://idp.example.com/slo"}))),
            SAML_URL,
        ),
    ]
}

/// The base with an OpenID provider instead.
fn provider(change: &Value) -> Value {
    let upstream = json!({"issuer": "https://idp.example.com/realms/corp", "clientID": "claviger"});
    json!({"upstream": {"ldap": null, "oidc": changed(&upstream, change)}})
}

fn reading() -> Value {
    json!({
        "includeGroups": ["team-.*"],
        "excludeGroups": ["team-old-.*"],
        "claimMapping": {
            "deny": [{"expression": "has(upstream.suspended)", "message": "Ask the help desk."}],
            "username": "user.userID",
            "name": "null",
            "email": "upstream.mail[0]",
            "emailVerified": "true",
            "groups": "upstream.memberOf",
            "claims": [{"name": "department", "expression": "upstream.ou[0]"}],
            "examples": [
                {"name": "nobody", "expect": "Deny", "upstreamJSON": "{\"suspended\": []}"},
                {"name": "somebody", "user": {"groups": ["a"]}, "expectJSON": "{\"name\": null}"},
            ],
        },
    })
}

/// A provider to which Claviger authenticates by a key.
fn by_key(change: &Value) -> Value {
    let key = json!({
        "secretRef": {"name": "corp", "key": "key.pem"}, "keyID": "2026-11", "algorithm": "PS256",
        "audience": "TokenEndpoint",
    });
    changed(&json!({"clientKey": key}), change)
}

fn every_oidc_field() -> Value {
    json!({
        "clientSecretRef": {"name": "corp", "key": "clientSecret"},
        "clientAuthentication": "ClientSecretPost",
        "scopes": ["email", "urn:example:groups"],
        "offlineAccess": "AccessType",
        "offlinePrompt": "None",
        "refreshTokens": "Lasting",
        "userinfo": "Always",
        "claims": {
            "userID": "oid", "username": "upn", "name": "displayName", "email": "mail",
            "groups": "realm_access.roles",
        },
        "emailVerification": "Always",
        "acrValues": ["urn:example:mfa"],
        "endpoints": {
            "authorizationURL": "https://idp.example.com/auth",
            "tokenURL": "https://idp.internal:8443/token",
            "userinfoURL": "https://idp.internal:8443/userinfo",
            "endSessionURL": "https://idp.example.com/logout",
        },
        "signOut": "Provider",
        "tokenExchange": {"audiences": [
            {"name": "mobile", "clients": ["portal", "team-a/app"]},
            {"name": "ci", "clients": ["portal"]},
        ]},
        "tls": {"caSecretRef": {"name": "corp-ca", "key": "ca.crt"}},
    })
}

pub const HTTPS: &str = "must be an https URL without user, query and fragment, such as \
                     https://idp.example.com/realms/corp";

fn providers() -> Vec<super::Bad> {
    let issuer = |url: &str| provider(&json!({"issuer": url}));
    vec![
        bad("a provider without TLS", issuer("http://idp.example.com"), HTTPS),
        bad("a provider with a query", issuer("https://idp.example.com/?a=b"), HTTPS),
        bad("a provider with a user", issuer("https://me@idp.example.com"), HTTPS),
        bad(
            "an authorization endpoint without TLS",
            provider(&json!({"endpoints": {"authorizationURL": "http://idp.example.com/auth"}})),
            HTTPS,
        ),
        bad(
            "a token endpoint without TLS",
            provider(&json!({"endpoints": {"tokenURL": "http://idp.example.com/token"}})),
            HTTPS,
        ),
        bad(
            "a page to sign out at with a query",
            provider(&json!({"endpoints": {"endSessionURL": "https://idp.example.com/?a=b"}})),
            HTTPS,
        ),
        bad(
            "a userinfo endpoint that is no URL",
            provider(&json!({"endpoints": {"userinfoURL": "/userinfo-there"}})),
            HTTPS,
        ),
        bad(
            "a secret in the form and none to put there",
            provider(&json!({"clientAuthentication": "ClientSecretPost"})),
            "clientAuthentication needs clientSecretRef: name the Secret, or set clientAuthentication \
             to None",
        ),
        bad(
            "a secret that nobody is shown",
            provider(&json!({
                "clientAuthentication": "None",
                "clientSecretRef": {"name": "corp", "key": "clientSecret"},
            })),
            "clientAuthentication None uses no secret: remove clientSecretRef, or set ClientSecretBasic \
             or ClientSecretPost",
        ),
        bad(
            "a secret and a key",
            provider(&by_key(&json!({"clientSecretRef": {"name": "corp", "key": "clientSecret"}}))),
            "clientKey takes the place of a secret: remove clientSecretRef, or clientKey",
        ),
        bad(
            "a key and another way to authenticate",
            provider(&by_key(&json!({"clientAuthentication": "None"}))),
            "clientKey says how Claviger authenticates: remove clientAuthentication",
        ),
        bad(
            "a key of a name that no header holds",
            provider(&by_key(&json!({"clientKey": {"keyID": "two words"}}))),
            "keyID must be printable ASCII without spaces, as the provider shows it",
        ),
        bad(
            "a client ID of other characters",
            provider(&json!({"clientID": "clavigér"})),
            "clientID must be printable ASCII, as the provider shows it",
        ),
        bad(
            "two scopes in one",
            provider(&json!({"scopes": ["email profile"]})),
            "scopes must be words of printable ASCII without spaces and quotation marks",
        ),
        bad(
            "a scope that is asked for anyway",
            provider(&json!({"scopes": ["openid"]})),
            "scopes must not list openid, which is always asked for, nor offline_access: say \
             offlineAccess instead",
        ),
        bad(
            "a class of the provider's with a space",
            provider(&json!({"acrValues": ["very safe"]})),
            "acrValues must be printable ASCII without spaces",
        ),
        bad(
            "an application whose tokens nobody may bring",
            brought(&json!([{"name": "mobile", "clients": []}])),
            "should have at least 1 items",
        ),
        bad(
            "an application of which nobody says who may bring its tokens",
            brought(&json!([{"name": "mobile"}])),
            "Required value",
        ),
        bad(
            "tokens that are exchanged and of no application",
            brought(&json!([])),
            "should have at least 1 items",
        ),
        bad(
            "an application alone, as before it said who may bring its tokens",
            brought(&json!(["mobile"])),
            "must be of type object",
        ),
        bad(
            "an application without a name",
            brought(&json!([{"name": "", "clients": ["portal"]}])),
            "should be at least 1 chars long",
        ),
        bad(
            "an application that stands there twice",
            brought(&json!([
                {"name": "mobile", "clients": ["portal"]},
                {"name": "mobile", "clients": ["app"]},
            ])),
            "Duplicate value",
        ),
        bad(
            "everybody who may bring a token",
            brought(&json!([{"name": "mobile", "clients": ["portal", "any body"]}])),
            "clients must be client IDs, printable ASCII without spaces, such as my-app or \
             team-a/my-app",
        ),
        bad(
            "two sources of a provider's certificates",
            provider(&json!({"tls": {
                "caSecretRef": {"name": "ca", "key": "ca.crt"},
                "caBundle": "-----BEGIN CERTIFICATE-----",
            }})),
            "tls takes caSecretRef or caBundle, not both: remove one",
        ),
        bad(
            "a file name for a provider's certificate",
            provider(&json!({"tls": {"caBundle": "/etc/ssl/ca.pem"}})),
            "caBundle must hold certificates in PEM form (-----BEGIN CERTIFICATE-----)",
        ),
    ]
}

fn brought(audiences: &Value) -> Value {
    provider(&json!({"tokenExchange": {"audiences": audiences}}))
}

fn proxies() -> Vec<super::Bad> {
    let names = |name: &str| proxy(&json!({"allowedClientNames": [name]}));
    vec![
        bad(
            "signing out without TLS",
            proxy(&json!({"signOut": {"url": "http://proxy.example.com/sign_out"}})),
            SIGN_OUT,
        ),
        bad(
            "a proxy that may speak for every group",
            changed(&proxy(&json!({})), &json!({"allowedGroups": null})),
            NEEDS_GROUPS,
        ),
        bad(
            "a proxy with an empty list of groups",
            changed(&proxy(&json!({})), &json!({"allowedGroups": []})),
            NEEDS_GROUPS,
        ),
        bad("a wildcard for a proxy", names("*.example.com"), CLIENT_NAMES),
        bad("a proxy in capitals", names("Proxy.example.com"), CLIENT_NAMES),
        bad("a distinguished name for a proxy", names("CN=proxy"), CLIENT_NAMES),
        bad(
            "any client certificate",
            proxy(&json!({"allowedClientNames": []})),
            "should have at least 1 items",
        ),
        bad(
            "an address range without length",
            proxy(&json!({"allowedSourceCIDRs": ["10.0.0.0"]})),
            "allowedSourceCIDRs must be networks in CIDR form, such as 10.0.0.0/8 or 2001:db8::/32",
        ),
        bad(
            "a header with underscores",
            proxy(&json!({"headers": {"user": "X_Remote_User"}})),
            "should match",
        ),
        bad(
            "sessions of a directory that go on unasked",
            json!({"offlineSessionSeconds": 3600}),
            OFFLINE,
        ),
        bad(
            "sessions that go on for a minute",
            changed(&proxy(&json!({})), &json!({"offlineSessionSeconds": 60})),
            "offlineSessionSeconds must be 0 (no refresh token) or at least 600",
        ),
        bad(
            "sessions that go on for a month",
            changed(&proxy(&json!({})), &json!({"offlineSessionSeconds": 2_592_000})),
            "should be less than or equal to 604800",
        ),
    ]
}

fn upstreams() -> Vec<super::Bad> {
    vec![
        bad("no upstream", json!({"upstream": {"ldap": null}}), ONE_UPSTREAM),
        bad("two upstreams", json!({"upstream": {"local": {}}}), ONE_UPSTREAM),
        bad(
            "an upstream there is not",
            json!({"upstream": {"ldap": null, "passport": {}}}),
            ONE_UPSTREAM,
        ),
    ]
}

fn directories() -> Vec<super::Bad> {
    vec![
        bad("ldap with mode LDAPS", ldap(&json!({"urls": ["ldap://a"]})), LDAPS),
        bad("ldaps with StartTLS", ldap(&json!({"tls": {"mode": "StartTLS"}})), NOT_LDAPS),
        bad("ldaps with Plaintext", ldap(&json!({"tls": {"mode": "Plaintext"}})), NOT_LDAPS),
        bad("a path", ldap(&json!({"urls": ["ldaps://a/dc=example"]})), URLS),
        bad("another protocol", ldap(&json!({"urls": ["https://a.example.com"]})), URLS),
        bad("no server", ldap(&json!({"urls": []})), "should have at least 1 items"),
        bad(
            "two sources of certificates",
            ldap(&json!({"tls": {
                "caSecretRef": {"name": "ca", "key": "ca.crt"},
                "caBundle": "-----BEGIN CERTIFICATE-----",
            }})),
            "tls takes caSecretRef or caBundle, not both: remove one",
        ),
        bad(
            "a ConfigMap and a bundle",
            ldap(&json!({"tls": {
                "caConfigMapRef": {"name": "ca"}, "caBundle": "-----BEGIN CERTIFICATE-----",
            }})),
            ONE_AUTHORITY,
        ),
        bad(
            "plain text with a ConfigMap of authorities",
            ldap(&json!({"urls": ["ldap://a"], "tls": {
                "mode": "Plaintext", "caConfigMapRef": {"name": "ca"},
            }})),
            PLAINTEXT,
        ),
        bad(
            "plain text with a certificate",
            ldap(&json!({"urls": ["ldap://a"], "tls": {
                "mode": "Plaintext", "caSecretRef": {"name": "ca", "key": "ca.crt"},
            }})),
            PLAINTEXT,
        ),
        bad(
            "plain text without verification",
            ldap(&json!({"urls": ["ldap://a"], "tls": {
                "mode": "Plaintext", "serverVerification": "InsecureSkip",
            }})),
            PLAINTEXT,
        ),
        bad(
            "a file name for a certificate",
            ldap(&json!({"tls": {"caBundle": "/etc/ssl/ca.pem"}})),
            "caBundle must hold certificates in PEM form (-----BEGIN CERTIFICATE-----)",
        ),
        bad(
            "a user filter without parentheses",
            ldap(&json!({"userSearch": {"filter": "objectClass=person"}})),
            "userSearch.filter must be in parentheses, such as (objectClass=person)",
        ),
        bad(
            "a group filter without parentheses",
            ldap(&json!({"groupSearch": {
                "baseDN": "dc=example", "filter": "objectClass=groupOfNames",
                "userMatchers": [{"userAttribute": "DN", "groupAttribute": "member"}],
            }})),
            "groupSearch.filter must be in parentheses, such as (objectClass=groupOfNames)",
        ),
        bad(
            "an e-mail suffix with @",
            ldap(&json!({"userSearch": {"emailSuffix": "@example.com"}})),
            "userSearch.emailSuffix is a domain without '@', such as example.com",
        ),
        bad(
            "nested groups of bare names",
            ldap(&json!({"groupsFromAttribute": {"nameFormat": "Value", "nestedDepth": 1}})),
            "groupsFromAttribute.nestedDepth needs nameFormat FirstRDN: a bare value leads to no \
             further group",
        ),
        bad(
            "an attribute that is a filter",
            ldap(&json!({"userSearch": {"usernameAttributes": ["uid)(uid=*"]}})),
            "should match",
        ),
        bad(
            "a pool of none",
            ldap(&json!({"poolSize": 0})),
            "should be greater than or equal to 1",
        ),
    ]
}

fn policies() -> Vec<super::Bad> {
    vec![
        bad(
            "a prefix of power",
            json!({"groupPrefix": "system:"}),
            "groupPrefix must not begin with 'system:': Kubernetes gives such groups power",
        ),
        bad(
            "a class with a space",
            json!({"acr": "very safe"}),
            "acr must be printable ASCII without spaces",
        ),
        bad(
            "an example that is denied and has something to expect",
            json!({"claimMapping": {"examples": [
                {"name": "nobody", "expect": "Deny", "expectJSON": "{}"},
            ]}}),
            "expectJSON is for users who come in: remove it, or set expect to Allow",
        ),
        bad("a domain with @", json!({"emailDomains": ["@example.com"]}), DOMAINS),
        bad("a domain in capitals", json!({"emailDomains": ["Example.com"]}), DOMAINS),
        bad("a wildcard domain", json!({"emailDomains": ["*.example.com"]}), DOMAINS),
        bad(
            "a re-check once in two days",
            json!({"recheckIntervalSeconds": 172_800}),
            "should be less than or equal to 86400",
        ),
    ]
}
