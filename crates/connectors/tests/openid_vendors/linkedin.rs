use claviger_domain::connector::LoginError;
use claviger_testkit::openid_provider::Places;
use serde_json::json;

use crate::fixture::Vendor;

async fn linkedin() -> Vendor {
    let vendor = Vendor::start(Places::linkedin(), "linkedin", &json!({}), &[]).await;
    vendor.provider.conduct().refuses_pkce = true;
    vendor
}

#[tokio::test]
async fn a_member_signs_in_without_what_linkedin_leaves_out() {
    let vendor = linkedin().await;
    vendor
        .says(json!({"groups": null, "preferred_username": null, "at_hash": null, "nonce": null}));
    let location = vendor.depart().await;
    assert!(!location.contains("nonce=") && !location.contains("code_challenge"), "{location}");
    assert!(location.contains("scope=openid+profile+email"), "{location}");
    let user = vendor.user().await;
    assert_eq!(user.identity.email.as_deref(), Some("ada@example.com"));
    assert!(user.identity.email_verified && user.identity.groups.is_empty());
    let form = vendor.provider.conduct().forms[0].clone();
    assert!(form.contains_key("client_secret"), "as LinkedIn takes it: in the form");
    assert!(vendor.tunnel.asked().iter().all(|host| host == "www.linkedin.com:443"));
    vendor.built.probe.as_ref().unwrap().probe().await.unwrap();
}

#[tokio::test]
async fn what_linkedin_does_say_is_judged_as_of_anybody() {
    let vendor = linkedin().await;
    for (claims, expected) in [
        (json!({"aud": "another"}), "WrongAudience"),
        (json!({"iss": "https://www.linkedin.com"}), "WrongIssuer"),
        (json!({"exp": 1}), "WrongTime"),
    ] {
        vendor.says(claims);
        match vendor.sign_in().await {
            Err(LoginError::Unverified { reason, .. }) => assert_eq!(reason, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn one_without_a_refresh_token_cannot_be_asked_about() {
    let vendor = linkedin().await;
    let conduct = || vendor.provider.conduct();
    conduct().gives_refresh_tokens = false;
    let user = vendor.user().await;
    assert!(user.data.is_none() && !vendor.recheck().can_ask(user.data.as_ref()));
    conduct().gives_refresh_tokens = true;
    let partner = vendor.user().await;
    vendor.again(&partner).await.unwrap();
}
