//! An administrator says something wrong, and is told what and how to put it right, at once, by the
//! API server itself.
//!
//! The tables of good and bad specs belong to the `api` crate, which shows that they leave out no
//! rule; here a real API server judges every one of them.
#![expect(clippy::expect_used, reason = "a test may panic")]

#[path = "../../crates/api/tests/cases/mod.rs"]
mod cases;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cases::{Table, changed, reread, tables};
use claviger_api::condition::{Verdict, set_condition};
use claviger_api::{
    ConditionType, KeyState, OIDCIssuer, OIDCIssuerStatus, PublishedKey, Reason, SigningAlgorithm,
    SigningKey, SigningKeySpec, SigningKeyStatus, crds, time,
};
use claviger_testkit::{ControlPlane, TestNamespace, eventually};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

/// A namespace of one's own on a control plane that has the committed definitions.
struct Stage {
    plane: ControlPlane,
    client: Client,
    namespace: String,
}

impl Stage {
    async fn set(prefix: &str) -> Result<Self> {
        let plane = ControlPlane::from_env()?;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
        let applied = plane
            .kubectl()
            .args(["apply", "--server-side", "--force-conflicts", "--field-manager=e2e", "-f"])
            .arg(folder)
            .output()?;
        ensure!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        let client = plane.admin().await?;
        for crd in crds() {
            eventually(PATIENCE, async || is_served(&client, &crd).await).await?;
        }
        let namespace = TestNamespace::create(&client, prefix).await?.name().to_owned();
        Ok(Self { plane, client, namespace })
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource(kind))
    }

    /// Runs kubectl in the namespace, with `input` to read.
    fn kubectl(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut child = self
            .plane
            .kubectl()
            .args(["--namespace", &self.namespace])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("kubectl has no stdin")?.write_all(input.as_bytes())?;
        Ok(child.wait_with_output()?)
    }

    /// What kubectl prints when it succeeds.
    fn kubectl_says(&self, arguments: &[&str]) -> Result<String> {
        let output = self.kubectl(arguments, "")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// The API server serves the kind as it now stands in `crd`: until it does, it judges by the
/// definition before, if there was one.
async fn is_served(client: &Client, crd: &CustomResourceDefinition) -> Result<()> {
    let name = crd.name_any();
    let found = Api::<CustomResourceDefinition>::all(client.clone()).get(&name).await?;
    let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
    for wanted in ["NamesAccepted", "Established"] {
        ensure!(
            conditions.iter().any(|c| c.type_ == wanted && c.status == "True"),
            "{name} is not {wanted}"
        );
    }
    let lame = conditions.iter().find(|c| c.type_ == "NonStructuralSchema" && c.status == "True");
    ensure!(lame.is_none(), "{name}: {lame:?}");
    let resource = resource(&crd.spec.names.kind);
    Api::<DynamicObject>::all_with(client.clone(), &resource).list(&ListParams::default()).await?;
    Ok(())
}

fn resource(kind: &str) -> ApiResource {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind).expect("a kind of ours");
    ApiResource {
        group: crd.spec.group.clone(),
        version: claviger_api::VERSION.to_owned(),
        api_version: format!("{}/{}", crd.spec.group, claviger_api::VERSION),
        kind: kind.to_owned(),
        plural: crd.spec.names.plural,
    }
}

fn object(kind: &str, name: &str, spec: &Value) -> DynamicObject {
    let mut object = DynamicObject::new(name, &resource(kind));
    object.data = json!({"spec": spec});
    object
}

/// What the API server says no with.
fn refusal<T>(outcome: Result<T, kube::Error>) -> Result<String> {
    match outcome {
        Err(kube::Error::Api(status)) if [403, 422].contains(&status.code) => Ok(status.message),
        Err(other) => Err(other).context("not refused, but failed"),
        Ok(_) => bail!("taken"),
    }
}

fn dry_run() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

/// Every case is judged, and all that go wrong are reported together.
fn report(complaints: &[String]) -> Result<()> {
    let mut text = String::new();
    for complaint in complaints {
        writeln!(text, "- {complaint}")?;
    }
    ensure!(complaints.is_empty(), "{} cases went wrong:\n{text}", complaints.len());
    Ok(())
}

#[tokio::test]
async fn every_good_spec_is_taken_with_the_defaults_that_rust_knows() -> Result<()> {
    let stage = Stage::set("good").await?;
    let mut complaints = Vec::new();
    for table in tables() {
        let api = stage.api(table.kind);
        let specs = table.good.iter().map(|case| (case.what, changed(&table.base, &case.change)));
        for (at, (what, spec)) in
            [("the base", table.base.clone())].into_iter().chain(specs).enumerate()
        {
            let wanted = object(table.kind, &format!("good-{at}"), &spec);
            match api.create(&PostParams::default(), &wanted).await {
                Err(error) => complaints.push(format!("{} {what}: {error}", table.kind)),
                Ok(taken) => {
                    let rust = reread(table.kind, spec)?;
                    if taken.data["spec"] != rust {
                        let server = &taken.data["spec"];
                        complaints.push(format!("{} {what}: {server} but {rust}", table.kind));
                    }
                }
            }
        }
    }
    report(&complaints)
}

#[tokio::test]
async fn every_bad_spec_is_refused_in_words_that_name_the_fix() -> Result<()> {
    let stage = Stage::set("bad").await?;
    let mut complaints = Vec::new();
    for table in tables() {
        let api = stage.api(table.kind);
        for case in &table.bad {
            let spec = changed(&table.base, &case.change);
            let outcome = api.create(&dry_run(), &object(table.kind, "bad", &spec)).await;
            match refusal(outcome) {
                Ok(words) if words.to_lowercase().contains(&case.says.to_lowercase()) => {}
                other => complaints.push(format!("{} {}: {other:?}", table.kind, case.what)),
            }
        }
    }
    report(&complaints)
}

#[tokio::test]
async fn what_must_not_change_cannot_be_changed() -> Result<()> {
    let stage = Stage::set("updates").await?;
    let mut complaints = Vec::new();
    for table in tables() {
        for (at, case) in table.bad_updates.iter().enumerate() {
            let words = refused_update(&stage, &table, at).await;
            let said = words.as_ref().is_ok_and(|words| words.contains(case.says));
            if !said {
                complaints.push(format!("{} {}: {words:?}", table.kind, case.what));
            }
        }
    }
    report(&complaints)
}

/// Creates what stands before a bad update, tries the update, and returns the refusal.
async fn refused_update(stage: &Stage, table: &Table, at: usize) -> Result<String> {
    let case = &table.bad_updates[at];
    let api = stage.api(table.kind);
    let name = format!("update-{at}");
    let before = object(table.kind, &name, &changed(&table.base, &case.before));
    let before = api.create(&PostParams::default(), &before).await?;
    let change = json!({"spec": case.change});
    let outcome = api.patch(&name, &PatchParams::default(), &Patch::Merge(&change)).await;
    let words = refusal(outcome)?;
    ensure!(api.get(&name).await?.data == before.data, "refused, and changed nevertheless");
    Ok(words)
}

#[tokio::test]
async fn a_misspelt_field_is_refused_by_name() -> Result<()> {
    let stage = Stage::set("strict").await?;
    for table in tables() {
        let mut misspelt = object(table.kind, "misspelt", &table.base);
        misspelt.data["spec"]["lifetime"] = json!(600);
        let output = stage.kubectl(&["create", "-f", "-"], &serde_json::to_string(&misspelt)?)?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "{} with a misspelt field is taken", table.kind);
        ensure!(words.contains("unknown field \"spec.lifetime\""), "{}: {words}", table.kind);
    }
    Ok(())
}

#[tokio::test]
async fn kubectl_explains_every_field() -> Result<()> {
    let stage = Stage::set("explain").await?;
    let mut missing = Vec::new();
    for crd in crds() {
        let schema = crd.spec.versions[0].schema.clone().and_then(|s| s.open_api_v3_schema);
        let schema = serde_json::to_value(schema)?;
        let plural = &crd.spec.names.plural;
        let kind = words(schema["description"].as_str().unwrap_or_default());
        let page = words(&stage.kubectl_says(&["explain", plural])?);
        if !page.contains(&kind) {
            missing.push(format!("{plural}: {kind}"));
        }
        let page = words(&stage.kubectl_says(&["explain", &format!("{plural}.spec")])?);
        let fields = schema["properties"]["spec"]["properties"].as_object();
        for (name, field) in fields.context("a spec has fields")? {
            let text = words(field["description"].as_str().unwrap_or_default());
            if text.is_empty() || !page.contains(&text) {
                missing.push(format!("{plural}.spec.{name}: {text}"));
            }
        }
    }
    report(&missing)
}

/// `text` with one space wherever there is white space.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn kubectl_lists_every_kind_by_its_short_name() -> Result<()> {
    let stage = Stage::set("list").await?;
    let expected = [
        ("oi", "NAME URL READY REASON AGE"),
        ("oac", "NAME CLIENT ID ISSUER TYPE READY REASON AGE"),
        ("oconn", "NAME DISPLAY NAME READY REASON AGE"),
        ("skey", "NAME ALGORITHM ACTIVE READY REASON AGE"),
        ("luser", "NAME EMAIL STATE READY REASON AGE"),
        ("sess", "NAME USER CLIENT CONNECTOR STATE EXPIRES REASON AGE"),
        ("devauth", "NAME CLIENT STATE EXPIRES AGE"),
    ];
    for table in tables() {
        let listed = object(table.kind, "listed", &table.base);
        stage.api(table.kind).create(&PostParams::default(), &listed).await?;
    }
    for (short_name, wide) in expected {
        let page = stage.kubectl_says(&["get", short_name, "--output", "wide"])?;
        ensure!(words(page.lines().next().unwrap_or_default()) == wide, "{short_name}: {page}");
        let page = stage.kubectl_says(&["get", short_name])?;
        let narrow = wide.replace("REASON ", "");
        ensure!(words(page.lines().next().unwrap_or_default()) == narrow, "{short_name}: {page}");
    }
    let page = stage.kubectl_says(&["get", "claviger", "--output", "name"])?;
    let mut names: Vec<&str> = page.lines().collect();
    names.sort_unstable();
    ensure!(
        names
            == [
                "connector.claviger.dev/listed",
                "deviceauthorization.claviger.dev/listed",
                "localuser.claviger.dev/listed",
                "oauth2client.claviger.dev/listed",
                "oidcissuer.claviger.dev/listed",
                "session.claviger.dev/listed",
                "signingkey.claviger.dev/listed",
            ],
        "{page}"
    );
    Ok(())
}

#[tokio::test]
async fn selectable_fields_select() -> Result<()> {
    let stage = Stage::set("select").await?;
    let mut selectors = 0;
    for crd in crds() {
        let kind = &crd.spec.names.kind;
        let table = tables().into_iter().find(|table| table.kind == kind).context("a table")?;
        // The last good spec is the one that says everything.
        let everything = changed(&table.base, &table.good.last().context("a good spec")?.change);
        let api = stage.api(kind);
        let stored = object(kind, "stored", &everything);
        let stored = api.create(&PostParams::default(), &stored).await?;
        for field in crd.spec.versions[0].selectable_fields.iter().flatten() {
            let path = field.json_path.trim_start_matches('.');
            let pointer = format!("/{}", path.replace('.', "/"));
            let value = stored.data.pointer(&pointer).and_then(Value::as_str);
            let value = value.with_context(|| format!("{kind} has no {path}"))?;
            for (selector, found) in [(format!("{path}={value}"), 1), (format!("{path}=other"), 0)]
            {
                let list = api.list(&ListParams::default().fields(&selector)).await?;
                ensure!(list.items.len() == found, "{kind} {selector}: {}", list.items.len());
            }
            selectors += 1;
        }
    }
    ensure!(selectors >= 11, "only {selectors} selectable fields");
    Ok(())
}

#[tokio::test]
async fn a_user_cannot_write_status_with_the_object() -> Result<()> {
    let stage = Stage::set("status").await?;
    for table in tables() {
        let api = stage.api(table.kind);
        let mut claimed = object(table.kind, "claimed", &table.base);
        claimed.data["status"] = json!({"observedGeneration": 7});
        let outcome = api.create(&PostParams::default(), &claimed).await?;
        ensure!(outcome.data["status"].is_null(), "{} took a status", table.kind);
        let status = api.get_status("claimed").await;
        let is_machine_written = ["Session", "DeviceAuthorization"].contains(&table.kind);
        ensure!(status.is_err() == is_machine_written, "{}: {status:?}", table.kind);
    }
    Ok(())
}

#[tokio::test]
async fn every_verdict_the_assessor_can_give_fits_into_status() -> Result<()> {
    let stage = Stage::set("verdicts").await?;
    let issuers: Api<OIDCIssuer> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let table = tables().into_iter().find(|t| t.kind == "OIDCIssuer").context("a table")?;
    let issuer = OIDCIssuer::new("main", serde_json::from_value(table.base)?);
    issuers.create(&PostParams::default(), &issuer).await?;
    for reason in Reason::ALL {
        let mut conditions = Vec::new();
        for type_ in [ConditionType::Accepted, ConditionType::ResolvedRefs, ConditionType::Ready] {
            let verdict = Verdict::fails(type_, *reason, "ü".repeat(40_000));
            set_condition(&mut conditions, &verdict, 1, 1_767_225_600);
        }
        let status = OIDCIssuerStatus {
            observed_generation: Some(1),
            jwks_uri: Some("https://id.example.com/main/keys".into()),
            conditions,
        };
        let patch =
            json!({"apiVersion": "claviger.dev/v1alpha1", "kind": "OIDCIssuer", "status": status});
        let apply = PatchParams::apply("e2e").force();
        let written = issuers.patch_status("main", &apply, &Patch::Apply(&patch)).await?;
        ensure!(written.status == Some(status), "{reason:?} came back otherwise");
    }
    Ok(())
}

#[tokio::test]
async fn the_states_of_a_key_fit_into_status() -> Result<()> {
    let stage = Stage::set("keys").await?;
    let keys: Api<SigningKey> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let key = SigningKey::new("rs256", SigningKeySpec::default());
    keys.create(&PostParams::default(), &key).await?;
    let life = [
        KeyState::Pending,
        KeyState::Published,
        KeyState::Active,
        KeyState::Retiring,
        KeyState::Revoked,
    ];
    let published = |state: KeyState| PublishedKey {
        kid: format!("kid-{state:?}"),
        algorithm: SigningAlgorithm::Rs256,
        state,
        since: time::from_seconds(1_767_225_600),
        not_before: Some(time::from_seconds(1_767_225_900)),
        not_after: None,
    };
    let status = SigningKeyStatus {
        next_rotation_time: None,
        observed_generation: Some(1),
        secret_name: Some("rs256-keys".into()),
        keys: life.into_iter().map(published).collect(),
        conditions: Vec::new(),
    };
    let patch = json!({"status": status});
    let written =
        keys.patch_status("rs256", &PatchParams::default(), &Patch::Merge(&patch)).await?;
    ensure!(written.status == Some(status), "{:?}", written.status);
    let page = stage.kubectl_says(&["get", "signingkeys"])?;
    ensure!(page.contains("kid-Active"), "{page}");
    Ok(())
}

/// The shipped policy, for one home and, so that no other test meets it, for two namespaces only.
fn policy_for(home: &str, tenant: &str) -> Result<Value> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/admission/tenant-client-ids.yaml");
    let shipped = std::fs::read_to_string(path)?;
    ensure!(shipped.matches("'claviger-system'").count() == 1, "one place names the home");
    let ours = shipped.replace("'claviger-system'", &format!("'{home}'")).replace(
        "tenant-client-ids.claviger.dev",
        &format!("tenant-client-ids.{home}.claviger.dev"),
    );
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&ours)?;
    let binding = objects.last_mut().context("a binding")?;
    binding["spec"]["matchResources"] = json!({"namespaceSelector": {"matchExpressions": [{
        "key": "kubernetes.io/metadata.name", "operator": "In", "values": [home, tenant],
    }]}});
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": objects}))
}

#[tokio::test]
async fn outside_home_nobody_chooses_a_client_id() -> Result<()> {
    let home = Stage::set("home").await?;
    let tenant = Stage::set("tenant").await?;
    let policy = policy_for(&home.namespace, &tenant.namespace)?;
    let applied = home.kubectl(&["apply", "--server-side", "-f", "-"], &policy.to_string())?;
    ensure!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));

    let table = tables().into_iter().find(|t| t.kind == "OAuth2Client").context("a table")?;
    let chosen =
        |id: &str| object(table.kind, "app", &changed(&table.base, &json!({"clientID": id})));
    let (at_home, at_tenant) = (home.api(table.kind), tenant.api(table.kind));
    let words = eventually(PATIENCE, async || {
        refusal(at_tenant.create(&dry_run(), &chosen("kubernetes")).await)
    })
    .await?;
    let fix = format!("it is {}/app: remove spec.clientID", tenant.namespace);
    ensure!(words.contains(&fix), "{words}");

    // Not by its own ID either, which nobody else could have: there is one way to say it.
    let own = format!("{}/app", tenant.namespace);
    refusal(at_tenant.create(&dry_run(), &chosen(&own)).await)?;

    // Not by a later change, of whatever kind.
    let plain = object(table.kind, "app", &table.base);
    let mut stored = at_tenant.create(&PostParams::default(), &plain).await?;
    let change = json!({"spec": {"clientID": "kubernetes"}});
    let merge = at_tenant.patch("app", &PatchParams::default(), &Patch::Merge(&change)).await;
    ensure!(refusal(merge)?.contains(&fix), "by merge patch");
    let applied = json!({
        "apiVersion": "claviger.dev/v1alpha1", "kind": "OAuth2Client", "spec": change["spec"],
    });
    let apply =
        at_tenant.patch("app", &PatchParams::apply("tenant"), &Patch::Apply(&applied)).await;
    ensure!(refusal(apply)?.contains(&fix), "by server-side apply");
    stored.data["spec"]["clientID"] = json!("kubernetes");
    let update = at_tenant.replace("app", &PostParams::default(), &stored).await;
    ensure!(refusal(update)?.contains(&fix), "by update");

    at_home.create(&dry_run(), &chosen("kubernetes")).await.context("home may choose")?;
    Ok(())
}
