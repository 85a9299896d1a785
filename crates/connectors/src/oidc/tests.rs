//! A provider's new key, half a minute after its keys were read: what of its tokens is believed then.

use claviger_domain::upstream_token::PresentedError;
use claviger_jose::{Algorithm, KeySet, PrivateKey, Signer};
use claviger_testkit::CertificateAuthority;
use claviger_testkit::ci_issuer::now;
use claviger_testkit::openid_provider::{CLIENT_ID, OpenidProvider};
use serde_json::json;

use super::*;
use crate::kept::PAUSE;

const READ: [&str; 2] = ["/.well-known/openid-configuration", "/keys"];

/// A provider, and a connector that has just read its keys.
async fn acquainted() -> (OpenidProvider, Provider) {
    let authority = CertificateAuthority::create("upstream").unwrap();
    let there = OpenidProvider::start(&authority).await.unwrap();
    let spec = json!({
        "issuer": there.url(), "clientID": CLIENT_ID, "tls": {"caBundle": authority.certificate_pem()},
        "tokenExchange": {"audiences": [{"name": "mobile", "clients": ["portal"]}]},
    });
    let spec: OidcUpstream = serde_json::from_value(spec).unwrap();
    let here = Provider::new("corp", &spec, &Resolved::default()).unwrap();
    here.metadata.get(&here.http).await.unwrap();
    assert_eq!(read(&there), READ);
    (there, here)
}

/// What was asked for since this was last called.
fn read(provider: &OpenidProvider) -> Vec<String> {
    std::mem::take(&mut provider.conduct().log)
}

/// It signs by another key from now on, and publishes that alone.
fn rotate(provider: &OpenidProvider) {
    let key = PrivateKey::generate(Algorithm::RS256, 2_048).unwrap();
    let mut conduct = provider.conduct();
    conduct.published = KeySet::new([key.public_key().clone()]);
    conduct.key = key;
}

fn signed(provider: &OpenidProvider, audience: &str, change: &Value) -> String {
    let mut claims = json!({
        "iss": provider.url(), "aud": audience, "sub": "7", "iat": now(), "exp": now() + 120,
    });
    claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    Signer::new(&provider.conduct().key).unwrap().sign(None, &claims).unwrap()
}

#[tokio::test]
async fn a_new_key_is_believed_for_tokens_that_are_exchanged_half_a_minute_after_the_last_reading()
{
    let (there, here) = acquainted().await;
    rotate(&there);
    let new = signed(&there, "mobile", &json!({}));
    let said = here.believe(&new, "portal", now()).await;
    assert!(matches!(said, Err(PresentedError::Refused(_))), "{said:?}");
    assert_eq!(read(&there), [""; 0]);
    here.metadata.age(PAUSE);
    assert_eq!(
        here.believe(&new, "portal", now()).await.unwrap().authenticated.identity.user_id,
        "7"
    );
    here.believe(&new, "portal", now()).await.unwrap();
    assert_eq!(read(&there), READ);
    here.metadata.age(PAUSE);
    there.conduct().answers.insert("/keys".to_owned(), (503, "sorry".to_owned()));
    rotate(&there);
    let newer = signed(&there, "mobile", &json!({}));
    let said = here.believe(&newer, "portal", now()).await;
    assert!(matches!(said, Err(PresentedError::Refused(_))), "by the keys of before: {said:?}");
}

#[tokio::test]
async fn a_new_key_is_believed_for_logout_tokens_half_a_minute_after_the_last_reading() {
    let (there, here) = acquainted().await;
    rotate(&there);
    let event = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    let new = signed(&there, CLIENT_ID, &json!({"jti": "j", "events": event}));
    here.read(&new, now()).await.unwrap_err();
    assert_eq!(read(&there), [""; 0]);
    here.metadata.age(PAUSE);
    assert_eq!(here.read(&new, now()).await.unwrap().user_id, "7");
    assert_eq!(read(&there), READ);
    let stranger = PrivateKey::generate(Algorithm::ES256, 2_048).unwrap();
    for _ in 0..20 {
        let forged = json!({"iss": there.url(), "aud": CLIENT_ID, "sub": "7", "exp": now() + 120});
        let forged = Signer::new(&stranger).unwrap().sign(None, &forged).unwrap();
        here.read(&forged, now()).await.unwrap_err();
    }
    assert_eq!(read(&there), [""; 0], "not once for each that is forged");
}
