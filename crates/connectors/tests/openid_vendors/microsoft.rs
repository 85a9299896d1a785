use claviger_domain::connector::{LoginError, RecheckError};
use claviger_jose::{Algorithm, PrivateKey};
use claviger_testkit::openid_provider::Places;
use serde_json::{Value, json};

use crate::fixture::{Vendor, connector};

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const OTHER: &str = "99999999-2222-3333-4444-555555555555";
const OID: &str = "aaaaaaaa-0000-0000-0000-000000000001";
const ME: &str = "/v1.0/me";
const MEMBER_OF: &str = "/v1.0/me/transitiveMemberOf";

/// A user of this tenant, as the token and Graph say.
fn ada(vendor: &Vendor, tenant: &str) {
    vendor.says(json!({
        "iss": format!("https://login.microsoftonline.com/{tenant}/v2.0"), "tid": tenant, "oid": OID,
        "email": "ceo@victim.example", "email_verified": null, "groups": ["made-up"],
    }));
    vendor.answers(ME, 200, &json!({
        "id": OID, "mail": "Ada@example.com", "userPrincipalName": "ada@corp.example", "accountEnabled": true,
        "department": "engines",
    }));
}

async fn one_tenant(change: Value) -> Vendor {
    let mut all = json!({"tenant": TENANT});
    all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let vendor = Vendor::start(Places::microsoft(TENANT, TENANT), "microsoft", &all, &[]).await;
    vendor.provider.conduct().rotates = false; // those before stay good
    ada(&vendor, TENANT);
    vendor
}

async fn many_tenants() -> Vendor {
    let change = json!({"tenant": "organizations", "allowedTenants": [TENANT]});
    let vendor =
        Vendor::start(Places::microsoft("organizations", "{tenantid}"), "microsoft", &change, &[])
            .await;
    ada(&vendor, TENANT);
    vendor
}

#[tokio::test]
async fn an_account_of_the_tenant_signs_in_by_its_object_id() {
    let vendor = one_tenant(json!({"domainHint": "corp.example"})).await;
    let location = vendor.depart().await;
    assert!(location.contains("domain_hint=corp.example"), "{location}");
    assert!(location.contains("User.Read") && !location.contains("GroupMember"), "{location}");
    assert!(location.contains("offline_access") && !location.contains("prompt="), "{location}");
    let user = vendor.user().await;
    assert_eq!(user.identity.user_id, OID);
    assert_eq!(user.identity.preferred_username.as_deref(), Some("ada@corp.example"));
    assert_eq!(
        user.identity.email.as_deref(),
        Some("Ada@example.com"),
        "of Graph, not of the token"
    );
    assert!(!user.identity.email_verified, "whatever a tenant writes there");
    assert!(user.identity.groups.is_empty(), "nobody asked for groups");
    assert_eq!(user.raw["graph"]["department"], "engines");
    assert!(!vendor.recheck().consumes(user.data.as_ref()));
    vendor.again(&user).await.unwrap();
    vendor.built.probe.as_ref().unwrap().probe().await.unwrap();
}

#[tokio::test]
async fn an_address_is_verified_where_its_domain_is_the_tenants_own() {
    let vendor = one_tenant(json!({})).await;
    let mut claims = vendor.provider.conduct().claims.clone();
    for (said, email, expected) in [
        (json!(true), "ada@EXAMPLE.com", true),
        (json!("1"), "ada@example.com", true),
        (json!(0), "ada@example.com", false),
        (json!(true), "ceo@victim.example", false),
    ] {
        claims["xms_edov"] = said;
        claims["email"] = email.into();
        vendor.says(claims.clone());
        assert_eq!(vendor.user().await.identity.email_verified, expected);
    }
    let vendor = one_tenant(json!({"email": "UserPrincipalName"})).await;
    let user = vendor.user().await.identity;
    assert_eq!((user.email.as_deref(), user.email_verified), (Some("ada@corp.example"), true));
}

#[tokio::test]
async fn of_many_tenants_those_that_are_listed_are_admitted_each_by_its_own_issuer() {
    let vendor = many_tenants().await;
    let user = vendor.user().await;
    assert_eq!(user.identity.user_id, format!("{TENANT}/{OID}"));
    ada(&vendor, OTHER);
    let refused = vendor.sign_in().await;
    assert!(matches!(refused, Err(LoginError::Refused(_))), "{refused:?}");
    let gone = vendor.again(&user).await;
    assert!(matches!(gone, Err(RecheckError::Gone(_))), "{gone:?}");

    // A token that names another tenant than its issuer's, or none that could be one.
    let login = "https://login.microsoftonline.com";
    for (issuer, tenant) in [
        (format!("{login}/{OTHER}/v2.0"), json!(TENANT)),
        (format!("{login}/{{tenantid}}/v2.0"), json!(TENANT)),
        (format!("https://evil.example/{TENANT}/v2.0"), json!(TENANT)),
        (format!("{login}/x/../{TENANT}/v2.0"), json!(format!("x/../{TENANT}"))),
    ] {
        let mut claims = vendor.provider.conduct().claims.clone();
        (claims["iss"], claims["tid"]) = (issuer.into(), tenant);
        vendor.says(claims);
        match vendor.sign_in().await {
            Err(LoginError::Unverified { reason, .. }) => assert_eq!(reason, "WrongIssuer"),
            other => panic!("{other:?}"),
        }
    }
}

/// A key that Microsoft publishes for personal accounts signs no token of an organization.
#[tokio::test]
async fn a_key_for_one_issuer_signs_nothing_for_another() {
    let vendor = many_tenants().await;
    let published = |issuer: &str, key: &PrivateKey| {
        let mut jwk = key.public_jwk();
        jwk["issuer"] = issuer.into();
        json!({"keys": [jwk]})
    };
    let keys = "/organizations/discovery/v2.0/keys";
    let login = "https://login.microsoftonline.com";
    let key = PrivateKey::generate(Algorithm::RS256, 2_048).unwrap();
    vendor.answers(keys, 200, &published(&format!("{login}/{OTHER}/v2.0"), &key));
    vendor.provider.conduct().key = key;
    match vendor.sign_in().await {
        Err(LoginError::Unverified { reason, .. }) => assert_eq!(reason, "WrongSignature"),
        other => panic!("{other:?}"),
    }
    for issuer in [format!("{login}/{{tenantid}}/v2.0"), format!("{login}/{TENANT}/v2.0")] {
        let vendor = many_tenants().await;
        let key = PrivateKey::generate(Algorithm::RS256, 2_048).unwrap();
        vendor.answers(keys, 200, &published(&issuer, &key));
        vendor.provider.conduct().key = key;
        vendor.user().await;
    }
}

#[tokio::test]
async fn one_tenant_is_that_tenant_whatever_the_token_says_of_itself() {
    let vendor = one_tenant(json!({})).await;
    let user = vendor.user().await;
    ada(&vendor, OTHER);
    match vendor.sign_in().await {
        Err(LoginError::Unverified { reason, .. }) => assert_eq!(reason, "WrongIssuer"),
        other => panic!("{other:?}"),
    }
    let unknown = vendor.again(&user).await;
    assert!(matches!(unknown, Err(RecheckError::Interrupted { .. })), "{unknown:?}");
    // Of its issuer, and of another tenant.
    let mut claims = vendor.provider.conduct().claims.clone();
    claims["iss"] = format!("https://login.microsoftonline.com/{TENANT}/v2.0").into();
    vendor.says(claims);
    let refused = vendor.sign_in().await;
    assert!(matches!(refused, Err(LoginError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_personal_account_is_named_otherwise_by_graph_and_has_an_address_that_nobody_verified() {
    const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
    let change = json!({"tenant": "consumers", "email": "UserPrincipalName"});
    let places = Places::microsoft(CONSUMERS, CONSUMERS);
    let vendor = Vendor::start(places, "microsoft", &change, &[]).await;
    let oid = "00000000-0000-0000-1234-56789abcdef0";
    vendor.says(json!({"tid": CONSUMERS, "oid": oid, "groups": null}));
    let me = |id: &str| json!({"id": id, "userPrincipalName": "ada@victim.example"});
    vendor.answers(ME, 200, &me("123456789ABCDEF0"));
    let user = vendor.user().await.identity;
    assert_eq!((user.user_id.as_str(), user.email_verified), (oid, false));
    for other in ["123456789abcdef1", "def0", ""] {
        vendor.answers(ME, 200, &me(other));
        let refused = vendor.sign_in().await;
        assert!(matches!(refused, Err(LoginError::Unusable(_))), "{refused:?}");
    }
}

fn group(id: &str, name: &str, is_security: bool) -> Value {
    json!({"@odata.type": "#microsoft.graph.group", "id": id, "displayName": name, "securityEnabled": is_security})
}

#[tokio::test]
async fn groups_come_from_graph_page_by_page() {
    let page = |groups: Value, next: Option<&str>| {
        let mut page = json!({"value": groups});
        if let Some(next) = next {
            page["@odata.nextLink"] = next.into();
        }
        page
    };
    let role = json!({"@odata.type": "#microsoft.graph.directoryRole", "id": "r", "displayName": "Global Administrator"});
    let next = "https://graph.microsoft.com/v1.0/me/transitiveMemberOf?$skiptoken=two";
    for (groups, expected) in [
        (json!({}), vec!["g1", "g3"]),
        (json!({"types": "All"}), vec!["g1", "g2", "g3"]),
        (json!({"names": "DisplayName"}), vec!["Dev", "Ops"]),
    ] {
        let vendor = one_tenant(json!({"groups": groups})).await;
        assert!(vendor.depart().await.contains("GroupMember.Read.All"));
        let first = json!([group("g1", "Ops", true), role, group("g2", "Choir", false)]);
        vendor.answers(MEMBER_OF, 200, &page(first, Some(next)));
        let last = page(json!([group("g3", "Dev", true)]), None);
        vendor.answers(&format!("{MEMBER_OF}?$skiptoken=two"), 200, &last);
        let user = vendor.user().await;
        assert_eq!(user.identity.groups, expected);
        vendor.answers(MEMBER_OF, 200, &page(json!([]), None));
        assert!(vendor.again(&user).await.unwrap().identity.groups.is_empty());
    }
}

#[tokio::test]
async fn groups_that_cannot_be_read_whole_are_no_verdict_and_the_token_goes_nowhere_else() {
    let vendor = one_tenant(json!({"groups": {}})).await;
    vendor.answers(MEMBER_OF, 200, &json!({"value": [group("g1", "Ops", true)]}));
    let user = vendor.user().await;
    let elsewhere = json!({"value": [], "@odata.nextLink": "https://evil.example/v1.0/me"});
    let denied = json!({"error": {"code": "Authorization_RequestDenied", "message": "Insufficient privileges"}});
    for (status, body) in [(200, &elsewhere), (403, &denied), (429, &json!({})), (503, &json!({}))]
    {
        vendor.answers(MEMBER_OF, status, body);
        let refused = vendor.sign_in().await;
        let is_ours = matches!(refused, Err(LoginError::Unavailable(_) | LoginError::Unusable(_)));
        assert!(is_ours, "{status}: {refused:?}");
        let unknown = vendor.again(&user).await;
        assert!(matches!(unknown, Err(RecheckError::Interrupted { .. })), "{status}: {unknown:?}");
    }
    let asked = vendor.tunnel.asked();
    assert!(!asked.iter().any(|host| host.contains("evil")), "{asked:?}");
}

#[tokio::test]
async fn a_disabled_account_is_gone_and_another_users_answer_is_none() {
    let vendor = one_tenant(json!({})).await;
    let user = vendor.user().await;
    vendor.answers(ME, 200, &json!({"id": "somebody-else"}));
    let other = vendor.again(&user).await;
    assert!(matches!(other, Err(RecheckError::Interrupted { .. })), "{other:?}");
    vendor.answers(ME, 200, &json!({"id": OID, "accountEnabled": false}));
    let gone = vendor.again(&user).await;
    assert!(matches!(gone, Err(RecheckError::Gone(_))), "{gone:?}");
}

#[test]
fn every_tenant_in_the_world_is_not_a_default() {
    for tenant in ["common", "organizations"] {
        let error = connector("microsoft", &json!({"tenant": tenant}), (&[], None)).unwrap_err();
        assert!(error.to_string().contains("list those you mean in allowedTenants"), "{error}");
    }
}

#[tokio::test]
async fn a_configuration_of_another_issuer_is_refused() {
    let change = json!({"tenant": TENANT});
    let vendor = Vendor::start(Places::microsoft(TENANT, OTHER), "microsoft", &change, &[]).await;
    let error = vendor.built.probe.as_ref().unwrap().probe().await.unwrap_err();
    assert_eq!(error.reason, "UpstreamUnusable");
    assert!(error.message.contains(OTHER) && error.message.contains(TENANT), "{error}");
}
