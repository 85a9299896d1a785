//! Cases of `OAuth2Client`.

use serde_json::{Value, json};

use super::{Table, bad, bad_update, good};

const REDIRECT: &str = "redirectURIs must be https://; or http:// on localhost, 127.0.0.1 or \
                        [::1]; or, for type Public, a private-use scheme with a dot, such as \
                        com.example.app:/callback";
const POST_LOGOUT: &str = "postLogoutRedirectURIs must be https://, http:// on a loopback host or \
                           a private-use scheme with a dot, without fragment, wildcard, spaces or backslashes";
const PAGES: &str = "information: URIs must be https://, in printable ASCII without user, fragment, \
                     quotes, spaces and backslashes";
const BACK_CHANNEL: &str = "backChannelLogout.uri must be https://, or http:// on localhost, 127.0.0.1 or [::1], \
                            without fragment, wildcard, spaces or backslashes";
const FRONT_CHANNEL: &str = "frontChannelLogout.uri must be https://, or http:// on localhost, 127.0.0.1 or [::1], \
                             without fragment, wildcard, spaces or backslashes";
const PRINTABLE: &str = "redirectURIs must be printable ASCII without spaces and backslashes: \
                         percent-encode them";
const CLIENT_ID: &str =
    "clientID must be printable ASCII without spaces and without '/': remove them";
const CONFIDENTIAL: &str = "a Confidential client needs authentication: add secretRef, \
                            generatedSecret, jwks, jwksURI or serviceAccount, or set type to Public";
const NO_SECRET: &str = "authentication.method none, private_key_jwt and kubernetes_service_account \
                         have no secret: remove secretRef, previousSecretRef and generatedSecret, \
                         or change method";
const KEYS: &str = "authentication.method private_key_jwt, and no other, needs exactly one of jwks \
                    (the client's public keys) and jwksURI (where it publishes them)";
const JWKS_URI: &str = "jwksURI must be https://, in printable ASCII without user, fragment, spaces \
                        and backslashes";
const PRIVATE: &str = "jwks holds a private or symmetric key, which is a secret no more: make \
                       another, and put only its public members here (n and e, or crv, x and y)";
const MEMBERS: &str = "a key in jwks needs n and e for kty RSA, or crv, x and y for kty EC: add what \
                       is missing";
const ACCOUNT: &str = "authentication.method kubernetes_service_account, and no other, needs \
                       serviceAccount: set both or neither";
const DPOP: &str = "dpop Required leaves no token unbound: remove responseTypes with token and the \
                    grants client_credentials, token-exchange and jwt-bearer, or set dpop to Optional";
const CUSTOM_SCOPES: &str = "customScopes are the issuer's own: move those of OpenID Connect to scopes; \
                             an audience is its trustedPeers' to give";
const TRUSTED_ISSUER: &str = "trustedIssuers: issuer must be https://, in printable ASCII without \
                              user, query, fragment, spaces and backslashes";
const TRUSTED_KEYS: &str = "trustedIssuers: jwksURI must be https://, in printable ASCII without user, \
                            fragment, spaces and backslashes";
const BEARER: &str = "jwtBearer and grant urn:ietf:params:oauth:grant-type:jwt-bearer go together: \
                      set both or neither";
const ONE_SECRET: &str = "authentication needs exactly one of secretRef (a Secret you keep) and \
                          generatedSecret (one Claviger makes)";

const PASSWORD: &str = "grant password is for type Confidential and one connector: set type to Confidential and add passwordGrant, or remove the grant";

pub fn table() -> Table {
    Table {
        kind: "OAuth2Client",
        base: json!({
            "issuerRef": {"name": "main"},
            "type": "Confidential",
            "authentication": {"generatedSecret": {"name": "app-oidc"}},
            "redirectURIs": ["https://app.example.com/callback"],
        }),
        good: good_ones(),
        bad: redirects()
            .into_iter()
            .chain(pages())
            .chain(authentication())
            .chain(signing())
            .chain(fields())
            .chain(policy())
            .chain(token_grants())
            .chain(workloads())
            .collect(),
        bad_updates: vec![bad_update(
            "rotation back",
            json!({"authentication": {"generatedSecret": {"rotation": 2}}}),
            json!({"authentication": {"generatedSecret": {"rotation": 1}}}),
            "generatedSecret.rotation can only be raised",
        )],
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn good_ones() -> Vec<super::Good> {
    vec![
        good(
            "a secret of one's own",
            json!({"authentication": {
                "method": "client_secret_post",
                "secretRef": {"name": "app", "key": "secret"},
                "generatedSecret": null,
            }}),
        ),
        good(
            "a secret of one's own and the one before",
            json!({"authentication": {
                "secretRef": {"name": "app", "key": "secret"},
                "previousSecretRef": {"name": "app", "key": "before"},
                "generatedSecret": null,
            }}),
        ),
        good(
            "public keys",
            keys(&json!([
                {"kty": "EC", "crv": "P-256", "x": "MKB", "y": "4Et", "alg": "ES256", "kid": "1"},
                {"kty": "RSA", "n": "0vx7", "e": "AQAB", "use": "sig"},
            ])),
        ),
        good("published keys", keys_at("https://app.example.com:8443/keys?a=b")),
        good(
            "a ServiceAccount",
            json!({"authentication": {
                "method": "kubernetes_service_account", "generatedSecret": null,
                "serviceAccount": {"namespace": "team-a", "name": "app", "uid": "3c5e"},
            }}),
        ),
        good(
            "a public client",
            json!({
                "type": "Public",
                "authentication": null,
                "redirectURIs": [
                    "http://localhost:8000",
                    "http://127.0.0.1:18000/callback",
                    "http://[::1]/callback?a=b",
                    "com.example.app:/callback",
                ],
            }),
        ),
        good(
            "a public client that says so twice",
            json!({
                "type": "Public", "authentication": {"method": "none", "generatedSecret": null},
                "pkce": "Required",
            }),
        ),
        good(
            "a client of its own account",
            json!({
                "redirectURIs": null,
                "grants": ["client_credentials"],
                "clientCredentials": {"groups": ["robots"], "username": "deployer"},
            }),
        ),
        good(
            "jobs of a CI system without a secret",
            json!({
                "type": "Public", "authentication": null, "redirectURIs": null,
                "grants": ["urn:ietf:params:oauth:grant-type:token-exchange"],
                "trustedIssuers": [trusted(&json!({}))],
            }),
        ),
        good(
            "a public client that may not introspect",
            json!({"type": "Public", "authentication": null, "introspection": "Forbidden"}),
        ),
        good("everything", everything()),
    ]
}

/// All that may be said of workloads.
fn every_workload() -> Value {
    json!({
        "exchangePeers": ["team-a/app"],
        "exchangeWorkloadsFrom": ["team-a/app", "ci"],
        "trustedIssuers": [{
            "name": "github",
            "issuer": "https://token.actions.githubusercontent.com",
            "audience": "https://id.example.com/main",
            "jwksURI": "https://token.actions.githubusercontent.com/.well-known/jwks",
            "algorithms": ["RS256", "ES256"],
            "claims": [
                {"claim": "repository", "values": ["my-org/my-repo", "my-org/other"]},
                {"claim": "ref", "values": ["refs/heads/main"]},
            ],
            "groups": ["ci"],
            "groupsFrom": {"claim": "teams", "prefix": "ci:"},
            "maxTokenLifetimeSeconds": 900,
        }],
        "jwtBearer": {
            "serviceAccounts": [{"name": "app"}, {"name": "app", "namespace": "team-a", "uid": "u"}],
            "groups": ["robots"],
        },
    })
}

/// All that may be said at once.
fn everything() -> Value {
    let mut all = json!({
        "issuerRef": {"name": "main", "namespace": "claviger-system"},
        "clientID": "kubernetes",
        "displayName": "Kubernetes",
        "authentication": {"generatedSecret": {"rotation": 3}},
        "postLogoutRedirectURIs": ["https://app.example.com/", "com.example.app:/bye"],
        "backChannelLogout": {"uri": "https://app.example.com/bc", "names": "SessionAndUser"},
        "frontChannelLogout": {"uri": "https://app.example.com/fc?x=1"},
        "grants": [
            "authorization_code",
            "refresh_token",
            "client_credentials",
            "urn:ietf:params:oauth:grant-type:token-exchange",
            "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "urn:ietf:params:oauth:grant-type:device_code",
            "password",
        ],
        "passwordGrant": {"connector": "ldap"},
        "scopes": ["openid", "federated:id"],
        "customScopes": ["teams"],
        "responseTypes": ["code", "code id_token"],
        "allowedResources": ["https://api.example.com", "urn:example:api"],
        "requiredACR": ["urn:example:password"],
        "maxIDTokenBytes": 4096,
        "allowedConnectors": ["ldap"],
        "allowedGroups": ["corp:admins"],
        "condition": {
            "expression": "has(user.email) && user.email.endsWith('@example.com')",
            "message": "staff only",
            "examples": [{
                "name": "staff",
                "user": {
                    "userID": "42", "connector": "ldap", "name": "Jane Doe",
                    "preferredUsername": "jane", "email": "jane@example.com",
                    "emailVerified": true, "groups": ["corp:admins"],
                    "claims": [{"name": "locale", "value": "de"}],
                },
                "scopes": ["openid"], "acr": "urn:example:password", "expect": "Allow",
            }],
        },
        "trustedPeers": ["team-a/app", "argo"],
        "pkce": "Optional",
        "pushedAuthorizationRequests": "Required",
        "dpop": "Optional",
        "accessTokenLifetimeSeconds": 300,
        "idTokenLifetimeSeconds": 60,
        "refreshTokenIdleSeconds": 3600,
        "refreshTokenAbsoluteSeconds": 7200,
        "idTokenSigningAlgorithm": "ES256",
        "userinfoSigningAlgorithm": "RS256",
        "consent": "Skip",
        "clientCredentials": {
            "groups": ["robots"],
            "username": "deployer",
            "claims": [{"name": "role", "value": "deployer"}],
        },
        "introspection": "AllTokens",
        "information": {
            "clientURI": "https://app.example.com/",
            "logoURI": "https://app.example.com/logo.png",
            "policyURI": "https://app.example.com/policy?lang=en",
            "tosURI": "https://app.example.com/terms",
            "contacts": ["ops@example.com"],
        },
        "registration": {"accessTokenDigest": "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"},
    });
    if let (Some(all), Value::Object(workloads)) = (all.as_object_mut(), every_workload()) {
        all.extend(workloads);
    }
    all
}

fn keys(keys: &Value) -> Value {
    json!({"authentication": {
        "method": "private_key_jwt", "generatedSecret": null, "jwks": {"keys": keys},
    }})
}

fn keys_at(uri: &str) -> Value {
    json!({"authentication": {
        "method": "private_key_jwt", "generatedSecret": null, "jwksURI": uri,
    }})
}

fn redirect(uri: &str) -> Value {
    json!({"redirectURIs": [uri]})
}

fn pages() -> Vec<super::Bad> {
    let bad_uris = [
        "http://app.example.com/",
        "https://me@app.example.com/",
        "https://app.example.com/#top",
        "https://app.example.com/a b",
        "https://app.example.com/\"",
        "https://app.example.com/\\",
        "javascript:alert(1)",
    ];
    let fields = ["clientURI", "logoURI", "policyURI", "tosURI"];
    let each = bad_uris.iter().zip(fields.iter().cycle());
    each.map(|(uri, field)| bad(uri, json!({"information": {*field: uri}}), PAGES)).collect()
}

fn redirects() -> Vec<super::Bad> {
    vec![
        bad("plain HTTP elsewhere", redirect("http://app.example.com/callback"), REDIRECT),
        bad("a host that begins like loopback", redirect("http://localhost.example.com"), REDIRECT),
        bad("a loopback user", redirect("http://localhost:80@example.com/"), REDIRECT),
        bad("a user in the URI", redirect("https://me@example.com/"), REDIRECT),
        bad("a private scheme for a server", redirect("com.example.app:/callback"), REDIRECT),
        bad("a script", redirect("javascript:alert(1)"), REDIRECT),
        bad(
            "a scheme without a dot",
            json!({"type": "Public", "authentication": null, "redirectURIs": ["myapp:/callback"]}),
            REDIRECT,
        ),
        bad("a relative URI", redirect("/callback"), REDIRECT),
        bad(
            "a fragment",
            redirect("https://app.example.com/#token"),
            "redirectURIs must have no fragment (RFC 6749 3.1.2): remove '#' and what follows",
        ),
        bad(
            "a wildcard",
            redirect("https://*.example.com/"),
            "redirectURIs are compared exactly and know no wildcard '*': list each URI",
        ),
        bad("a space", redirect("https://app.example.com/a b"), PRINTABLE),
        bad(
            "another host to a browser",
            redirect("https://evil.example\\.example.com/"),
            PRINTABLE,
        ),
        bad(
            "no redirect URI",
            json!({"redirectURIs": []}),
            "grant authorization_code needs redirectURIs: add at least one",
        ),
        bad(
            "telling in the clear",
            json!({"backChannelLogout": {"uri": "http://app.example.com/bc"}}),
            BACK_CHANNEL,
        ),
        bad(
            "telling by a user",
            json!({"backChannelLogout": {"uri": "https://me@app.example.com/bc"}}),
            BACK_CHANNEL,
        ),
        bad(
            "a frame with a fragment",
            json!({"frontChannelLogout": {"uri": "https://app.example.com/fc#a"}}),
            FRONT_CHANNEL,
        ),
        bad(
            "a sign-out to plain HTTP",
            json!({"postLogoutRedirectURIs": ["http://app.example.com/"]}),
            POST_LOGOUT,
        ),
        bad(
            "a sign-out with a fragment",
            json!({"postLogoutRedirectURIs": ["https://app.example.com/#a"]}),
            POST_LOGOUT,
        ),
    ]
}

fn authentication() -> Vec<super::Bad> {
    vec![
        bad(
            "a public client with a secret",
            json!({"type": "Public"}),
            "a Public client cannot keep a secret: remove authentication, or set type to Confidential",
        ),
        bad("a confidential client without", json!({"authentication": null}), CONFIDENTIAL),
        bad(
            "a confidential client with none",
            json!({"authentication": {"method": "none", "generatedSecret": null}}),
            CONFIDENTIAL,
        ),
        bad(
            "none with a secret",
            json!({"type": "Public", "authentication": {"method": "none"}}),
            NO_SECRET,
        ),
        bad(
            "two secrets",
            json!({"authentication": {"secretRef": {"name": "app", "key": "secret"}}}),
            ONE_SECRET,
        ),
        bad("no secret", json!({"authentication": {"generatedSecret": null}}), ONE_SECRET),
        bad(
            "a public client without PKCE",
            json!({"type": "Public", "authentication": null, "pkce": "Optional"}),
            "a Public client must use PKCE: set pkce to Required or remove it",
        ),
        bad(
            "a method there is not",
            json!({"authentication": {"method": "client_secret_jwt"}}),
            "supported values",
        ),
    ]
}

fn signing() -> Vec<super::Bad> {
    let key = |member: &str, value: &str| {
        let mut key = json!({"kty": "EC", "crv": "P-256", "x": "MKB", "y": "4Et"});
        key[member] = value.into();
        keys(&json!([key]))
    };
    vec![
        bad("keys with a secret", json!({"authentication": {"method": "private_key_jwt"}}), KEYS),
        bad(
            "keys and a secret",
            json!({"authentication": {
                "method": "private_key_jwt", "jwksURI": "https://app.example.com/keys",
            }}),
            NO_SECRET,
        ),
        bad(
            "keys here and there",
            json!({"authentication": {
                "method": "private_key_jwt", "generatedSecret": null,
                "jwks": {"keys": [{"kty": "RSA", "n": "0vx7", "e": "AQAB"}]},
                "jwksURI": "https://app.example.com/keys",
            }}),
            KEYS,
        ),
        bad("keys by plain HTTP", keys_at("http://app.example.com/keys"), JWKS_URI),
        bad("keys with a user", keys_at("https://me@app.example.com/keys"), JWKS_URI),
        bad("keys with a fragment", keys_at("https://app.example.com/keys#a"), JWKS_URI),
        bad("keys at two hosts", keys_at("https://evil.example\\.example.com/"), JWKS_URI),
        bad("a private key", key("d", "870MB6"), PRIVATE),
        bad("a symmetric key", key("k", "c2VjcmV0"), PRIVATE),
        bad("a key of another kind", key("kty", "oct"), "supported values"),
        bad("a key for encryption", key("use", "enc"), "supported values"),
        bad("a symmetric algorithm", key("alg", "HS256"), "supported values"),
        bad("half a key", keys(&json!([{"kty": "RSA", "n": "0vx7"}])), MEMBERS),
        bad("no key", keys(&json!([])), "should have at least 1 items"),
        bad(
            "an account without its method",
            json!({"authentication": {"serviceAccount": {"name": "app"}}}),
            ACCOUNT,
        ),
        bad(
            "a method without its account",
            json!({"authentication": {
                "method": "kubernetes_service_account", "generatedSecret": null,
            }}),
            ACCOUNT,
        ),
        bad(
            "a previous secret beside a generated one",
            json!({"authentication": {"previousSecretRef": {"name": "app", "key": "before"}}}),
            "authentication.previousSecretRef goes with secretRef: remove it; a generatedSecret \
             keeps the one before by itself",
        ),
    ]
}

fn fields() -> Vec<super::Bad> {
    vec![
        bad("a client ID that looks like a tenant's", json!({"clientID": "team-a/app"}), CLIENT_ID),
        bad("a client ID with a space", json!({"clientID": "my app"}), CLIENT_ID),
        bad("an empty client ID", json!({"clientID": ""}), "should be at least 1 chars long"),
        bad(
            "passwords without a connector that checks them",
            json!({"grants": ["password"]}),
            PASSWORD,
        ),
        bad(
            "passwords for a public client",
            json!({
                "type": "Public", "authentication": null, "grants": ["authorization_code", "password"],
                "passwordGrant": {"connector": "ldap"},
            }),
            PASSWORD,
        ),
        bad(
            "a connector for passwords nobody may send",
            json!({"passwordGrant": {"connector": "ldap"}}),
            "passwordGrant is for grant password: add it to grants, or remove passwordGrant",
        ),
        bad(
            "refresh without code",
            json!({"grants": ["refresh_token"]}),
            "grants: refresh_token needs authorization_code, password or urn:ietf:params:oauth:grant-type:device_code: add one",
        ),
        bad(
            "scopes without openid",
            json!({"scopes": ["email"]}),
            "scopes must contain openid: add it",
        ),
        bad("a misspelt scope", json!({"scopes": ["openid", "gruops"]}), "supported values"),
        bad("the same scope twice", json!({"scopes": ["openid", "openid"]}), "Duplicate value"),
        bad(
            "tokens through the browser to nowhere",
            json!({"responseTypes": ["code", "id_token"], "redirectURIs": []}),
            "responseTypes other than code need redirectURIs: add at least one",
        ),
        bad("a lone token", json!({"responseTypes": ["token"]}), "supported values"),
        bad(
            "a relative resource",
            json!({"allowedResources": ["/api"]}),
            "allowedResources must be absolute URIs without fragment, such as https://api.example.com",
        ),
        bad(
            "a peer with a space",
            json!({"trustedPeers": ["my app"]}),
            "trustedPeers must be client IDs, printable ASCII without spaces, such as my-app or \
             team-a/my-app",
        ),
        bad(
            "idle longer than absolute",
            json!({"refreshTokenIdleSeconds": 61, "refreshTokenAbsoluteSeconds": 60}),
            "refreshTokenIdleSeconds must not exceed refreshTokenAbsoluteSeconds: lower the one \
             or raise the other",
        ),
        bad(
            "a public client that introspects",
            json!({"type": "Public", "authentication": null, "introspection": "OwnTokens"}),
            "a Public client cannot prove who asks: remove introspection, or set type to Confidential",
        ),
        bad(
            "bound tokens and one in the browser",
            json!({"dpop": "Required", "responseTypes": ["code id_token token"]}),
            DPOP,
        ),
        bad("EdDSA", json!({"idTokenSigningAlgorithm": "EdDSA"}), "supported values"),
        bad("a name no object can have", json!({"issuerRef": {"name": "A"}}), "should match"),
    ]
}

fn policy() -> Vec<super::Bad> {
    vec![
        bad(
            "an example that expects neither",
            json!({"condition": {"expression": "true", "examples": [
                {"name": "x", "user": {}, "expect": "Maybe"},
            ]}}),
            "supported values",
        ),
        bad(
            "two examples of one name",
            json!({"condition": {"expression": "true", "examples": [
                {"name": "x", "user": {}, "expect": "Allow"},
                {"name": "x", "user": {}, "expect": "Deny"},
            ]}}),
            "Duplicate value",
        ),
        bad(
            "a scope of OpenID Connect among the issuer's own",
            json!({"customScopes": ["federated:id"]}),
            CUSTOM_SCOPES,
        ),
        bad(
            "an audience among the issuer's own scopes",
            json!({"customScopes": ["audience:server:client_id:kubernetes"]}),
            CUSTOM_SCOPES,
        ),
    ]
}

fn token_grants() -> Vec<super::Bad> {
    vec![
        bad(
            "a public client of its own account",
            json!({
                "type": "Public", "authentication": null,
                "grants": ["authorization_code", "client_credentials"],
            }),
            "grant client_credentials is for type Confidential: remove it, or set type to Confidential",
        ),
        bad(
            "a public client that exchanges",
            json!({
                "type": "Public", "authentication": null,
                "grants": [
                    "authorization_code", "urn:ietf:params:oauth:grant-type:token-exchange",
                ],
            }),
            "grant token-exchange is for type Confidential, or with trustedIssuers: remove it, or add one \
             of them",
        ),
        bad(
            "an exchanging peer with a space",
            json!({"exchangePeers": ["my app"]}),
            "exchangePeers must be client IDs, printable ASCII without spaces, such as my-app or \
             team-a/my-app",
        ),
        bad(
            "a workload peer with a space",
            json!({"exchangeWorkloadsFrom": ["my app"]}),
            "exchangeWorkloadsFrom must be client IDs, printable ASCII without spaces, such as my-app or \
             team-a/my-app",
        ),
        bad(
            "claims for a grant it has not",
            json!({"clientCredentials": {"groups": ["robots"]}}),
            "clientCredentials is for grant client_credentials: add it to grants, or remove \
             clientCredentials",
        ),
    ]
}

/// A job of a repository, with some fields changed.
fn trusted(change: &Value) -> Value {
    let mut entry = json!({
        "name": "github", "issuer": "https://token.actions.githubusercontent.com",
        "claims": [{"claim": "repository", "values": ["my-org/my-repo"]}],
    });
    for (name, value) in change.as_object().into_iter().flatten() {
        entry[name] = value.clone();
    }
    entry
}

fn workloads() -> Vec<super::Bad> {
    let exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
    let trusting = |change: Value| {
        json!({
            "grants": ["authorization_code", exchange],
            "trustedIssuers": [trusted(&change)],
        })
    };
    let mut bad_issuers: Vec<super::Bad> = [
        "http://ci.example.com",
        "https://ci.example.com/?a=b",
        "https://ci.example.com/#a",
        "https://user@ci.example.com",
        "https://ci.example.com\\@evil.example.com",
        "https://ci.example.com/ x",
    ]
    .into_iter()
    .map(|issuer| bad("no issuer", trusting(json!({"issuer": issuer})), TRUSTED_ISSUER))
    .collect();
    bad_issuers.extend([
        bad("keys in the clear", trusting(json!({"jwksURI": "http://ci.example.com/keys"})), TRUSTED_KEYS),
        bad("everybody of an issuer", trusting(json!({"claims": []})), "claims"),
        bad(
            "a claim with no value",
            trusting(json!({"claims": [{"claim": "repository", "values": []}]})),
            "values",
        ),
        bad("groups without a prefix", trusting(json!({"groupsFrom": {"claim": "teams", "prefix": ""}})), "prefix"),
        bad(
            "groups that have power",
            trusting(json!({"groupsFrom": {"claim": "teams", "prefix": "system:"}})),
            "groupsFrom.prefix must not begin with 'system:': such groups are refused, choose another",
        ),
        bad("a token for two days", trusting(json!({"maxTokenLifetimeSeconds": 86_401})), "86400"),
        bad(
            "trust without the grant",
            json!({"trustedIssuers": [trusted(&json!({}))]}),
            "trustedIssuers is for grant urn:ietf:params:oauth:grant-type:token-exchange: add it to \
             grants, or remove trustedIssuers",
        ),
        bad(
            "ServiceAccounts without the grant",
            json!({"jwtBearer": {"serviceAccounts": [{"name": "app"}]}}),
            BEARER,
        ),
        bad(
            "the grant without ServiceAccounts",
            json!({"grants": ["authorization_code", "urn:ietf:params:oauth:grant-type:jwt-bearer"]}),
            BEARER,
        ),
        bad(
            "no ServiceAccount at all",
            json!({
                "grants": ["authorization_code", "urn:ietf:params:oauth:grant-type:jwt-bearer"],
                "jwtBearer": {"serviceAccounts": []},
            }),
            "serviceAccounts",
        ),
    ]);
    bad_issuers
}
