//! Programs without a secret: jobs of a CI system (RFC 8693) and `ServiceAccounts` (RFC 7523) get tokens where somebody
//! listed them, for no request but the cluster's keys.

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;
use claviger_jose::{Algorithm, PrivateKey, Signer};
use claviger_testkit::ci_issuer::{RUNNER_SECRET, now};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{Manifests, REDIRECT_URI};
use claviger_testkit::{
    AuditMark, CiIssuer, ControlPlane, Directory, Installation, RelyingParty, Scene, Setup, recipe,
};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

fn requests(scene: &Scene, mark: AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

/// The quickstart, whose cluster takes what `peer` exchanges, with a CI system whose keys may be asked for.
async fn scene(plane: &ControlPlane, peers: &[&str]) -> Result<(Scene, CiIssuer)> {
    let installation = Installation::with_tenants(plane, &["team"]).await?;
    let authority = installation.authority_file()?;
    let ci = CiIssuer::start(installation.authority()).await?;
    let setup = Setup::new(Directory::None)
        .flag("--outbound-allowed-networks=127.0.0.0/8")
        .flag(format!("--outbound-ca-file={}", authority.display()));
    let team = installation.tenants()[0].clone();
    let peers: Vec<_> =
        peers.iter().map(|peer| peer.replace("team/", &format!("{team}/"))).collect();
    let change = |manifests: &mut Manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["grants"] =
                json!(["authorization_code", "refresh_token", EXCHANGE, BEARER]);
            issuer["spec"]["allowedClients"] = json!({"namespaces": {"from": "All"}});
            issuer["spec"]["tenants"] = json!({"allowedGrants": [EXCHANGE, BEARER]});
        }
        if let Ok(client) = manifests.find("OAuth2Client", "kubernetes") {
            client["spec"]["exchangeWorkloadsFrom"] = json!(peers);
        }
    };
    Ok((Scene::start_as(installation, &setup, change).await?, ci))
}

/// A Public client without redirect URIs.
fn client(scene: &Scene, name: &str, spec: Value) -> String {
    let mut all = json!({
        "issuerRef": {"name": "main", "namespace": scene.installation().namespace()},
        "type": "Public",
    });
    if let (Some(all), Value::Object(spec)) = (all.as_object_mut(), spec) {
        all.extend(spec);
    }
    json!({
        "apiVersion": "claviger.dev/v1alpha1", "kind": "OAuth2Client",
        "metadata": {"name": name}, "spec": all,
    })
    .to_string()
}

/// A client that trusts jobs of one repository, or what else the entry says.
fn trusting(scene: &Scene, name: &str, entry: &Value) -> String {
    client(scene, name, json!({"grants": [EXCHANGE], "trustedIssuers": [entry]}))
}

async fn party(scene: &Scene, id: &str) -> Result<RelyingParty> {
    let pem = scene.installation().authority().certificate_pem();
    RelyingParty::discover(&scene.issuer(), pem, (id, None), REDIRECT_URI).await
}

/// Types a recipe of the page, with these variables.
fn type_it(scene: &Scene, name: &str, variables: &[(&str, &str)]) -> Result<Value> {
    let here = scene.installation();
    let mut bash = here.plane().with_kubectl("bash");
    bash.args(["-euo", "pipefail", "-c", &recipe::recipe("workloads.md", name)?]);
    bash.env("ISSUER", scene.issuer()).env("NAMESPACE", here.namespace());
    bash.env("CURL_CA_BUNDLE", here.authority_file()?).envs(variables.iter().copied());
    let output = bash.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {said}{complaint}");
    Ok(serde_json::from_str(&said)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_github_actions_gets_a_token_for_the_cluster_without_a_secret() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, ci) = scene(&plane, &["ci"]).await?;
    let entry = json!({
        "name": "github", "issuer": ci.url(), "groups": ["ci-deployers"],
        "claims": [
            {"claim": "repository", "values": ["octo-org/octo-repo"]},
            {"claim": "ref", "values": ["refs/heads/main"]},
        ],
    });
    scene.installation().apply(&trusting(&scene, "ci", &entry))?;
    scene.installation().wait_for("oauth2client/ci", "Ready").await?;
    let party = party(&scene, "ci").await?;
    let grants = &party.metadata()["grant_types_supported"];
    for grant in [EXCHANGE, BEARER] {
        ensure!(grants.as_array().is_some_and(|all| all.contains(&json!(grant))), "{grants}");
    }

    // Before the first good one nothing of the issuer is known, and nobody is asked.
    let mark = plane.audit_log().mark()?;
    let refused = forgeries(&scene, &ci)?;
    for (what, token) in &refused {
        let answer = exchange(&party, token).await?;
        println!("{what}: {}: {}", answer.error(), answer.body["error_description"]);
        assert_eq!(answer.error(), "invalid_request", "{what}: {}", answer.body);
    }
    assert_eq!(ci.take_asked(), Vec::<String>::new(), "{} forgeries", refused.len());

    let exchanged = type_it(
        &scene,
        "github-actions",
        &[
            ("ACTIONS_ID_TOKEN_REQUEST_URL", &ci.runner_url()),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", RUNNER_SECRET),
        ],
    )?;
    let token = claims(text(&exchanged, "access_token")?)?;
    println!("a job of GitHub Actions is {token}");
    assert_eq!((&token["aud"], &token["azp"]), (&json!("kubernetes"), &json!("ci")));
    assert_eq!(token["groups"], json!(["ci-deployers"]));
    let sub = BASE64URL_NOPAD.decode(text(&token, "sub")?.as_bytes())?;
    let name = format!("{}#repo:octo-org/octo-repo:ref:refs/heads/main", ci.url());
    ensure!(sub.ends_with(name.as_bytes()), "{}", String::from_utf8_lossy(&sub));
    ensure!(token["exp"].as_i64() <= Some(now() + 300), "{token} outlives what it came of");
    ensure!(exchanged.get("refresh_token").is_none() && token.get("email").is_none());
    for _ in 0..5 {
        exchange(&party, &ci.github(&scene.issuer(), &json!({}))?).await?.tokens()?;
    }
    let fetched = ["/.well-known/openid-configuration", "/.well-known/jwks"];
    assert_eq!(ci.take_asked(), fetched, "once for six jobs");

    // A key nobody has, and an issuer that is away: not the job's fault where nothing is known.
    let stranger = PrivateKey::generate(Algorithm::RS256, 2_048)?;
    let unknown =
        Signer::new(&stranger)?.sign(None, &claims(&ci.github(&scene.issuer(), &json!({}))?)?)?;
    for _ in 0..20 {
        assert_eq!(exchange(&party, &unknown).await?.error(), "invalid_request");
    }
    ensure!(ci.take_asked().len() <= 2, "asked more than once for a key nobody has");
    assert_eq!(requests(&scene, mark)?, "", "no exchange costs a request");
    Ok(())
}

async fn exchange(
    party: &RelyingParty,
    token: &str,
) -> Result<claviger_testkit::relying_party::Answer> {
    let form = [
        ("grant_type", EXCHANGE),
        ("subject_token_type", ID_TOKEN),
        ("subject_token", token),
        ("audience", "kubernetes"),
    ];
    party.token(&form).await
}

/// What must be refused, with what it is.
fn forgeries(scene: &Scene, ci: &CiIssuer) -> Result<Vec<(&'static str, String)>> {
    let issuer = scene.issuer();
    let job = |change: Value| ci.github(&issuer, &change);
    let header = |header: Value| BASE64URL_NOPAD.encode(header.to_string().as_bytes());
    let payload = job(json!({}))?.split('.').nth(1).unwrap_or_default().to_owned();
    let hs256 = format!("{}.{payload}", header(json!({"alg": "HS256", "typ": "JWT"})));
    let public = ci.public_jwk().to_string();
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, public.as_bytes()), hs256.as_bytes());
    Ok(vec![
        ("another audience", ci.github("https://vault.example", &json!({}))?),
        ("two audiences", job(json!({"aud": [issuer, "https://vault.example"]}))?),
        ("another issuer", job(json!({"iss": "https://token.actions.githubusercontent.com"}))?),
        ("expired", job(json!({"iat": now() - 600, "exp": now() - 300}))?),
        ("of the future", job(json!({"iat": now() + 300, "exp": now() + 600}))?),
        ("living for two hours", job(json!({"exp": now() + 7_200}))?),
        ("another repository", job(json!({"repository": "octo-org/octo-repo2"}))?),
        ("another branch", job(json!({"ref": "refs/heads/feature"}))?),
        ("without a repository", job(json!({"repository": null}))?),
        ("of a fork", job(json!({"ref": "refs/pull/1/merge"}))?),
        ("alg none", format!("{}.{payload}.", header(json!({"alg": "none"})))),
        ("HS256 with the public key", format!("{hs256}.{}", BASE64URL_NOPAD.encode(mac.as_ref()))),
        ("nothing of the kind", "none".to_owned()),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_gitlab_is_in_the_groups_of_its_claim_and_an_issuer_that_is_away_is_no_verdict()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, ci) = scene(&plane, &["ci"]).await?;
    let entry = json!({
        "name": "gitlab", "issuer": ci.url(),
        "claims": [
            {"claim": "project_id", "values": ["20"]},
            {"claim": "ref_protected", "values": ["true"]},
            {"claim": "runner_id", "values": ["1"]},
        ],
        "groupsFrom": {"claim": "groups_direct", "prefix": "gitlab:"},
    });
    scene.installation().apply(&trusting(&scene, "ci", &entry))?;
    scene.installation().wait_for("oauth2client/ci", "Ready").await?;
    let party = party(&scene, "ci").await?;
    let job = ci.gitlab(&scene.issuer(), &json!({}))?;

    let mark = plane.audit_log().mark()?;
    ci.set_away(true);
    let answer = exchange(&party, &job).await?;
    assert_eq!((answer.status.as_u16(), answer.error()), (503, "temporarily_unavailable"));
    ci.set_away(false);
    // Its keys are asked for again when ten seconds are over.
    claviger_testkit::eventually(std::time::Duration::from_secs(20), async || {
        exchange(&party, &job).await?.tokens().map(drop)
    })
    .await?;
    let exchanged = type_it(&scene, "gitlab", &[("JOB_TOKEN", &job)])?;
    let token = claims(text(&exchanged, "access_token")?)?;
    println!("a job of GitLab is {token}");
    assert_eq!(token["groups"], json!(["gitlab:my-group/admins", "gitlab:other-group"]));
    for absent in ["email", "user_email", "name", "preferred_username"] {
        ensure!(token.get(absent).is_none(), "{absent} in {token}");
    }
    for change in [json!({"project_id": "21"}), json!({"ref_protected": "false"})] {
        let other = ci.gitlab(&scene.issuer(), &change)?;
        assert_eq!(exchange(&party, &other).await?.error(), "invalid_request", "{change}");
    }
    assert_eq!(requests(&scene, mark)?, "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_trusts_nobody_until_the_issuer_lists_them_and_its_jobs_stay_below_its_name()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, ci) = scene(&plane, &["team/ci"]).await?;
    let here = scene.installation();
    let team = here.tenants()[0].clone();
    let entry = json!({
        "name": "github", "issuer": ci.url(), "groups": [format!("{team}:ci")],
        "claims": [{"claim": "repository", "values": ["octo-org/octo-repo"]}],
    });
    here.apply_in(&team, &trusting(&scene, "ci", &entry))?;
    let wait = |condition: &str| -> Result<()> {
        let condition = format!("--for=condition={condition}");
        let arguments = ["wait", "-n", &team, &condition, "--timeout=15s", "oauth2client/ci"];
        let output = here.plane().kubectl().args(arguments).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    wait("Accepted=False")?;
    let listed = json!({"spec": {"tenants": {
        "allowedGrants": [EXCHANGE, BEARER], "allowedTrustedIssuers": [ci.url()],
    }}});
    here.kubectl(&["patch", "oidcissuer", "main", "--type=merge", "-p", &listed.to_string()])?;
    wait("Accepted=True")?;
    let id = format!("{team}/ci");
    let party = party(&scene, &id).await?;
    let job = ci.github(&scene.issuer(), &json!({}))?;
    let exchanged = exchange(&party, &job).await?.tokens()?;
    let token = claims(text(&exchanged, "access_token")?)?;
    assert_eq!((&token["azp"], &token["groups"]), (&json!(id), &json!([format!("{team}:ci")])));
    let foreign = json!({"spec": {"trustedIssuers": [{
        "name": "github", "issuer": ci.url(), "groups": ["admins"],
        "claims": [{"claim": "repository", "values": ["octo-org/octo-repo"]}],
    }]}});
    let mut kubectl = here.plane().kubectl();
    let patch = foreign.to_string();
    let arguments = ["patch", "-n", &team, "oauth2client", "ci", "--type=merge", "-p", &patch];
    ensure!(kubectl.args(arguments).output()?.status.success());
    wait("Accepted=False")?;
    assert_eq!(exchange(&party, &job).await?.error(), "temporarily_unavailable", "out of service");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_gets_a_token_for_two_reads_and_then_for_none() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, _ci) = scene(&plane, &[]).await?;
    let here = scene.installation();
    for account in ["robot", "other"] {
        here.kubectl(&["create", "serviceaccount", account])?;
    }
    let bearer = json!({
        "grants": [BEARER],
        "jwtBearer": {"serviceAccounts": [{"name": "robot"}], "groups": ["robots"]},
    });
    here.apply(&client(&scene, "pods", bearer))?;
    here.wait_for("oauth2client/pods", "Ready").await?;
    let party = party(&scene, "pods").await?;
    let token = |account: &str, audience: &str, duration: &str| -> Result<String> {
        let (audience, duration) =
            (format!("--audience={audience}"), format!("--duration={duration}"));
        let token = here.kubectl(&["create", "token", account, &audience, &duration])?;
        Ok(token.trim().to_owned())
    };
    let bring = async |assertion: &str| {
        let form = [("grant_type", BEARER), ("assertion", assertion), ("scope", "openid groups")];
        party.token(&form).await
    };
    let issuer = scene.issuer();

    let mark = plane.audit_log().mark()?;
    let forged = [
        ("another audience", token("robot", "https://kubernetes.default.svc", "1h")?),
        ("another ServiceAccount", token("other", &issuer, "1h")?),
        ("two hours", token("robot", &issuer, "2h")?),
        ("nothing of the kind", "none".to_owned()),
    ];
    for (what, assertion) in &forged {
        let answer = bring(assertion).await?;
        println!("{what}: {}: {}", answer.error(), answer.body["error_description"]);
        assert_eq!(answer.error(), "invalid_grant", "{what}: {}", answer.body);
    }
    assert_eq!(requests(&scene, mark)?, "", "{} forgeries", forged.len());

    let tokens = type_it(&scene, "service-account-grant", &[])?;
    let first = requests(&scene, mark)?;
    println!("the first: {first}");
    assert_eq!(first, "get /.well-known/openid-configuration × 1, get /openid/v1/jwks × 1");
    let id_token = claims(text(&tokens, "id_token")?)?;
    println!("a ServiceAccount is {id_token}");
    assert_eq!((&id_token["aud"], &id_token["groups"]), (&json!("pods"), &json!(["robots"])));
    let known = &id_token["kubernetes.io"];
    assert_eq!(
        (&known["namespace"], &known["serviceaccount"]["name"]),
        (&json!(here.namespace()), &json!("robot"))
    );
    ensure!(tokens.get("refresh_token").is_none());

    let mark = plane.audit_log().mark()?;
    let good = token("robot", &issuer, "1h")?;
    for _ in 0..5 {
        bring(&good).await?.tokens()?;
    }
    let (status, answer) = party.userinfo(text(&tokens, "access_token")?).await?;
    ensure!(status.is_success() && answer.contains("robots"), "{status}: {answer}");
    let (rest, _) = good.rsplit_once('.').context("no JWT")?;
    let changed = format!("{rest}.{}", BASE64URL_NOPAD.encode(&[1; 256]));
    assert_eq!(bring(&changed).await?.error(), "invalid_grant");
    assert_eq!(requests(&scene, mark)?, "", "five grants, userinfo and a forgery");
    Ok(())
}
