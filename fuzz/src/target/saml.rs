//! What a browser brings from an identity provider of SAML, and that one's metadata.

use std::sync::OnceLock;

use claviger_api::ConnectorSpec;
use claviger_connectors::{Resolved, Upstream, build};
use claviger_domain::connector::Login;
use claviger_domain::device_page;
use claviger_domain::fakes::World;
use claviger_domain::single_logout::Here;
use claviger_domain::trip::Trip;
use claviger_domain::upstream_logout::NoticeError;
use claviger_jose::{Algorithm, PrivateKey};
use claviger_protocol::form::Params;
use data_encoding::BASE64;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

/// A certificate of a key that nobody has any more.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n\
    MIIBdDCCARmgAwIBAgIUWx7yQ57dXeub8prPxSDhRSrX0JwwCgYIKoZIzj0EAwIw\n\
    DjEMMAoGA1UEAwwDaWRwMCAXDTI2MTEyNjE1MjAyMloYDzIxMjYxMTAyMTUyMDIy\n\
    WjAOMQwwCgYDVQQDDANpZHAwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASdeyDU\n\
    EMfTmR9X7HkNL2mnheVO/yqimh1s4dLAX9sJ2YjDUCNeBNs1GVPG/KKNfmXpmi4c\n\
    Wz8sO00kOU6BaDDWo1MwUTAdBgNVHQ4EFgQU/z6ZJQ9S+d3pDySvzMGVeTq6pLYw\n\
    HwYDVR0jBBgwFoAU/z6ZJQ9S+d3pDySvzMGVeTq6pLYwDwYDVR0TAQH/BAUwAwEB\n\
    /zAKBggqhkjOPQQDAgNJADBGAiEAroEjmjJsSCgnXOre017qkIwAhidl8/xjVJgf\n\
    XkCFhzcCIQDukm8PHx32JZ741tHbzVlOYdnSw+yvIqIFONnazk3aEA==\n\
    -----END CERTIFICATE-----\n";

/// Nothing that nobody signed signs anybody in.
pub fn answer(bytes: &[u8]) {
    static UPSTREAM: OnceLock<Upstream> = OnceLock::new();
    let upstream = UPSTREAM.get_or_init(|| {
        let there = json!({
            "entityID": "https://idp.example.com/saml", "ssoURL": "https://idp.example.com/sso",
            "certificates": CERTIFICATE,
        });
        made(&json!({"identityProvider": there}), &Resolved::default()).expect("a connector")
    });
    let Login::Redirect(login) = &upstream.login else { panic!("{upstream:?}") };
    let world = World::new();
    let flow = device_page::begin(&world.provider, None);
    let trip = Trip::of(&world.issuer, &flow, &world.issuer.connectors[0], 1_795_700_000);
    let request = trip.request_id();
    // The mutants know what only the browser's cookie knows.
    let document = match std::str::from_utf8(bytes) {
        Ok(text) => text.replace("REQUEST", &request).into_bytes(),
        Err(_) => bytes.to_vec(),
    };
    let form = Params::default().with("SAMLResponse", &BASE64.encode(&document));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let arrived = runtime.block_on(login.arrive(&trip, &form));
    assert!(arrived.is_err(), "signed in: {arrived:?}");
}

/// Nothing that nobody signed signs anybody out.
pub fn logout(bytes: &[u8]) {
    static UPSTREAM: OnceLock<Upstream> = OnceLock::new();
    let upstream = UPSTREAM.get_or_init(|| {
        let key = PrivateKey::generate(Algorithm::RS256, 2_048).expect("a key");
        let pem = key.to_pkcs8_pem().expect("a PEM");
        let mut resolved = Resolved::default();
        resolved.insert("corp", "tls.key", pem.expose_secret().as_bytes().to_vec());
        let saml = json!({
            "identityProvider": {
                "entityID": "https://idp.example.com/saml", "ssoURL": "https://idp.example.com/sso",
                "sloURL": "https://idp.example.com/slo", "certificates": CERTIFICATE,
            },
            "signing": {"keySecretRef": {"name": "corp", "key": "tls.key"}},
        });
        made(&saml, &resolved).expect("a connector")
    });
    let Login::Redirect(login) = &upstream.login else { panic!("{upstream:?}") };
    let Ok(query) = std::str::from_utf8(bytes) else { return };
    let callback = "https://a.example.com/callback/corp".to_owned();
    let here = Here { callback, id: "id".to_owned(), now: 1_795_700_000 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let heard = runtime.block_on(login.single_logout().expect("messages").read(query, &here));
    assert!(matches!(heard, Err(NoticeError::Refused { .. })), "believed: {heard:?}");
}

/// Metadata makes a connector that describes itself, or is refused in words.
pub fn metadata(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match made(&json!({"metadata": text}), &Resolved::default()) {
        Ok(upstream) => {
            let Login::Redirect(login) = &upstream.login else { panic!("{upstream:?}") };
            let described = login.description("https://a.example.com/callback/corp");
            assert!(described.is_some_and(|document| document.body.contains("EntityDescriptor")));
        }
        Err(why) => assert!(why.starts_with("upstream.saml: metadata: "), "{why}"),
    }
}

fn made(saml: &Value, resolved: &Resolved) -> Result<Upstream, String> {
    let spec = json!({"displayName": "Corp", "upstream": {"saml": saml}});
    let spec: ConnectorSpec = serde_json::from_value(spec).map_err(|error| error.to_string())?;
    build("corp", &spec, resolved).map_err(|error| error.to_string())
}
