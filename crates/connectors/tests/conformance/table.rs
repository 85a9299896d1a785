//! The tables of docs/connectors.md: what each kind can do, as it is built, and by which test that is held.
//!
//! `CLAVIGER_WRITE_TABLES=1 cargo test -p claviger-connectors --test conformance tables` writes them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use claviger_api::ConnectorSpec;
use claviger_connectors::{Resolved, Upstream, build, secret_refs};
use claviger_domain::connector::{Login, Refresh};
use claviger_testkit::{CertificateAuthority, pki};
use serde_json::json;

use crate::kinds::KINDS;

/// One kind, in words. Where it cannot do a thing the cell says why, and begins with a dash.
struct Row {
    name: &'static str,
    groups: &'static str,
    refresh: &'static str,
    exchange: &'static str,
    logout: &'static str,
    ready: &'static str,
    peers: &'static str,
    /// File below the repository, and in it the tests of: success, refusal, group change, account gone.
    held: [(&'static str, &'static str); 4],
}

const NO_TOKENS: &str = "– (it makes no tokens for others)";
const OPAQUE: &str = "– (its tokens say nothing to others)";
const ONE_AUDIENCE: &str = "– (its ID tokens are for Claviger alone)";

const OIDC: &str = "crates/connectors/tests/oidc";
const OAUTH2: &str = "crates/connectors/tests/oauth2";
const VENDORS: &str = "crates/connectors/tests/openid_vendors";
const LDAP: &str = "crates/connectors/tests/ldap";
const DOMAIN: &str = "crates/connectors/tests/active_directory";
const SAML: &str = "crates/connectors/tests/saml";
const KEYSTONE: &str = "crates/connectors/tests/keystone";
const CROWD: &str = "crates/connectors/tests/atlassian_crowd";
const STORIES: &str = "e2e/tests";

const ROWS: [Row; 17] = [
    Row {
        name: "local",
        groups: "of the LocalUser",
        refresh: "asked each time, in memory",
        exchange: NO_TOKENS,
        logout: "– (there is nowhere else to sign out)",
        ready: "– (nothing can be out of reach)",
        peers: "none is needed",
        held: [
            (
                STORIES,
                "a_hundred_logins_are_a_hundred_creates_and_a_hundred_refreshes_a_hundred_patches",
            ),
            (STORIES, "a_disabled_user_is_signed_out_at_the_next_refresh"),
            (STORIES, "a_changed_client_is_live_within_a_second"),
            (STORIES, "a_disabled_user_is_signed_out_at_the_next_refresh"),
        ],
    },
    Row {
        name: "ldap",
        groups: "by search or from an attribute, nested as deep as said",
        refresh: "the directory is asked for the user and their groups",
        exchange: NO_TOKENS,
        logout: "– (LDAP has none)",
        ready: "a bind of the service account, and a read of each base",
        peers: "slapd",
        held: [
            (LDAP, "user_signs_in_by_any_of_the_attributes"),
            (
                LDAP,
                "wrong_password_and_unknown_user_are_the_users_fault_and_look_alike_to_the_directory",
            ),
            (STORIES, "removing_a_group_member_in_slapd_ends_the_session_at_the_next_refresh"),
            (LDAP, "removed_user_is_gone_while_others_remain"),
        ],
    },
    Row {
        name: "activeDirectory",
        groups: "all security groups of the domain, nested ones too; or by matching rule, or direct",
        refresh: "a domain controller is asked for the account's state, password age and groups",
        exchange: NO_TOKENS,
        logout: "– (LDAP has none)",
        ready: "a bind of the service account, the root entry, a read of each base",
        peers: "a domain controller (Samba)",
        held: [
            (DOMAIN, "one_user_signs_in_by_each_name_that_is_taken"),
            (DOMAIN, "wrong_password_is_told_from_other_refusals_by_the_domains_own_code"),
            (DOMAIN, "removed_member_has_one_group_less_at_the_next_refresh"),
            (DOMAIN, "disabled_account_neither_signs_in_nor_refreshes"),
        ],
    },
    Row {
        name: "saml",
        groups: "an attribute",
        refresh: "– (nobody can be asked); `offlineSessionSeconds`",
        exchange: "– (an assertion is good once, for Claviger alone)",
        logout: "there too, and there here (single logout by HTTP-Redirect), where `signing` names a key and the provider offers it",
        ready: "the metadata behind `metadataURL`",
        peers: "Keycloak 26 and pysaml2 7; answers that the test signs, honest and hostile",
        held: [
            (SAML, "a_signed_assertion_signs_its_user_in"),
            (SAML, "every_hostile_answer_is_refused_by_name"),
            (SAML, "an_offline_period_is_the_administrator_s_word"),
            (SAML, "an_offline_period_is_the_administrator_s_word"),
        ],
    },
    Row {
        name: "oidc",
        groups: "a claim of the ID token or of userinfo",
        refresh: "the provider is asked; refresh tokens that rotate, or last",
        exchange: "ID tokens of listed applications (`tokenExchange`)",
        logout: "there too (`signOut: Provider`), and its own word that a user has signed out (back-channel)",
        ready: "the configuration and keys",
        peers: "Keycloak 26, panva's oidc-provider 9; a provider that lies where it is told",
        held: [
            (OIDC, "a_user_comes_back_as_the_provider_says"),
            (OIDC, "a_refusal_there_is_told_and_a_fault_is_not_the_users"),
            (
                STORIES,
                "a_group_of_keycloak_is_seen_at_the_next_refresh_and_who_is_disabled_there_is_out_here",
            ),
            (STORIES, "who_is_gone_there_is_gone_here_and_policy_holds_at_each_refresh"),
        ],
    },
    Row {
        name: "google",
        groups: "of a Workspace, by a service account; nested ones too",
        refresh: "Google is asked; one refresh token for good",
        exchange: ONE_AUDIENCE,
        logout: "– (Google has none)",
        ready: "the configuration and keys, and the service account's token",
        peers: "a stand-in for its documented addresses, behind an HTTP proxy",
        held: [
            (VENDORS, "an_account_signs_in_and_is_asked_about_again_with_the_same_refresh_token"),
            (VENDORS, "the_workspace_is_what_google_says_and_not_what_the_address_looks_like"),
            (VENDORS, "nested_groups_are_followed_once_each_though_they_are_in_each_other"),
            (STORIES, "a_user_of_google_is_of_the_workspace_that_google_says_at_each_refresh"),
        ],
    },
    Row {
        name: "microsoft",
        groups: "from Graph, nested ones too",
        refresh: "Microsoft and Graph are asked",
        exchange: ONE_AUDIENCE,
        logout: "– (it would end the sign-in of every application there)",
        ready: "the configuration and keys",
        peers: "a stand-in for its documented addresses, behind an HTTP proxy",
        held: [
            (VENDORS, "an_account_of_the_tenant_signs_in_by_its_object_id"),
            (VENDORS, "one_tenant_is_that_tenant_whatever_the_token_says_of_itself"),
            (
                STORIES,
                "a_user_of_microsoft_has_the_groups_of_graph_and_is_out_without_the_one_that_is_wanted",
            ),
            (VENDORS, "a_disabled_account_is_gone_and_another_users_answer_is_none"),
        ],
    },
    Row {
        name: "linkedin",
        groups: "– (LinkedIn has none)",
        refresh: "LinkedIn is asked where it gives refresh tokens: to chosen partners alone",
        exchange: ONE_AUDIENCE,
        logout: "– (LinkedIn has none)",
        ready: "the configuration and keys",
        peers: "a stand-in for its documented addresses, behind an HTTP proxy",
        held: [
            (VENDORS, "a_member_signs_in_without_what_linkedin_leaves_out"),
            (VENDORS, "what_linkedin_does_say_is_judged_as_of_anybody"),
            (STORIES, "a_member_of_linkedin_signs_in_and_has_no_refresh_token"),
            (VENDORS, "one_without_a_refresh_token_cannot_be_asked_about"),
        ],
    },
    Row {
        name: "github",
        groups: "organizations and teams",
        refresh: "GitHub is asked; rotating refresh tokens where the application's tokens expire",
        exchange: OPAQUE,
        logout: "– (GitHub has none)",
        ready: "the token endpoint, which must know the application by its secret",
        peers: "a fake of its documented API",
        held: [
            (OAUTH2, "a_user_comes_back_as_github_says"),
            (OAUTH2, "an_organization_hidden_until_a_saml_sign_in_is_said_in_words"),
            (OAUTH2, "who_left_the_organization_or_the_team_is_out_at_the_next_refresh"),
            (STORIES, "a_token_revoked_at_github_ends_the_session_at_the_next_refresh"),
        ],
    },
    Row {
        name: "gitlab",
        groups: "paths, inherited too; roles",
        refresh: "GitLab is asked; refresh tokens, good once",
        exchange: OPAQUE,
        logout: "– (GitLab has none for OAuth applications)",
        ready: "the token endpoint, which must know the application by its secret",
        peers: "a fake of its documented API",
        held: [
            (OAUTH2, "a_user_comes_back_as_gitlab_says"),
            (OAUTH2, "a_refusal_there_is_told_and_a_fault_is_not_the_users"),
            (STORIES, "a_user_of_gitlab_has_its_groups_by_their_paths_and_is_out_when_blocked"),
            (OAUTH2, "a_blocked_account_is_out_and_a_fault_is_not"),
        ],
    },
    Row {
        name: "gitea",
        groups: "organizations and teams",
        refresh: "Gitea or Forgejo is asked; refresh tokens",
        exchange: OPAQUE,
        logout: "– (it has none)",
        ready: "the token endpoint, which must know the application by its secret",
        peers: "Gitea 1.26; a fake of its documented API, whose errors are those of its source",
        held: [
            (OAUTH2, "a_user_comes_back_as_gitea_says"),
            (OAUTH2, "a_grant_that_is_no_good_is_told_from_a_secret_that_is_none"),
            (STORIES, "a_user_of_a_real_gitea_has_its_teams_and_is_out_without_one_that_is_wanted"),
            (
                STORIES,
                "each_verdict_of_gitea_ends_the_session_and_a_secret_it_does_not_know_does_not",
            ),
        ],
    },
    Row {
        name: "bitbucketCloud",
        groups: "workspaces; administrators",
        refresh: "Bitbucket is asked; refresh tokens",
        exchange: OPAQUE,
        logout: "– (it has none)",
        ready: "the token endpoint, which must know the consumer by its secret",
        peers: "a fake of its documented API",
        held: [
            (OAUTH2, "a_user_comes_back_as_bitbucket_says"),
            (OAUTH2, "workspaces_are_read_page_by_page_within_the_api"),
            (
                STORIES,
                "a_user_of_bitbucket_has_its_workspaces_and_is_out_when_the_consumer_is_withdrawn",
            ),
            (OAUTH2, "who_is_closed_or_has_withdrawn_the_consumer_is_out_and_groups_follow"),
        ],
    },
    Row {
        name: "oauth2",
        groups: "a member of the vendor's answer",
        refresh: "the vendor is asked; refresh tokens, or tokens that last",
        exchange: OPAQUE,
        logout: "– (OAuth 2.0 has none)",
        ready: "the token endpoint, which must know the application by its secret",
        peers: "a fake",
        held: [
            (OAUTH2, "a_user_is_who_the_members_named_by_the_connector_say"),
            (OAUTH2, "somebody_without_an_identifier_is_nobody"),
            (
                STORIES,
                "a_user_of_any_vendor_has_the_groups_a_member_lists_and_is_out_when_its_grant_is",
            ),
            (OAUTH2, "only_a_verdict_about_the_user_is_one"),
        ],
    },
    Row {
        name: "openshift",
        groups: "of the cluster; none that begin with `system:`",
        refresh: "the API server is asked by the token of the sign-in, until that ends (24 h)",
        exchange: OPAQUE,
        logout: "– (it has none)",
        ready: "the OAuth server's metadata; the token endpoint, which must know the client by its secret",
        peers: "a fake of its documented API",
        held: [
            (OAUTH2, "a_user_comes_back_by_their_uid_with_real_groups_alone"),
            (OAUTH2, "who_is_none_of_its_users_is_refused"),
            (OAUTH2, "groups_follow"),
            (
                STORIES,
                "a_user_of_openshift_has_the_clusters_groups_and_is_out_when_they_are_deleted",
            ),
        ],
    },
    Row {
        name: "atlassianCrowd",
        groups: "nested ones too, or direct",
        refresh: "Crowd is asked for the user and the groups",
        exchange: NO_TOKENS,
        logout: "– (Claviger opens no session there)",
        ready: "a search, which must know the application by its password",
        peers: "a fake of its documented API",
        held: [
            (CROWD, "a_user_is_the_key_of_their_directory_with_nested_groups"),
            (CROWD, "whoever_is_refused_is_refused_alike_and_the_log_knows_why"),
            (CROWD, "who_is_inactive_or_gone_is_out_at_the_next_refresh_and_groups_follow"),
            (STORIES, "each_verdict_of_crowd_ends_the_session_and_trouble_there_does_not"),
        ],
    },
    Row {
        name: "keystone",
        groups: "of the users' domain, by a service account",
        refresh: "Keystone is asked for the user, the domain and the groups",
        exchange: NO_TOKENS,
        logout: "– (it has none)",
        ready: "a new token of the service account, and the domain read by it",
        peers: "Keystone 28, with a front that lies",
        held: [
            (KEYSTONE, "a_user_is_their_id_with_the_groups_of_their_own_domain"),
            (KEYSTONE, "whoever_is_refused_is_refused_alike_and_the_log_knows_why"),
            (KEYSTONE, "groups_follow_and_each_question_is_counted"),
            (KEYSTONE, "who_is_disabled_or_deleted_or_of_a_disabled_domain_is_gone"),
        ],
    },
    Row {
        name: "authProxy",
        groups: "a header; those in `allowedGroups` alone",
        refresh: "– (the proxy cannot be asked); `offlineSessionSeconds`",
        exchange: NO_TOKENS,
        logout: "the proxy's own address (`signOut`)",
        ready: "– (the proxy comes to Claviger)",
        peers: "a reverse proxy",
        held: [
            (STORIES, "a_browser_signs_in_through_a_real_reverse_proxy_and_cannot_name_itself"),
            (STORIES, "headers_that_a_user_could_have_sent_are_refused"),
            (
                STORIES,
                "without_offline_sessions_there_is_no_refresh_token_and_ending_them_ends_those_there_are",
            ),
            (
                STORIES,
                "without_offline_sessions_there_is_no_refresh_token_and_ending_them_ends_those_there_are",
            ),
        ],
    },
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A connector of this kind with all that it can do.
fn built(name: &str) -> Upstream {
    let authority = CertificateAuthority::create("upstream").unwrap();
    let mut spec = json!({"displayName": "Corp", "allowedGroups": ["ops"]});
    spec["upstream"] = json!({name: match name {
        "local" => json!({}),
        "authProxy" => json!({
            "clientCASecretRef": {"name": "corp", "key": "secret"},
            "allowedClientNames": ["proxy.example.com"],
            "headers": {"user": "X-Remote-User", "userID": "X-Remote-User-Id", "groups": "X-Remote-Group"},
            "signOut": {"url": "https://sso.example.com/logout"},
        }),
        _ => {
            let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
            let mut upstream = (kind.upstream)("ldaps://ldap.example.com");
            if name == "oidc" {
                upstream["signOut"] = json!("Provider");
                upstream["tokenExchange"] = json!({"audiences": [{"name": "cli", "clients": ["portal"]}]});
            }
            if name == "saml" {
                let at = json!({"name": "corp", "key": "tls.key"});
                upstream["signing"] = json!({"keySecretRef": at});
            }
            upstream
        }
    }});
    let spec: ConnectorSpec = serde_json::from_value(spec).unwrap();
    let mut resolved = Resolved::default();
    let signing_key = pki::rsa("claviger").unwrap().key_pem;
    for reference in secret_refs(&spec) {
        let value = match (name, reference.key.as_str()) {
            ("authProxy", _) => authority.certificate_pem(),
            ("saml", "tls.key") => &signing_key,
            _ => "secret",
        };
        resolved.insert(&reference.name, &reference.key, value.as_bytes().to_vec());
    }
    build("corp", &spec, &resolved).unwrap()
}

fn login(upstream: &Upstream) -> &'static str {
    match &upstream.login {
        Login::Password(_) => "name and password, here",
        Login::Proxy(_) => "a proxy that has authenticated the user",
        Login::Redirect(pages) => match pages.form_field() {
            Some(_) => "its pages; its answer by a form, good once",
            None => "its pages",
        },
    }
}

/// The cell, once the code agrees with it.
fn cell(kind: &str, what: &str, can: bool, words: &'static str) -> &'static str {
    assert_eq!(!words.starts_with('–'), can, "{kind}: {what} is not as the table has it");
    assert!(can || words.starts_with("– ("), "{kind}: {what} lacks its reason");
    words
}

fn capabilities(table: &mut String, row: &Row) {
    let upstream = built(row.name);
    let refresh = matches!(&upstream.refresh, Refresh::Memory(_) | Refresh::Upstream { .. });
    let exchange = match &upstream.login {
        Login::Redirect(pages) => pages.tokens().is_some(),
        Login::Password(_) | Login::Proxy(_) => false,
    };
    let cells = [
        login(&upstream),
        row.groups,
        cell(row.name, "refresh", refresh, row.refresh),
        cell(row.name, "exchange", exchange, row.exchange),
        cell(row.name, "logout", upstream.sign_out.is_some(), row.logout),
        cell(row.name, "live status", upstream.probe.is_some(), row.ready),
        row.peers,
    ];
    writeln!(table, "| `{}` | {} |", row.name, cells.join(" | ")).unwrap();
}

/// Where a test of this name stands below a folder.
fn place(folder: &str, test: &str) -> String {
    let function = format!("fn {test}(");
    let files = fs::read_dir(repository().join(folder)).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let file = files
        .iter()
        .filter(|file| file.is_file())
        .find(|file| fs::read_to_string(file).unwrap().contains(&function));
    let file = file.unwrap_or_else(|| panic!("{folder} has no test {test}"));
    format!(
        "[{}](../{folder}/{})",
        test.replace('_', " "),
        file.file_name().unwrap().to_str().unwrap()
    )
}

fn tables() -> String {
    let mut table = String::from(
        "| connector | login | groups | refresh | exchange | logout | `Ready` comes from | tested against |\n|---|---|---|---|---|---|---|---|\n",
    );
    for row in &ROWS {
        capabilities(&mut table, row);
    }
    table.push_str("\nBy which test that is held, beside those that all share:\n\n| connector | success | refusal | groups change | account gone |\n|---|---|---|---|---|\n");
    for row in &ROWS {
        let held = row.held.map(|(folder, test)| place(folder, test));
        writeln!(table, "| `{}` | {} |", row.name, held.join(" | ")).unwrap();
    }
    table
}

const BEGIN: &str = "<!-- tables: made by crates/connectors/tests/conformance/table.rs -->\n\n";
const END: &str = "\n<!-- end of tables -->";

#[test]
fn tables_of_the_documentation_are_as_the_code_is() {
    let page = repository().join("docs/connectors.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (said, after) = rest.split_once(END).unwrap();
    let made = tables();
    if std::env::var_os("CLAVIGER_WRITE_TABLES").is_some() {
        fs::write(&page, format!("{before}{BEGIN}{made}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(said, made, "make them anew: {}", file!());
}

#[test]
fn every_kind_has_its_row() {
    let mut named: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
    named.retain(|name| !["local", "authProxy"].contains(name));
    let mut known: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    named.sort_unstable();
    known.sort_unstable();
    assert_eq!(named, known);
}
