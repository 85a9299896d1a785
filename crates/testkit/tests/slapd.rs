//! The directory server itself is what the tests above it think it is.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::path::Path;
use std::process::{Command, Output};

use claviger_testkit::Slapd;
use claviger_testkit::slapd::{ADMIN_DN, ADMIN_PASSWORD, BASE_DN};

const PEOPLE: &str = "dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: uid=jane,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: jane
cn: Jane Doe
sn: Doe
mail: jane@example.org
userPassword: jane-password

dn: cn=developers,dc=example,dc=org
objectClass: groupOfNames
cn: developers
member: uid=jane,ou=people,dc=example,dc=org
";

const JANE: &str = "uid=jane,ou=people,dc=example,dc=org";

fn search(slapd: &Slapd, url: &str, more: &[&str]) -> Output {
    search_trusting(&slapd.ca_file(), url, more)
}

fn search_trusting(authority: &Path, url: &str, more: &[&str]) -> Output {
    Command::new("ldapsearch")
        .env("LDAPTLS_CACERT", authority)
        .args(["-x", "-LLL", "-H", url, "-b", BASE_DN])
        .args(more)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn a_user_is_found_with_groups_over_ldaps_and_over_start_tls() {
    let slapd = Slapd::start().await.unwrap();
    slapd.add(PEOPLE).unwrap();
    let as_admin = ["-D", ADMIN_DN, "-w", ADMIN_PASSWORD, "(uid=jane)", "mail", "memberOf"];
    let (plain, tls) = (slapd.ldap_url(), slapd.ldaps_url());
    let start_tls: Vec<_> = ["-ZZ"].into_iter().chain(as_admin).collect();
    for (url, arguments) in [(&tls, &as_admin[..]), (&plain, &start_tls), (&plain, &as_admin)] {
        let found = text(&search(&slapd, url, arguments));
        assert!(found.contains("mail: jane@example.org"), "{url}: {found}");
        assert!(found.contains("memberOf: cn=developers,dc=example,dc=org"), "{url}: {found}");
    }
    // The user's own password opens the directory; a wrong one does not; without one nothing is seen.
    let jane = search(
        &slapd,
        &tls,
        &["-D", JANE, "-w", "jane-password", "(uid=jane)", "mail", "userPassword"],
    );
    assert!(text(&jane).contains("mail: jane@example.org"), "{}", text(&jane));
    assert!(!text(&jane).contains("userPassword"));
    let wrong = search(&slapd, &tls, &["-D", JANE, "-w", "guess"]);
    assert_eq!(wrong.status.code(), Some(49));
    assert!(!text(&search(&slapd, &tls, &[])).contains("jane"));
    assert!(slapd.log().unwrap().contains(&format!("BIND dn=\"{JANE}\" method=128")));
}

#[tokio::test]
async fn only_its_own_authority_vouches_for_it() {
    let (slapd, stranger) = (Slapd::start().await.unwrap(), Slapd::start().await.unwrap());
    let root = ["-s", "base", "-b", ""];
    let trusted = search(&slapd, &slapd.ldaps_url(), &root);
    assert!(trusted.status.success(), "{}", text(&trusted));
    let refused = search_trusting(&stranger.ca_file(), &slapd.ldaps_url(), &root);
    assert!(!refused.status.success(), "{}", text(&refused));
}

#[tokio::test]
async fn it_stops_and_starts_again_in_place_with_what_it_held() {
    let mut slapd = Slapd::start().await.unwrap();
    slapd.add(PEOPLE).unwrap();
    let ask = |slapd: &Slapd| {
        search(
            slapd,
            &slapd.ldap_url(),
            &["-D", ADMIN_DN, "-w", ADMIN_PASSWORD, "(uid=jane)", "memberOf"],
        )
    };
    slapd.stop();
    assert!(!ask(&slapd).status.success());
    slapd.start_again().await.unwrap();
    assert!(text(&ask(&slapd)).contains("memberOf: cn=developers"));
    slapd.modify(&format!("dn: {JANE}\nchangetype: delete\n")).unwrap();
    assert!(!text(&ask(&slapd)).contains("jane"));
    let refusal = slapd.modify(&format!("dn: {JANE}\nchangetype: delete\n")).unwrap_err();
    assert!(refusal.to_string().contains("No such object"), "{refusal}");
}
