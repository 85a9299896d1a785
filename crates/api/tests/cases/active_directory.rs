//! Cases of `Connector` with a Windows domain.

use serde_json::{Value, json};

use super::{Bad, bad, changed};

/// The base with a Windows domain instead.
pub fn domain(change: &Value) -> Value {
    let upstream = json!({
        "urls": ["ldaps://dc1.ad.example.com"],
        "bind": {
            "name": "claviger@ad.example.com",
            "passwordSecretRef": {"name": "ad", "key": "password"},
        },
        "baseDN": "DC=ad,DC=example,DC=com",
    });
    json!({"upstream": {"ldap": null, "activeDirectory": changed(&upstream, change)}})
}

pub fn every_domain_field() -> Value {
    json!({
        "urls": ["ldap://dc1.ad.example.com", "ldap://[2001:db8::1]:1389"],
        "tls": {
            "mode": "StartTLS",
            "caSecretRef": {"name": "ad", "key": "ca.crt"},
            "clientCertificateSecretRef": {"name": "ad-client"},
        },
        "usernamePrompt": "Windows name",
        "loginNames": ["SAMAccountName", "UserPrincipalName", "Mail", "DownLevelLogonName"],
        "netBIOSDomain": "EXAMPLE",
        "userSearch": {"baseDN": "OU=Staff,DC=ad,DC=example,DC=com", "filter": "(department=Engineering)"},
        "groupSearch": {
            "source": "InChain", "nameAttribute": "SID",
            "baseDN": "OU=Groups,DC=ad,DC=example,DC=com", "filter": "(sAMAccountName=k8s-*)",
        },
        "idAttribute": "ObjectSID",
        "preferredUsername": "UserPrincipalName",
        "emailVerification": "Unverified",
        "claimAttributes": super::connector::every_claim(),
        "sessionEnd": {"passwordChanged": "Ignore", "lockedOut": "Ignore"},
        "timeouts": {"connectSeconds": 1, "operationSeconds": 2},
        "poolSize": 8,
    })
}

pub fn domains() -> Vec<Bad> {
    let urls = |url: &str| domain(&json!({"urls": [url]}));
    let down_level = "loginNames DownLevelLogonName and netBIOSDomain need each other: \
                      set both or neither";
    let catalog = "urls must not be global catalogs (ports 3268 and 3269), which do not know when \
                   accounts expire: use 636, or 389 with StartTLS";
    vec![
        bad(
            "a domain controller without TLS",
            urls("ldap://dc1.ad.example.com"),
            "activeDirectory never sends passwords in the clear: use ldaps:// urls, or set tls.mode to \
             StartTLS",
        ),
        bad(
            "ldaps with StartTLS in a domain",
            domain(&json!({"tls": {"mode": "StartTLS"}})),
            "tls.mode StartTLS needs ldap:// urls: change the urls, or set tls.mode to LDAPS",
        ),
        bad(
            "a domain in plain text",
            domain(&json!({"tls": {"mode": "Plaintext"}})),
            "Unsupported value",
        ),
        bad("a domain controller with a path", urls("ldaps://dc1/DC=ad"), super::connector::URLS),
        bad("a global catalog", urls("ldaps://dc1.ad.example.com:3269"), catalog),
        bad("no domain controller", domain(&json!({"urls": []})), "should have at least 1 items"),
        bad("nobody who searches a domain", domain(&json!({"bind": null})), "Required value"),
        bad(
            "a down-level name without its domain",
            domain(&json!({"loginNames": ["DownLevelLogonName"]})),
            down_level,
        ),
        bad(
            "a NetBIOS domain for nothing",
            domain(&json!({"netBIOSDomain": "EXAMPLE"})),
            down_level,
        ),
        bad(
            "a NetBIOS domain with a backslash",
            domain(&json!({"loginNames": ["DownLevelLogonName"], "netBIOSDomain": "EXAMPLE\\"})),
            "netBIOSDomain is the name before the backslash alone, such as EXAMPLE",
        ),
        bad(
            "a filter of a domain's users without parentheses",
            domain(&json!({"userSearch": {"filter": "department=Engineering"}})),
            "userSearch.filter must be in parentheses, such as (department=Engineering)",
        ),
        bad(
            "a filter of a domain's groups without parentheses",
            domain(&json!({"groupSearch": {"filter": "cn=k8s-*"}})),
            "groupSearch.filter must be in parentheses, such as (sAMAccountName=k8s-*)",
        ),
        bad(
            "a filter of no groups",
            domain(&json!({"groupSearch": {"source": "None", "filter": "(cn=k8s-*)"}})),
            "groupSearch.source None searches nothing: remove baseDN and filter",
        ),
    ]
}

/// Whose certificates a domain's controllers may show.
pub fn trusted() -> Vec<Bad> {
    vec![
        bad(
            "a ConfigMap and a bundle of a domain",
            domain(&json!({"tls": {
                "caConfigMapRef": {"name": "ca"}, "caBundle": "-----BEGIN CERTIFICATE-----",
            }})),
            super::connector::ONE_AUTHORITY,
        ),
        bad(
            "two sources of a domain's certificates",
            domain(&json!({"tls": {
                "caSecretRef": {"name": "ca", "key": "ca.crt"},
                "caBundle": "-----BEGIN CERTIFICATE-----",
            }})),
            "tls takes caSecretRef or caBundle, not both: remove one",
        ),
        bad(
            "a file name for a domain's certificate",
            domain(&json!({"tls": {"caBundle": "/etc/ssl/ca.pem"}})),
            "caBundle must hold certificates in PEM form (-----BEGIN CERTIFICATE-----)",
        ),
    ]
}
