//! Every user story, as one program: linked once, and what mostly waits runs beside what works.
//!
//! One story, one file, named here; `every_story_is_told` fails for a file that is not.

mod auth_proxy;
mod authlib;
mod authorization_endpoint;
mod back_channel_logout;
mod chart;
mod client_authentication;
mod client_credentials;
mod clock_skew;
mod custom_claims;
mod custom_resources;
mod device;
mod dpop;
mod dynamic_registration;
mod faults_answers;
mod faults_api_server;
mod faults_cut_off;
mod faults_replicas;
mod faults_rotation;
mod flow_control;
mod forged_sessions;
mod front_channel_logout;
mod garbage_collection;
mod idle;
mod introspection;
mod kubernetes_api_server;
mod ldap_claims;
mod live_changes;
mod logout;
mod minio_sts;
mod mod_auth_openidc;
mod openid_client;
mod password;
mod policy;
mod pushed_requests;
mod races;
mod real_browser;
mod recipes;
mod replay;
mod rotation;
mod sealing_ring;
mod session_caps;
mod several_issuers;
mod sign_in;
mod signed_userinfo;
mod single_sign_on;
mod tenants;
mod token_exchange;
mod token_revocation;
mod upstream_active_directory;
mod upstream_crowd;
mod upstream_gitea;
mod upstream_github;
mod upstream_keystone;
mod upstream_ldap;
mod upstream_oidc;
mod upstream_oidc_keycloak;
mod upstream_openid_vendors;
mod upstream_saml;
mod upstream_vendors;
mod workloads;

#[test]
fn every_story_is_told() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let told = include_str!("stories.rs");
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(story) = file.strip_suffix(".rs") else { continue };
        let apart = ["stories", "crate_arrows"].contains(&story);
        assert!(
            apart || told.contains(&format!("\nmod {story};\n")),
            "stories.rs lacks mod {story}"
        );
    }
}
