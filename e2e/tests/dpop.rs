//! Tokens bound to a key (`DPoP`, RFC 9449): whoever steals one alone has nothing, and finding that out costs no
//! request.

use anyhow::{Context, Result, ensure};
use claviger_jose::{Algorithm, PrivateKey, Signer};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{LOCAL_USER, REDIRECT_URI, SCOPE};
use claviger_testkit::{AuditMark, ControlPlane, Directory, RelyingParty, Scene};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};

/// A client's key, and how many proofs it made.
struct Holder {
    jwk: Value,
    signer: Signer,
    proofs: std::cell::Cell<u32>,
}

/// An answer with the nonce that came with it.
struct Answer {
    status: StatusCode,
    nonce: Option<String>,
    challenge: String,
    body: Value,
}

impl Holder {
    fn new(algorithm: Algorithm) -> Result<Self> {
        let key = PrivateKey::generate(algorithm, 2_048)?;
        let (jwk, signer) = (key.public_jwk(), Signer::new(&key)?);
        Ok(Self { jwk, signer, proofs: std::cell::Cell::new(0) })
    }

    fn prove(&self, method: &Method, url: &Url, more: &Value) -> Result<String> {
        self.proofs.set(self.proofs.get() + 1);
        #[expect(clippy::disallowed_methods, reason = "a client has the wall clock")]
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let mut claims = json!({
            "htm": method.as_str(), "htu": url.as_str(), "iat": now.as_secs(),
            "jti": format!("{}-{}", self.signer.kid(), self.proofs.get()),
        });
        for (name, value) in more.as_object().context("an object")? {
            claims[name] = value.clone();
        }
        Ok(self.signer.sign_showing(&self.jwk, "dpop+jwt", &claims)?)
    }

    /// A form at the token endpoint, with a proof that has this nonce.
    async fn token(
        &self,
        party: &RelyingParty,
        form: &[(&str, &str)],
        nonce: Option<&str>,
    ) -> Result<Answer> {
        let url = party.endpoint("token_endpoint")?;
        let more = nonce.map_or_else(|| json!({}), |nonce| json!({ "nonce": nonce }));
        let proof = self.prove(&Method::POST, &url, &more)?;
        let form = [form, &[("client_id", party.client_id())]].concat();
        answer(party.http().post(url).header("DPoP", proof).form(&form)).await
    }

    async fn userinfo(&self, party: &RelyingParty, token: &str, scheme: &str) -> Result<Answer> {
        let url = party.endpoint("userinfo_endpoint")?;
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        let ath = data_encoding::BASE64URL_NOPAD.encode(hash.as_ref());
        let proof = self.prove(&Method::GET, &url, &json!({ "ath": ath }))?;
        let request = party.http().get(url).header("DPoP", proof);
        answer(request.header("authorization", format!("{scheme} {token}"))).await
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer> {
    let response = request.send().await?;
    let header = |name: &str| {
        response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let (nonce, challenge) = (header("dpop-nonce"), header("www-authenticate"));
    let status = response.status();
    let body = serde_json::from_str(&response.text().await?).unwrap_or_default();
    Ok(Answer { status, nonce, challenge: challenge.unwrap_or_default(), body })
}

fn requests(scene: &Scene, mark: AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

/// A public client that must prove possession.
async fn command_line(scene: &Scene) -> Result<RelyingParty> {
    let object = json!({
        "apiVersion": "claviger.dev/v1alpha1", "kind": "OAuth2Client",
        "metadata": {"name": "cli"},
        "spec": {
            "issuerRef": {"name": "main"}, "type": "Public", "consent": "Skip",
            "redirectURIs": [REDIRECT_URI], "dpop": "Required",
        },
    });
    scene.installation().apply(&object.to_string())?;
    scene.installation().wait_for("oauth2client/cli", "Ready").await?;
    let pem = scene.installation().authority().certificate_pem();
    RelyingParty::discover(&scene.issuer(), pem, ("cli", None), REDIRECT_URI).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_bound_to_the_key_that_was_proven_and_worth_nothing_without_it() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let party = command_line(&scene).await?;
    ensure!(party.metadata()["dpop_signing_alg_values_supported"].is_array());
    let (holder, thief) = (Holder::new(Algorithm::ES256)?, Holder::new(Algorithm::RS256)?);

    let mark = plane.audit_log().mark()?;
    let (code, attempt) = party.code(SCOPE, LOCAL_USER).await?;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", &attempt.verifier),
    ];
    let without = party.token(&form).await?;
    assert_eq!(without.error(), "invalid_dpop_proof", "{}", without.body);
    let first = holder.token(&party, &form, None).await?;
    assert_eq!(first.body["error"], "use_dpop_nonce");
    let nonce = first.nonce.context("no DPoP-Nonce")?;
    let tokens = holder.token(&party, &form, Some(&nonce)).await?;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.body);
    assert_eq!(tokens.body["token_type"], "DPoP");
    assert_eq!(requests(&scene, mark)?, "create sessions × 1");
    let text = |body: &Value, name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let access_token = text(&tokens.body, "access_token");
    assert_eq!(claims(&access_token)?["cnf"]["jkt"], holder.signer.kid());

    // Stolen.
    let mark = plane.audit_log().mark()?;
    let refresh_token = text(&tokens.body, "refresh_token");
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token.as_str())];
    let refused = thief.token(&party, &form, Some(&nonce)).await?;
    assert_eq!(refused.body["error"], "invalid_grant", "{}", refused.body);
    println!("{}", refused.body["error_description"]);
    for (who, scheme) in [(&thief, "DPoP"), (&thief, "Bearer"), (&holder, "Bearer")] {
        let refused = who.userinfo(&party, &access_token, scheme).await?;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{scheme}");
        println!("{}", refused.challenge);
    }
    let good = holder.userinfo(&party, &access_token, "DPoP").await?;
    assert_eq!(good.status, StatusCode::OK, "{}", good.challenge);
    assert_eq!(good.body["email"], "admin@local.example.com");
    assert_eq!(requests(&scene, mark)?, "");

    let refreshed = holder.token(&party, &form, Some(&nonce)).await?;
    assert_eq!(refreshed.body["token_type"], "DPoP", "{}", refreshed.body);
    assert_eq!(requests(&scene, mark)?, "patch sessions × 1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_code_is_worth_nothing_where_the_request_named_the_key() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let party = command_line(&scene).await?;
    let (holder, thief) = (Holder::new(Algorithm::ES256)?, Holder::new(Algorithm::ES256)?);
    let mut attempt = party.attempt(SCOPE)?;
    attempt.url.query_pairs_mut().append_pair("dpop_jkt", holder.signer.kid());
    let landed = party.browser()?.sign_in(&attempt.url, LOCAL_USER).await?;
    let code = claviger_testkit::browser::query_value(&landed, "code")?;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", &attempt.verifier),
    ];
    let nonce = thief.token(&party, &form, None).await?.nonce.context("no DPoP-Nonce")?;
    let mark = plane.audit_log().mark()?;
    let refused = thief.token(&party, &form, Some(&nonce)).await?;
    assert_eq!(refused.body["error"], "invalid_grant", "{}", refused.body);
    println!("{}", refused.body["error_description"]);
    assert_eq!(requests(&scene, mark)?, "", "the code was spent");
    let tokens = holder.token(&party, &form, Some(&nonce)).await?;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.body);
    assert_eq!(requests(&scene, mark)?, "create sessions × 1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_about_it_works_as_it_is_written() -> Result<()> {
    let page = claviger_testkit::installation::repository().join("docs/dpop.md");
    let page = std::fs::read_to_string(page)?;
    let (_, block) = page.split_once("```sh dpop\n").context("no block dpop")?;
    let (block, _) = block.split_once("\n```").context("a block without end")?;
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let party = command_line(&scene).await?;
    let (code, attempt) = party.code(SCOPE, LOCAL_USER).await?;
    let here = scene.installation();
    let output = std::process::Command::new("bash")
        .current_dir(here.folder())
        .args(["-euo", "pipefail", "-c", block])
        .env("ISSUER", scene.issuer())
        .env("CURL_CA_BUNDLE", here.authority_file()?)
        .envs([("CODE", code), ("VERIFIER", attempt.verifier)])
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let tokens: Value = serde_json::from_str(&said).with_context(|| said.to_string())?;
    assert_eq!(tokens["token_type"], "DPoP", "{tokens}");
    Ok(())
}
