//! Cases of `Connector`.
#![expect(clippy::too_many_lines, reason = "a table is as long as what it lists")]

use serde_json::{Value, json};

use super::{Table, bad, good};

const ONE_UPSTREAM: &str = "upstream must be exactly one of: local, ldap";
const LDAPS: &str =
    "tls.mode LDAPS needs ldaps:// urls: change the urls, or set tls.mode to StartTLS";
const NOT_LDAPS: &str = "tls.mode StartTLS and Plaintext need ldap:// urls: change the urls, or \
                         set tls.mode to LDAPS";
const URLS: &str = "urls must be ldaps://host[:port] or ldap://host[:port], without path, query or \
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
        bad: upstreams().into_iter().chain(directories()).chain(policies()).collect(),
        bad_updates: vec![],
    }
}

fn ldap(change: &Value) -> Value {
    json!({"upstream": {"ldap": change}})
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
