use claviger_domain::connector::{LoginError, RecheckError};
use claviger_jose::{Algorithm, KeySet, PrivateKey};
use claviger_testkit::openid_provider::Places;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::fixture::{Vendor, connector};

const GROUPS: &str = "/admin/directory/v1/groups";
const DIRECTORY_TOKEN: &str = "the-directory-token";

async fn google(change: Value) -> Vendor {
    let vendor = Vendor::start(Places::google(), "google", &change, &[]).await;
    vendor.provider.conduct().rotates = false;
    vendor
}

/// A Workspace whose groups are read, and the key of the service account that reads them.
async fn workspace(nesting: &str) -> Vendor {
    let key = PrivateKey::generate(Algorithm::RS256, 2_048).unwrap();
    let file = json!({
        "type": "service_account", "client_email": "claviger@corp.iam.gserviceaccount.com",
        "private_key": key.to_pkcs8_pem().unwrap().expose_secret(), "private_key_id": key.kid(),
        "token_uri": "https://evil.example/token",
    });
    let change = json!({
        "hostedDomains": ["example.com"],
        "groups": {
            "serviceAccountSecretRef": {"name": "corp", "key": "serviceAccount"},
            "administrators": [{"domain": "example.com", "email": "admin@example.com"}],
            "nesting": nesting,
        },
    });
    let secrets = [("serviceAccount", file.to_string())];
    let secrets = secrets.each_ref().map(|(key, value)| (*key, value.as_str()));
    let vendor = Vendor::start(Places::google(), "google", &change, &secrets).await;
    vendor.provider.conduct().rotates = false;
    let keys = KeySet::new([key.public_key().clone()]);
    vendor.provider.conduct().accounts = Some((keys, DIRECTORY_TOKEN.into()));
    vendor.says(json!({"hd": "Example.com", "groups": null}));
    vendor
}

/// The page of a member's groups, as Google words the request.
fn of(member: &str, page: Option<&str>) -> String {
    let page = page.map(|page| format!("&pageToken={page}")).unwrap_or_default();
    format!("{GROUPS}?userKey={}&maxResults=200{page}", member.replace('@', "%40"))
}

fn groups(emails: &[&str], next: Option<&str>) -> Value {
    let groups: Vec<_> = emails.iter().map(|email| json!({"id": "1", "email": email})).collect();
    json!({"kind": "admin#directory#groups", "groups": groups, "nextPageToken": next})
}

const ADA: &str = "248289761001";

#[tokio::test]
async fn an_account_signs_in_and_is_asked_about_again_with_the_same_refresh_token() {
    let vendor = google(json!({})).await;
    vendor.says(json!({"preferred_username": null, "groups": ["made-up"]}));
    let location = vendor.depart().await;
    assert!(location.contains("access_type=offline"), "{location}");
    assert!(location.contains("prompt=consent") && !location.contains("&hd="), "{location}");
    let user = vendor.user().await;
    assert_eq!(user.identity.user_id, ADA);
    assert_eq!(user.identity.preferred_username.as_deref(), Some("ada@example.com"));
    assert!(user.identity.groups.is_empty(), "a token says nothing of groups");
    let recheck = vendor.recheck();
    assert!(!recheck.consumes(user.data.as_ref()), "Google rotates nothing");
    let again = vendor.again(&user).await.unwrap();
    assert_eq!(again.data, user.data);
    let probe = vendor.built.probe.as_ref().unwrap();
    probe.probe().await.unwrap();
    for host in ["accounts.google.com:443", "oauth2.googleapis.com:443", "www.googleapis.com:443"] {
        assert!(vendor.tunnel.asked().contains(&host.to_owned()), "{:?}", vendor.tunnel.asked());
    }
}

#[tokio::test]
async fn the_workspace_is_what_google_says_and_not_what_the_address_looks_like() {
    let vendor = google(json!({"hostedDomains": ["example.com"]})).await;
    assert!(vendor.depart().await.contains("&hd=example.com"));
    for outsider in [json!({}), json!({"hd": "example.com.evil.example"}), json!({"hd": 7})] {
        vendor.says(outsider);
        let refused = vendor.sign_in().await;
        assert!(matches!(refused, Err(LoginError::Refused(_))), "{refused:?}");
    }
    vendor.says(json!({"hd": "example.com"}));
    let user = vendor.user().await;
    vendor.says(json!({"hd": "elsewhere.example"}));
    let gone = vendor.again(&user).await;
    assert!(matches!(gone, Err(RecheckError::Gone(_))), "{gone:?}");
    let several = google(json!({"hostedDomains": ["a.example", "b.example"]})).await;
    assert!(several.depart().await.contains("&hd=*") || several.depart().await.contains("&hd=%2A"));
}

#[tokio::test]
async fn groups_are_read_by_the_service_account_page_by_page() {
    let vendor = workspace("Direct").await;
    vendor.answers(&of(ADA, None), 200, &groups(&["Ops@example.com"], Some("two")));
    vendor.answers(&of(ADA, Some("two")), 200, &groups(&["dev@example.com"], None));
    let user = vendor.user().await;
    assert_eq!(user.identity.groups, ["dev@example.com", "ops@example.com"]);
    assert_eq!(user.raw["groups"], json!(["dev@example.com", "ops@example.com"]));
    assert!(vendor.shown_at(GROUPS).iter().all(|token| token == DIRECTORY_TOKEN));
    let signed = vendor.provider.conduct().assertions[0].clone();
    assert_eq!(signed["sub"], "admin@example.com");
    assert_eq!(signed["iss"], "claviger@corp.iam.gserviceaccount.com");
    assert_eq!(signed["aud"], "https://oauth2.googleapis.com/token");
    assert_eq!(signed["scope"], "https://www.googleapis.com/auth/admin.directory.group.readonly");

    vendor.answers(&of(ADA, None), 200, &json!({"kind": "admin#directory#groups"}));
    let again = vendor.again(&user).await.unwrap();
    assert!(again.identity.groups.is_empty(), "removed from all");
    assert_eq!(vendor.provider.conduct().assertions.len(), 1, "one token for many questions");
    let asked = vendor.tunnel.asked();
    assert!(!asked.iter().any(|host| host.contains("evil")), "{asked:?}");
}

#[tokio::test]
async fn nested_groups_are_followed_once_each_though_they_are_in_each_other() {
    let vendor = workspace("Nested").await;
    vendor.answers(&of(ADA, None), 200, &groups(&["a@example.com"], None));
    vendor.answers(&of("a@example.com", None), 200, &groups(&["b@example.com"], None));
    vendor.answers(&of("b@example.com", None), 200, &groups(&["a@example.com"], None));
    assert_eq!(vendor.user().await.identity.groups, ["a@example.com", "b@example.com"]);
    assert_eq!(vendor.shown_at(GROUPS).len(), 3);
}

/// Groups that are not known are not none: nobody gets in without a look at the allow-list, and nobody is put out.
#[tokio::test]
async fn groups_that_cannot_be_read_are_no_verdict() {
    let vendor = workspace("Direct").await;
    vendor.answers(&of(ADA, None), 200, &groups(&["ops@example.com"], None));
    let user = vendor.user().await;
    let forbidden =
        json!({"error": {"code": 403, "message": "Not Authorized to access this resource/api"}});
    for (status, body) in
        [(403, &forbidden), (429, &json!({})), (500, &json!({})), (200, &json!([]))]
    {
        vendor.answers(&of(ADA, None), status, body);
        let refused = vendor.sign_in().await;
        let is_ours = matches!(refused, Err(LoginError::Unavailable(_) | LoginError::Unusable(_)));
        assert!(is_ours, "{status}: {refused:?}");
        let unknown = vendor.again(&user).await;
        assert!(matches!(unknown, Err(RecheckError::Interrupted { .. })), "{status}: {unknown:?}");
    }
    vendor.answers(&of(ADA, None), 200, &groups(&[], Some("on")));
    vendor.answers(&of(ADA, Some("on")), 200, &groups(&[], Some("on")));
    let endless = vendor.sign_in().await;
    assert!(matches!(endless, Err(LoginError::Unusable(_))), "{endless:?}");
    let other = workspace("Direct").await;
    other.provider.conduct().accounts = None;
    let probe = other.built.probe.as_ref().unwrap().probe().await.unwrap_err();
    assert!(probe.message.contains("delegate https://www.googleapis.com/auth/"), "{probe:?}");
}

#[tokio::test]
async fn a_token_of_the_service_account_that_was_taken_back_is_asked_for_once_more() {
    let vendor = workspace("Direct").await;
    vendor.answers(&of(ADA, None), 200, &groups(&["ops@example.com"], None));
    let user = vendor.user().await;
    vendor.answers(&of(ADA, None), 401, &json!({"error": {"code": 401}}));
    vendor.again(&user).await.unwrap_err();
    assert_eq!(vendor.provider.conduct().assertions.len(), 2);
}

#[test]
fn a_key_file_that_is_none_is_said_before_anybody_signs_in() {
    let change = json!({"groups": {
        "serviceAccountSecretRef": {"name": "corp", "key": "serviceAccount"},
        "administrators": [{"domain": "*", "email": "admin@example.com"}],
    }});
    let with_key = |file: &str| {
        let secrets = [("serviceAccount", file)];
        connector("google", &change, (&secrets, None)).unwrap_err().to_string()
    };
    let said = with_key("no JSON");
    assert!(said.contains("the service account's key file: it is not the JSON key file"), "{said}");
    let said = with_key(r#"{"client_email": "a", "private_key": "b", "private_key_id": "c"}"#);
    assert!(said.contains("the service account's key file"), "{said}");
}
