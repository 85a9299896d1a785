//! Signing out by messages that the browser carries to and from an upstream whose users have no session here.

use std::sync::Arc;

use axum::http::StatusCode;
use claviger_domain::connector::{Login, Refresh};
use claviger_domain::fakes::{Fault, PostingUpstream, alice};
use claviger_domain::identity::Identity;

use crate::form_answer::Away;
use crate::rig::{Answer, Browser, Rig, encode, set_login};

const AFTER: &str = "https://app.example.org/bye";

fn rig() -> Rig {
    rig_of().0
}

fn rig_of() -> (Rig, Arc<PostingUpstream>) {
    let upstream = Arc::new(PostingUpstream::of(alice()));
    let rig = Rig::with(|world| {
        set_login(world, Login::Redirect(Arc::clone(&upstream) as _));
        for connector in &mut world.issuer.connectors {
            let there = Arc::make_mut(connector);
            there.refresh = Refresh::Unsupported;
            there.sign_out = Some(Arc::clone(&upstream) as _);
        }
        world.change_client("kubernetes", |client| {
            client.post_logout_redirect_uris.insert(AFTER.to_owned());
        });
    });
    (rig, upstream)
}

/// Signs in there and returns the address that signs out again.
async fn signed_in(rig: &Rig, browser: &mut Browser<'_>, name: &str) -> String {
    let away = Away::with(browser).await;
    let code = away.answered(rig, browser, name).await.redirect_param("code").unwrap();
    let tokens = rig.redeem(&code).await.json();
    let hint = tokens["id_token"].as_str().unwrap();
    let params = [("id_token_hint", hint), ("post_logout_redirect_uri", AFTER), ("state", "a&b")];
    format!("/logout?{}", encode(&params))
}

fn has_ticket(browser: &Browser<'_>) -> bool {
    browser.jar.keys().any(|name| name.contains("claviger-upstream-"))
}

/// Where a page sends its user to sign out.
fn way_there(page: &Answer) -> String {
    let links = page.links();
    let link = links.iter().find(|link| link.starts_with("https://idp.example.com/slo?who=alice"));
    link.unwrap_or_else(|| panic!("{page:?}")).clone()
}

/// What the upstream says to the request in this address.
fn answer_to(location: &str) -> String {
    format!("done=yes&to={}", location.rsplit_once("id=").unwrap().1)
}

async fn heard(rig: &Rig, browser: &mut Browser<'_>, query: &str) -> Answer {
    browser.get(&format!("{}/callback/local/logout?{query}", rig.path)).await
}

#[tokio::test]
async fn an_id_token_of_the_user_who_signed_in_there_in_this_browser_signs_them_out_there() {
    let rig = rig();
    let mut browser = rig.browser();
    let target = signed_in(&rig, &mut browser, "one").await;
    rig.store_requests();
    let left = browser.get(&target).await;
    assert!(
        left.location().starts_with("https://idp.example.com/slo?who=alice+there&id="),
        "{left:?}"
    );
    let [cookie] = &left.cookies()[..] else { panic!("{left:?}") };
    for attribute in ["SameSite=Lax", "; Secure", "; HttpOnly", "; Path=/"] {
        assert!(cookie.contains(attribute) && !cookie.contains("Max-Age"), "{cookie}");
    }
    let back = heard(&rig, &mut browser, &answer_to(&left.location())).await;
    let again = back.location();
    assert!(again.starts_with(&format!("{}/logout?client_id=", rig.path)), "{back:?}");
    assert!(!again.contains("id_token_hint"), "{again}");
    assert!(!has_ticket(&browser));
    let onward = browser.get(again.strip_prefix(&rig.path).unwrap()).await;
    assert_eq!(onward.location(), "https://app.example.org/bye?state=a%26b");
    assert_eq!(rig.store_requests(), Vec::<&str>::new(), "nothing of it is stored");
}

#[tokio::test]
async fn without_a_hint_they_are_asked_and_in_another_browser_nobody_is_sent_there() {
    let rig = rig();
    let mut browser = rig.browser();
    let target = signed_in(&rig, &mut browser, "one").await;
    let page = browser.get("/logout").await;
    assert_eq!(page.status, StatusCode::OK, "sent there unasked: {page:?}");
    let link = way_there(&page);
    assert!(has_ticket(&browser), "whoever does not sign out is asked again");
    let mut elsewhere = rig.browser();
    let answer = elsewhere.get(&target).await;
    assert_eq!(answer.location(), "https://app.example.org/bye?state=a%26b", "others have seen it");
    let back = heard(&rig, &mut browser, &answer_to(&link)).await;
    assert_eq!(back.location(), format!("{}/logout", rig.path));
    assert!(!has_ticket(&browser));
    let stranger = heard(&rig, &mut elsewhere, "done=yes&RelayState=https://evil.example/").await;
    assert_eq!(stranger.location(), format!("{}/logout", rig.path), "nobody is sent away");
}

#[tokio::test]
async fn an_answer_that_says_no_is_said_and_what_is_not_believed_ends_nothing() {
    let rig = rig();
    let mut browser = rig.browser();
    signed_in(&rig, &mut browser, "one").await;
    rig.store_requests();
    let still = heard(&rig, &mut browser, "done=no").await;
    assert_eq!(still.status, StatusCode::BAD_GATEWAY);
    assert!(still.body.contains("may still be signed in"), "{}", still.body);
    for forged in ["", "forged", "out=", "a=1&a=2"] {
        let refused = heard(&rig, &mut browser, forged).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{forged}");
        assert_eq!(refused.header("cache-control"), "no-store");
        assert!(refused.body.contains("could not be verified"), "{}", refused.body);
    }
    assert!(has_ticket(&browser));
    let nobody = rig.get("/callback/nobody/logout?done=yes").await;
    assert_eq!(nobody.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(rig.store_requests(), Vec::<&str>::new());
}

#[tokio::test]
async fn a_sign_out_there_ends_what_it_names_and_is_answered_as_it_went() {
    let rig = rig();
    let mut browser = rig.browser();
    signed_in(&rig, &mut browser, "one").await;
    signed_in(&rig, &mut browser, "two").await;
    rig.store_requests();
    let user = alice().user_id;
    let other = heard(&rig, &mut browser, &format!("out={user}+elsewhere")).await;
    assert_eq!(other.location(), "https://idp.example.com/slo?to=request-1&done=true");
    assert_eq!(rig.store_requests(), ["list"], "of another session there");
    let place = format!("out={user}+elsewhere+there");
    rig.world.sessions.fail_next_write(Fault::Refused);
    let half = heard(&rig, &mut browser, &place).await;
    assert_eq!(half.location(), "https://idp.example.com/slo?to=request-1&done=false");
    assert_eq!(rig.store_requests(), ["list", "revoke", "revoke"]);
    let done = heard(&rig, &mut browser, &place).await;
    assert_eq!(done.location(), "https://idp.example.com/slo?to=request-1&done=true");
    assert_eq!(rig.store_requests(), ["list", "revoke"]);
    assert!(!has_ticket(&browser), "it has signed out there");
}

#[tokio::test]
async fn the_answer_to_anothers_request_leads_nobody_on_and_leaves_the_ticket() {
    let rig = rig();
    let (mut browser, mut mallorys) = (rig.browser(), rig.browser());
    let target = signed_in(&rig, &mut browser, "one").await;
    let of_mallory = signed_in(&rig, &mut mallorys, "two").await;
    let theirs = answer_to(&mallorys.get(&of_mallory).await.location());
    browser.get(&target).await;
    for captured in [theirs.as_str(), "done=yes", "done=yes&to="] {
        let back = heard(&rig, &mut browser, captured).await;
        assert_eq!(back.location(), format!("{}/logout", rig.path), "{captured}");
        assert!(has_ticket(&browser), "{captured}");
    }
    way_there(&browser.get("/logout").await);
}

#[tokio::test]
async fn anothers_sign_out_there_and_one_that_ends_nothing_leave_the_ticket_and_are_answered() {
    let rig = rig();
    let mut browser = rig.browser();
    signed_in(&rig, &mut browser, "one").await;
    rig.store_requests();
    let another = heard(&rig, &mut browser, "out=mallory").await;
    assert_eq!(another.location(), "https://idp.example.com/slo?to=request-1&done=true");
    assert_eq!(rig.store_requests(), ["list"]);
    rig.world.audit.take();
    let nobody = heard(&rig, &mut browser, "out=nobody").await;
    assert_eq!(nobody.location(), "https://idp.example.com/slo?to=request-1&done=false");
    assert_eq!(rig.store_requests(), Vec::<&str>::new());
    let audit = rig.world.audit.take();
    assert!(matches!(&audit[..], [one] if one.contains("LogoutRefused")), "{audit:?}");
    assert!(has_ticket(&browser));
}

#[tokio::test]
async fn an_id_token_of_an_earlier_sign_in_or_of_another_user_signs_nobody_out_unasked() {
    let (rig, upstream) = rig_of();
    let mut browser = rig.browser();
    let earlier = signed_in(&rig, &mut browser, "one").await;
    rig.world.clock.advance(61);
    let later = signed_in(&rig, &mut browser, "two").await;
    assert_eq!(browser.get(&earlier).await.status, StatusCode::OK, "others may have seen it");
    assert_eq!(browser.get(&later).await.status, StatusCode::SEE_OTHER);
    upstream.set_user(Identity { user_id: "mallory".into(), ..alice() });
    let of_mallory = signed_in(&rig, &mut rig.browser(), "three").await;
    assert_eq!(browser.get(&of_mallory).await.status, StatusCode::OK, "of another user");
}
