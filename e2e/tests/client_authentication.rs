//! Clients without a shared secret: they sign with keys of their own, here or behind a URL, or they are
//! Kubernetes `ServiceAccounts`. Forged proofs are refused and cost the API server nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;
use claviger_jose::{Algorithm, KeySet, PrivateKey, Signer};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{LOCAL_USER, REDIRECT_URI};
use claviger_testkit::{
    AuditMark, ControlPlane, Directory, Installation, KeyServer, RelyingParty, Scene, Setup,
    eventually,
};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A client that signs with one key.
struct Robot {
    party: RelyingParty,
    signer: Signer,
    count: std::cell::Cell<u32>,
}

impl Robot {
    /// Makes the client with this authentication and waits until it is ready.
    async fn start(
        scene: &Scene,
        name: &str,
        authentication: Value,
        signer: Signer,
    ) -> Result<Self> {
        let object = json!({
            "apiVersion": "claviger.dev/v1alpha1", "kind": "OAuth2Client",
            "metadata": {"name": name},
            "spec": {
                "issuerRef": {"name": "main"}, "type": "Confidential", "consent": "Skip",
                "redirectURIs": [REDIRECT_URI], "authentication": authentication,
            },
        });
        scene.installation().apply(&object.to_string())?;
        scene.installation().wait_for(&format!("oauth2client/{name}"), "Ready").await?;
        let pem = scene.installation().authority().certificate_pem();
        let party =
            RelyingParty::discover(&scene.issuer(), pem, (name, None), REDIRECT_URI).await?;
        Ok(Self { party, signer, count: std::cell::Cell::new(0) })
    }

    /// Claims that are right, with a `jti` of their own.
    fn claims(&self) -> Result<Value> {
        self.count.set(self.count.get() + 1);
        let name = self.party.client_id();
        Ok(json!({
            "iss": name, "sub": name, "aud": self.party.metadata()["issuer"],
            "exp": now()? + 60, "jti": format!("{name}-{}", self.count.get()),
        }))
    }

    fn sign(&self, change: impl FnOnce(&mut Value)) -> Result<String> {
        let mut claims = self.claims()?;
        change(&mut claims);
        Ok(self.signer.sign(None, &claims)?)
    }

    /// Presents an assertion with a refresh token that is none: who is known gets `invalid_grant`.
    async fn present(&self, assertion: &str) -> Result<(String, String)> {
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", "none"),
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", assertion),
        ];
        let answer = self.party.token(&form).await?;
        let why = answer.body["error_description"].as_str().unwrap_or_default();
        Ok((answer.error().to_owned(), why.to_owned()))
    }

    /// A whole login, redeemed with an assertion.
    async fn log_in(&self, assertion: &str) -> Result<Value> {
        let (code, attempt) = self.party.code("openid email", LOCAL_USER).await?;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", REDIRECT_URI),
            ("code_verifier", &attempt.verifier),
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", assertion),
        ];
        self.party.token(&form).await?.tokens()
    }
}

fn now() -> Result<i64> {
    #[expect(clippy::disallowed_methods, reason = "a client has the wall clock")]
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(since.as_secs().try_into()?)
}

fn key(algorithm: Algorithm) -> Result<(PrivateKey, Signer)> {
    let key = PrivateKey::generate(algorithm, 2_048)?;
    let signer = Signer::new(&key)?;
    Ok((key, signer))
}

fn requests(scene: &Scene, mark: AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

fn known(answer: &(String, String)) -> bool {
    answer.0 == "invalid_grant"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_signs_needs_no_secret_and_forgeries_cost_no_request() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let (key, signer) = key(Algorithm::ES256)?;
    let mut jwk = key.public_jwk();
    jwk.as_object_mut().context("no JWK")?.retain(|name, _| name != "use");
    let inline = json!({"method": "private_key_jwt", "jwks": {"keys": [jwk]}});
    let robot = Robot::start(&scene, "robot", inline, signer).await?;

    let mark = plane.audit_log().mark()?;
    let tokens = robot.log_in(&robot.sign(|_| ())?).await?;
    assert_eq!(requests(&scene, mark)?, "create sessions × 1");
    let id_token = claims(tokens["id_token"].as_str().context("no ID token")?)?;
    assert_eq!(id_token["aud"], "robot");

    let mark = plane.audit_log().mark()?;
    let good = robot.sign(|_| ())?;
    ensure!(known(&robot.present(&good).await?), "a good assertion was refused");
    let refused = forgeries(&robot, &key, good)?;
    for (what, assertion) in &refused {
        let answer = robot.present(assertion).await?;
        println!("{what}: {}: {}", answer.0, answer.1);
        assert_eq!(answer.0, "invalid_client", "{what}: {}", answer.1);
    }
    let by_secret = robot.party.token(&[("grant_type", "refresh_token"), ("client_secret", "s")]);
    assert_eq!(by_secret.await?.body["error"], "invalid_request", "no refresh_token");
    let form = [("grant_type", "refresh_token"), ("refresh_token", "n"), ("client_secret", "s")];
    assert_eq!(robot.party.token(&form).await?.error(), "invalid_client");
    assert_eq!(requests(&scene, mark)?, "", "{} forgeries", refused.len());

    let supported = &robot.party.metadata()["token_endpoint_auth_methods_supported"];
    ensure!(supported.as_array().is_some_and(|all| all.contains(&json!("private_key_jwt"))));
    let algorithms = &robot.party.metadata()["token_endpoint_auth_signing_alg_values_supported"];
    ensure!(
        algorithms.as_array().is_some_and(|all| all.len() == 9 && !all.contains(&json!("none")))
    );
    Ok(())
}

/// What must be refused, with what it is.
fn forgeries(robot: &Robot, key: &PrivateKey, used: String) -> Result<Vec<(&'static str, String)>> {
    let now = now()?;
    let payload = |text: &str| text.split('.').nth(1).unwrap_or_default().to_owned();
    let unsigned = |alg: &str| -> Result<String> {
        let header = json!({"alg": alg, "kid": key.kid()}).to_string();
        let signed = robot.sign(|_| ())?;
        let header = BASE64URL_NOPAD.encode(header.as_bytes());
        Ok(format!("{header}.{}.", payload(&signed)))
    };
    let (_, forger) = self::key(Algorithm::ES256)?;
    Ok(vec![
        ("used before", used),
        ("expired", robot.sign(|claims| claims["exp"] = (now - 120).into())?),
        ("living too long", robot.sign(|claims| claims["exp"] = (now + 600).into())?),
        ("for another", robot.sign(|claims| claims["aud"] = "https://other.example".into())?),
        ("of another client", robot.sign(|claims| claims["sub"] = "kubernetes".into())?),
        ("without jti", robot.sign(|claims| claims["jti"] = Value::Null)?),
        ("signed by another key", forger.sign(None, &robot.claims()?)?),
        ("alg none", unsigned("none")?),
        ("HS256 with the public key", hs256(robot, key)?),
        ("a JWE", format!("{}.a.b.c.d", robot.sign(|_| ())?.split('.').next().unwrap_or_default())),
        ("nothing of the kind", "none".to_owned()),
    ])
}

/// Signed by HMAC with what everybody knows: the public key.
fn hs256(robot: &Robot, key: &PrivateKey) -> Result<String> {
    let header = json!({"alg": "HS256", "kid": key.kid()}).to_string();
    let encode = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    let signed = format!("{}.{}", encode(&header), encode(&robot.claims()?.to_string()));
    let secret = key.public_jwk().to_string();
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mac = hmac::sign(&secret, signed.as_bytes());
    Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(mac.as_ref())))
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_behind_a_url_are_fetched_from_where_the_operator_allows_and_rotate() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let installation = Installation::create(&plane).await?;
    let authority = installation.authority_file()?;
    let (first, signer) = key(Algorithm::RS256)?;
    let document = KeySet::new([first.public_key().clone()]).to_json();
    let server = KeyServer::start(installation.authority(), document).await?;
    let setup = Setup::new(Directory::None)
        .flag("--outbound-allowed-networks=127.0.0.0/8")
        .flag(format!("--outbound-ca-file={}", authority.display()));
    let scene = Scene::start_as(installation, &setup, |_| {}).await?;
    let published = json!({"method": "private_key_jwt", "jwksURI": server.url()});
    let mut robot = Robot::start(&scene, "robot", published, signer).await?;

    let mark = plane.audit_log().mark()?;
    robot.log_in(&robot.sign(|_| ())?).await?;
    assert_eq!(requests(&scene, mark)?, "create sessions × 1");
    for _ in 0..5 {
        ensure!(known(&robot.present(&robot.sign(|_| ())?).await?));
    }
    assert_eq!(server.take_asked(), 1, "fetched once for six assertions");

    let (next, signer) = key(Algorithm::PS256)?;
    server.publish(KeySet::new([next.public_key().clone()]).to_json());
    let old = std::mem::replace(&mut robot.signer, signer);
    // At once, unless the keys were fetched within the last ten seconds.
    eventually(Duration::from_secs(20), async || {
        let answer = robot.present(&robot.sign(|_| ())?).await?;
        ensure!(known(&answer), "{answer:?}");
        Ok(())
    })
    .await?;
    assert_eq!(server.take_asked(), 1, "fetched once for the new key");
    robot.signer = old;
    let answer = robot.present(&robot.sign(|_| ())?).await?;
    assert_eq!(answer.0, "invalid_client", "the old key is gone: {}", answer.1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_flag_keys_on_this_machine_are_not_fetched() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let (key, signer) = key(Algorithm::ES256)?;
    let document = KeySet::new([key.public_key().clone()]).to_json();
    let server = KeyServer::start(scene.installation().authority(), document).await?;
    let published = json!({"method": "private_key_jwt", "jwksURI": server.url()});
    let robot = Robot::start(&scene, "robot", published, signer).await?;
    let answer = robot.present(&robot.sign(|_| ())?).await?;
    assert_eq!(answer.0, "temporarily_unavailable", "{}", answer.1);
    assert_eq!(server.take_asked(), 0);
    let log = scene.operator()?.log()?;
    ensure!(log.contains("--outbound-allowed-networks"), "the log does not say what to do");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_is_its_client_by_the_token_kubernetes_projects_for_it() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let here = scene.installation();
    for account in ["robot", "other"] {
        here.kubectl(&["create", "serviceaccount", account])?;
    }
    let token = |account: &str, audience: &str, duration: &str| -> Result<String> {
        let (audience, duration) =
            (format!("--audience={audience}"), format!("--duration={duration}"));
        let token = here.kubectl(&["create", "token", account, &audience, &duration])?;
        Ok(token.trim().to_owned())
    };
    let uid =
        here.kubectl(&["get", "serviceaccount", "robot", "-o", "jsonpath={.metadata.uid}"])?;
    let account = json!({
        "method": "kubernetes_service_account",
        "serviceAccount": {"name": "robot", "uid": uid},
    });
    let (_, signer) = key(Algorithm::ES256)?;
    let robot = Robot::start(&scene, "robot", account, signer).await?;
    let issuer = scene.issuer();

    // Before the first good one nothing of the cluster is known, and nothing is asked.
    let mark = plane.audit_log().mark()?;
    let good = token("robot", &issuer, "1h")?;
    let forged = [
        ("another audience", token("robot", "https://kubernetes.default.svc", "1h")?),
        ("the token endpoint as audience", token("robot", &format!("{issuer}/token"), "1h")?),
        ("another ServiceAccount", token("other", &issuer, "1h")?),
        ("two hours", token("robot", &issuer, "2h")?),
        ("the client's own signature", robot.sign(|_| ())?),
    ];
    for (what, assertion) in &forged {
        let answer = robot.present(assertion).await?;
        println!("{what}: {}: {}", answer.0, answer.1);
        assert_eq!(answer.0, "invalid_client", "{what}: {}", answer.1);
    }
    assert_eq!(requests(&scene, mark)?, "", "{} forgeries", forged.len());

    robot.log_in(&good).await?;
    let first = requests(&scene, mark)?;
    let asked =
        "create sessions × 1, get /.well-known/openid-configuration × 1, get /openid/v1/jwks × 1";
    assert_eq!(first, asked);
    let mark = plane.audit_log().mark()?;
    robot.log_in(&good).await?;
    assert_eq!(requests(&scene, mark)?, "create sessions × 1");

    // Signed by the right key, then changed; and by a key the cluster does not have.
    let mark = plane.audit_log().mark()?;
    let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
    parts[2] = BASE64URL_NOPAD.encode(&[1; 256]);
    for _ in 0..20 {
        assert_eq!(robot.present(&parts.join(".")).await?.0, "invalid_client");
        let by_robot = robot.signer.sign(None, &claims(&good)?)?;
        assert_eq!(robot.present(&by_robot).await?.0, "invalid_client");
    }
    assert_eq!(requests(&scene, mark)?, "", "40 forgeries");

    // Deleted and made again under its name, it is another account.
    here.kubectl(&["delete", "serviceaccount", "robot"])?;
    here.kubectl(&["create", "serviceaccount", "robot"])?;
    let answer = robot.present(&token("robot", &issuer, "1h")?).await?;
    assert_eq!(answer.0, "invalid_client", "{}", answer.1);
    Ok(())
}

/// The block of the page with this name.
fn recipe(page: &str, name: &str) -> Result<String> {
    let begin = format!("```sh {name}\n");
    let (_, rest) = page.split_once(&begin).with_context(|| format!("no block {name}"))?;
    Ok(rest.split_once("\n```").context("a block without end")?.0.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_about_it_works_as_it_is_written() -> Result<()> {
    let page = std::fs::read_to_string(
        claviger_testkit::installation::repository().join("docs/client-authentication.md"),
    )?;
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let here = scene.installation();
    let authority = here.authority_file()?;
    let (issuer, namespace) = (scene.issuer(), here.namespace().to_owned());
    let run = |name: &str, environment: &[(&str, &str)]| -> Result<String> {
        let mut bash = plane.with_kubectl("bash");
        bash.current_dir(here.folder()).args(["-euo", "pipefail", "-c", &recipe(&page, name)?]);
        bash.env("ISSUER", &issuer).env("NAMESPACE", &namespace);
        bash.env("CURL_CA_BUNDLE", &authority).envs(environment.iter().copied());
        let output = bash.output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name}: {said}{error}");
        Ok(said)
    };
    run("private-key-jwt", &[])?;
    here.kubectl(&["create", "serviceaccount", "robot"])?;
    let account =
        json!({"method": "kubernetes_service_account", "serviceAccount": {"name": "robot"}});
    let (_, signer) = key(Algorithm::ES256)?;
    Robot::start(&scene, "robot", account, signer).await?;
    let pem = here.authority().certificate_pem();
    for (client, name) in [("signer", "private-key-jwt-token"), ("robot", "service-account")] {
        let party = RelyingParty::discover(&issuer, pem, (client, None), REDIRECT_URI).await?;
        let (code, attempt) = party.code("openid email", LOCAL_USER).await?;
        let said = run(name, &[("CODE", &code), ("VERIFIER", &attempt.verifier)])?;
        let tokens: Value = serde_json::from_str(&said)?;
        ensure!(tokens["id_token"].is_string(), "{name}: {said}");
    }
    Ok(())
}
