//! Cases of `Connector`.
#![expect(clippy::too_many_lines, reason = "a table is as long as what it lists")]

use serde_json::{Value, json};

use super::{Table, active_directory, atlassian_crowd, bad, changed, good, keystone};

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
        good: vec![
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
                "authorities of trust-manager",
                vendor(
                    "google",
                    &json!({"tls": {"caConfigMapRef": {"name": "corp-ca", "key": "bundle.pem"}}}),
                ),
            ),
            good(
                "a directory behind authorities of trust-manager",
                json!({"upstream": {"ldap": {"tls": {
                    "caSecretRef": null, "caBundle": null, "caConfigMapRef": {"name": "corp-ca", "key": "ca.crt"},
                }}}}),
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
            good(
                "Microsoft, by a federated credential",
                known_by(&json!({"federatedCredential": {}})),
            ),
            good("personal accounts", vendor("microsoft", &json!({"tenant": "consumers"}))),
            good("LinkedIn", vendor("linkedin", &json!({}))),
            good("GitHub", github(&json!({}))),
            good("GitHub with everything", github(&every_github_field())),
            good("a Windows domain", active_directory::domain(&json!({}))),
            good(
                "a Windows domain with everything",
                active_directory::domain(&active_directory::every_domain_field()),
            ),
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
        ],
        bad: [
            upstreams(),
            directories(),
            active_directory::domains(),
            active_directory::trusted(),
            providers(),
            identity_providers(),
            githubs(),
            openid_vendors(),
            proxies(),
            policies(),
            vendors(),
            keystone::openstacks(),
            atlassian_crowd::crowds(),
        ]
        .into_iter()
        .flatten()
        .collect(),
        bad_updates: vec![],
    }
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
        "ssoBinding": "Post", "certificatesSecretRef": {"name": "corp-saml", "key": "idp.crt"},
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
        "tokenExchange": {"audiences": ["mobile", "ci"]},
        "tls": {"caSecretRef": {"name": "corp-ca", "key": "ca.crt"}},
    })
}

const HTTPS: &str = "must be an https URL without user, query and fragment, such as \
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

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const NEEDS_GROUPS_READ: &str = "allowedGroups needs groups to be read: say groups in upstream.google or upstream.microsoft; LinkedIn has none";
pub(super) const ONE_AUTHORITY: &str =
    "tls takes one of caConfigMapRef, caSecretRef and caBundle: remove the others";
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

fn openid_vendors() -> Vec<super::Bad> {
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

fn githubs() -> Vec<super::Bad> {
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

fn vendors() -> Vec<super::Bad> {
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
