//! Cases of `OIDCIssuer`.

use serde_json::json;

use super::{Table, bad, bad_update, good};

const ABSOLUTE: &str =
    "url must be an absolute URL without user name, such as https://id.example.com/main";
const HTTPS: &str =
    "url must begin with https://; for a test without TLS set insecureHTTP to Allowed";
const NO_QUERY: &str = "url must have no query and no fragment: remove '?' or '#' and what follows";
const CALLBACK: &str =
    "defaultCallbackConnector must be one of connectors: add it there or name another";
const TENANT_CONNECTORS: &str =
    "tenants.allowedConnectors must be among connectors: add them there or remove them";
const LOGOUT_HOSTS: &str = "allowedBackChannelLogoutHosts must be lower-case hosts, such as app.example.com or \
                            *.example.com, without scheme, port or path";
const JWKS_HOSTS: &str = "allowedJWKSURIHosts must be lower-case hosts, such as app.example.com or \
                         *.example.com, without scheme, port or path";
const HOSTS: &str = "allowedRedirectURIHosts must be lower-case hosts, such as app.example.com or \
                     *.example.com, without scheme, port or path";
const SELECTOR: &str = "namespaces.selector goes with from: Selector, and only with it: add the \
                        one or remove the other";
const LOGO: &str = "logoURL must be an absolute https:// URL without spaces, quotes, backslashes, \
                    commas or semicolons";
const ORIGINS: &str = "cors.allowedOrigins must be lower-case scheme://host[:port] without path or \
                       wildcard, such as https://app.example.com";
const IDLE: &str = "refreshTokenIdleSeconds must not exceed refreshTokenAbsoluteSeconds: lower the \
                    one or raise the other";

const LIMITS: &str =
    "sessionLimits: perUser and perClient must not exceed total: lower them or raise total";

pub fn table() -> Table {
    Table {
        kind: "OIDCIssuer",
        base: json!({
            "url": "https://id.example.com/main",
            "signingKeys": [{"name": "rs256"}],
            "connectors": [{"name": "ldap"}, {"name": "local"}],
        }),
        good: taken(),
        bad: urls().into_iter().chain(references()).chain(limits()).collect(),
        bad_updates: vec![bad_update(
            "another url",
            json!({}),
            json!({"url": "https://id.example.com/other"}),
            "url is immutable: create another OIDCIssuer for another url",
        )],
    }
}

fn lifetimes() -> serde_json::Value {
    json!({
            "idTokenLifetimeSeconds": 60,
            "accessTokenLifetimeSeconds": 60,
            "refreshTokenIdleSeconds": 3600,
            "refreshTokenAbsoluteSeconds": 3600,
            "refreshGraceSeconds": 0,
    })
}

fn claims() -> serde_json::Value {
    json!([{
        "name": "https://example.com/teams",
        "scope": "teams",
        "expression": "user.groups",
        "examples": [{
            "name": "one", "user": {"groups": ["a"]}, "clientID": "app",
            "scopes": ["openid", "teams"], "expectJSON": "[\"a\"]",
        }],
    }])
}

fn taken() -> Vec<super::Good> {
    vec![
        good("nothing but url and keys", json!({"connectors": null})),
        good(
            "devices alone, with refresh",
            json!({"grants": ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"]}),
        ),
        good("a port and no path", json!({"url": "https://id.example.com:8443"})),
        good(
            "plain HTTP when asked for",
            json!({"url": "http://127.0.0.1:5556/dex", "insecureHTTP": "Allowed"}),
        ),
        good(
            "everything",
            json!({
                "displayName": "Example",
                "signingKeys": [{"name": "rs256"}, {"name": "es256"}],
                "defaultCallbackConnector": "ldap",
                "allowedClients": {"namespaces": {
                    "from": "Selector",
                    "selector": {
                        "matchLabels": {"claviger.dev/clients": "yes"},
                        "matchExpressions": [{"key": "team", "operator": "In", "values": ["a"]}],
                    },
                }},
                "tenants": {
                    "allowedScopes": ["openid", "groups"],
                    "allowedCustomScopes": ["teams"],
                    "allowedGrants": ["authorization_code"],
                    "allowedConnectors": ["ldap"],
                    "allowedRedirectURIHosts": ["*.apps.example.com", "localhost", "[::1]"],
                    "allowedJWKSURIHosts": ["*.apps.example.com", "keys.example.com"],
                    "allowedTrustedIssuers": ["https://token.actions.githubusercontent.com"],
                    "maxIDTokenLifetimeSeconds": 300,
                    "maxRefreshTokenLifetimeSeconds": 86400,
                    "consent": "ClientChoice", "conditions": "Allowed", "allowedBackChannelLogoutHosts": ["localhost"],
                },
                "lifetimes": lifetimes(),
                "dynamicRegistration": {
                    "namespace": "registered",
                    "initialAccessTokens": [{"name": "initial", "key": "token"}],
                    "maxClients": 10,
                },
                "browserSessions": {"idleSeconds": 600, "absoluteSeconds": 600},
                "responseTypes": ["code", "id_token token"],
                "sessionLimits": {"perUser": 3, "perClient": 5, "total": 5},
                "deviceAuthorizations": {"lifetimeSeconds": 60, "perClient": 5, "total": 5},
                "grants": ["authorization_code"],
                "subject": "Plain",
                "consent": "Skip",
                "claims": claims(),
                "allowedSystemValues": ["system:masters"],
                "tls": {"secretRef": {"name": "tls"}},
                "branding": {"title": "Example", "logoURL": "https://example.com/logo.svg"},
                "cors": {"allowedOrigins": ["https://app.example.com", "http://localhost:8080"]},
            }),
        ),
    ]
}

fn urls() -> Vec<super::Bad> {
    vec![
        bad(
            "a claim revealed by offline_access",
            json!({"claims": [{"name": "x", "scope": "offline_access", "expression": "'x'"}]}),
            "scope must not be offline_access, nor begin with audience:, which have a meaning of \
             their own: choose another",
        ),
        bad(
            "two claims of one name",
            json!({"claims": [
                {"name": "x", "scope": "a", "expression": "'x'"},
                {"name": "x", "scope": "b", "expression": "'x'"},
            ]}),
            "Duplicate value",
        ),
        bad("a relative url", json!({"url": "/main"}), ABSOLUTE),
        bad("a url without host", json!({"url": "https:///main"}), ABSOLUTE),
        bad("a url with a user", json!({"url": "https://me@id.example.com"}), ABSOLUTE),
        bad("a url with a space", json!({"url": "https://id.example.com/a b"}), ABSOLUTE),
        bad("a url with a line break", json!({"url": "https://id.example.com/a\nb"}), ABSOLUTE),
        bad("a backslash", json!({"url": "https://id.example.com\\main"}), ABSOLUTE),
        bad("plain HTTP", json!({"url": "http://id.example.com"}), HTTPS),
        bad("a query", json!({"url": "https://id.example.com/main?a=b"}), NO_QUERY),
        bad("a fragment", json!({"url": "https://id.example.com/main#a"}), NO_QUERY),
        bad(
            "a trailing slash",
            json!({"url": "https://id.example.com/"}),
            "url must not end with a slash: remove it",
        ),
        bad("a logo by http", json!({"branding": {"logoURL": "http://example.com/a"}}), LOGO),
        bad("a logo that ends the policy", json!({"branding": {"logoURL": "https://a/;b"}}), LOGO),
        bad("any origin", json!({"cors": {"allowedOrigins": ["*"]}}), ORIGINS),
        bad("an origin with a path", json!({"cors": {"allowedOrigins": ["https://a/"]}}), ORIGINS),
        bad("the null origin", json!({"cors": {"allowedOrigins": ["null"]}}), ORIGINS),
    ]
}

fn references() -> Vec<super::Bad> {
    vec![
        bad(
            "registration without bounds",
            json!({"dynamicRegistration": {
                "namespace": "registered",
                "initialAccessTokens": [{"name": "initial", "key": "token"}],
            }}),
            "dynamicRegistration needs tenants, which bound what may be registered: add it",
        ),
        bad(
            "a callback connector that is not offered",
            json!({"defaultCallbackConnector": "github"}),
            CALLBACK,
        ),
        bad(
            "a callback connector where none is offered",
            json!({"connectors": null, "defaultCallbackConnector": "ldap"}),
            CALLBACK,
        ),
        bad(
            "a tenant connector that is not offered",
            json!({"tenants": {"allowedConnectors": ["github"]}}),
            TENANT_CONNECTORS,
        ),
        bad(
            "a redirect host with a scheme",
            json!({"tenants": {"allowedRedirectURIHosts": ["https://a.example.com"]}}),
            HOSTS,
        ),
        bad(
            "any host to tell",
            json!({"tenants": {"allowedBackChannelLogoutHosts": ["*.com"]}}),
            LOGOUT_HOSTS,
        ),
        bad("any host of keys", json!({"tenants": {"allowedJWKSURIHosts": ["*"]}}), JWKS_HOSTS),
        bad(
            "keys of a whole top-level domain",
            json!({"tenants": {"allowedJWKSURIHosts": ["*.com"]}}),
            JWKS_HOSTS,
        ),
        bad("any redirect host", json!({"tenants": {"allowedRedirectURIHosts": ["*"]}}), HOSTS),
        bad(
            "a wildcard inside a redirect host",
            json!({"tenants": {"allowedRedirectURIHosts": ["a.*.example.com"]}}),
            HOSTS,
        ),
        bad(
            "every redirect host of a top-level domain",
            json!({"tenants": {"allowedRedirectURIHosts": ["*.com"]}}),
            "allowedRedirectURIHosts: '*.' must be followed by at least two labels, such as \
             *.example.com",
        ),
        bad(
            "from Selector without selector",
            json!({"allowedClients": {"namespaces": {"from": "Selector"}}}),
            SELECTOR,
        ),
        bad(
            "a selector that would be ignored",
            json!({"allowedClients": {"namespaces": {"from": "All", "selector": {"matchLabels": {}}}}}),
            SELECTOR,
        ),
        bad("no signing key", json!({"signingKeys": []}), "should have at least 1 items"),
        bad(
            "the same key twice",
            json!({"signingKeys": [{"name": "a"}, {"name": "a"}]}),
            "Duplicate value",
        ),
        bad("a name no object can have", json!({"signingKeys": [{"name": "A_B"}]}), "should match"),
    ]
}

fn limits() -> Vec<super::Bad> {
    vec![
        bad(
            "more devices of one client than in all",
            json!({"deviceAuthorizations": {"total": 5}}),
            "deviceAuthorizations: perClient must not exceed total: lower it or raise total",
        ),
        bad(
            "a device code for hours",
            json!({"deviceAuthorizations": {"lifetimeSeconds": 601}}),
            "should be less than or equal to 600",
        ),
        bad(
            "refresh without code",
            json!({"grants": ["refresh_token"]}),
            "grants: refresh_token needs authorization_code, password or urn:ietf:params:oauth:grant-type:device_code: add one",
        ),
        bad("an unknown grant", json!({"grants": ["implicit"]}), "supported values"),
        bad(
            "a system value that is none",
            json!({"allowedSystemValues": ["admin-group"]}),
            "allowedSystemValues must begin with 'system:': other values need no permission, \
             remove them",
        ),
        bad(
            "idle longer than absolute",
            json!({"lifetimes": {"refreshTokenIdleSeconds": 61, "refreshTokenAbsoluteSeconds": 60}}),
            IDLE,
        ),
        bad(
            "a browser idle for longer than it may be signed in",
            json!({"browserSessions": {"idleSeconds": 601, "absoluteSeconds": 600}}),
            "browserSessions: idleSeconds must not exceed absoluteSeconds: lower the one or raise the other",
        ),
        bad(
            "more sessions of a client than of all",
            json!({"sessionLimits": {"perUser": 1, "perClient": 6, "total": 5}}),
            LIMITS,
        ),
        bad(
            "more sessions of a user than of all, by default",
            json!({"sessionLimits": {"perClient": 5, "total": 5}}),
            LIMITS,
        ),
        bad(
            "no session for anybody",
            json!({"sessionLimits": {"perUser": 0}}),
            "should be greater than or equal to 1",
        ),
        bad(
            "an ID token of a minute less a second",
            json!({"lifetimes": {"idTokenLifetimeSeconds": 59}}),
            "should be greater than or equal to 60",
        ),
        bad(
            "an ID token of more than a day",
            json!({"lifetimes": {"idTokenLifetimeSeconds": 86401}}),
            "should be less than or equal to 86400",
        ),
        bad(
            "more than a minute's grace",
            json!({"lifetimes": {"refreshGraceSeconds": 61}}),
            "should be less than or equal to 60",
        ),
        bad(
            "an unknown scope",
            json!({"tenants": {"allowedScopes": ["opendi"]}}),
            "supported values",
        ),
    ]
}
