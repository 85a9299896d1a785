use super::*;

fn told_at(uri: &str) -> Value {
    json!({"backChannelLogout": {"uri": uri}})
}

#[test]
fn a_tenant_is_told_only_where_its_issuer_allows() {
    let uri = "https://hooks.team-a.example.com/bc";
    let mut fixture = Fixture::new();
    fixture.client(TENANT, "app", told_at(uri));
    let refused = fixture.assess();
    assert_eq!(refused.client_word(TENANT, "app", "Accepted"), "False/TenantPolicyViolation");
    let message = refused.said("OAuth2Client", (TENANT, "app"), "Accepted").2;
    assert!(message.contains("allowedBackChannelLogoutHosts"), "{message}");
    fixture.issuer(
        "main",
        json!({"tenants": {
            "allowedConnectors": ["local"],
            "allowedRedirectURIHosts": ["app.example.com"],
            "allowedBackChannelLogoutHosts": ["*.team-a.example.com"],
        }}),
    );
    fixture.client(HOME, "app", told_at("http://127.0.0.1:9000/bc"));
    let assessment = fixture.assess();
    for (id, expected) in [("team-a/app", uri), ("app", "http://127.0.0.1:9000/bc")] {
        let told = assessment.served(id).unwrap().logout.back_channel.clone();
        assert_eq!(told.map(|told| told.uri).as_deref(), Some(expected), "{id}");
    }
}

#[test]
fn a_frame_has_the_origin_of_a_redirect_uri() {
    let framed = |uri: &str| {
        let mut fixture = Fixture::new();
        fixture.client(
            HOME,
            "app",
            json!({
                "redirectURIs": ["https://app.example.com/callback"],
                "frontChannelLogout": {"uri": uri},
            }),
        );
        fixture.assess()
    };
    for uri in ["https://app.example.com/bye?x=1", "https://app.example.com:443/bye"] {
        let served = framed(uri).served("app").unwrap().logout.front_channel.clone();
        assert_eq!(served.as_deref(), Some(uri));
    }
    for uri in [
        "https://evil.example.com/bye",
        "https://app.example.com:8443/bye",
        "http://localhost/bye",
        "https://app.example.com.evil.example/",
    ] {
        let refused = framed(uri);
        assert_eq!(refused.client_word(HOME, "app", "Accepted"), "False/InvalidSpec", "{uri}");
        assert!(refused.served("app").is_none());
    }
}
