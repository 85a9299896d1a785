//! An operator of one's own on a real API server: namespaces, a `ServiceAccount` with the least it
//! needs, and the control plane running in this process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use arc_swap::ArcSwap;
use claviger_api::{crds, labels};
use claviger_controller::assess::Assessment;
use claviger_controller::world::{ObjectKey, Objects};
use claviger_controller::{Config, Controller, ControllerError, Readiness};
use claviger_domain::Snapshot;
use claviger_domain::client::Client as DomainClient;
use claviger_domain::issuer::{ClientEntry, Issuer};
use claviger_domain::ports::Clock;
use claviger_testkit::{
    AuditMark, AuditedRequest, ControlPlane, TestNamespace, eventually, identity,
};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch,
    PatchParams, PostParams,
};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// How long anything may take that is not measured.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The promise: a change is live within this.
pub const LIVE: Duration = Duration::from_secs(1);

/// No two calls in this process label a namespace alike.
static ROUND: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug)]
struct Wall;

impl Clock for Wall {
    #[expect(clippy::disallowed_methods, reason = "the outermost edge of the test")]
    fn now(&self) -> i64 {
        k8s_openapi::jiff::Timestamp::now().as_second()
    }
}

/// Namespaces and rights for operators; none runs yet.
pub struct Stage {
    pub plane: ControlPlane,
    pub admin: Client,
    pub home: String,
    pub tenant: String,
}

/// A running control plane.
pub struct Operator {
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub readiness: watch::Receiver<Readiness>,
    pub leadership: watch::Sender<bool>,
    assessments: watch::Receiver<Arc<Assessment>>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), ControllerError>>,
}

impl Stage {
    /// Definitions, two namespaces, and a `ServiceAccount` that may work in both.
    pub async fn set() -> Result<Self> {
        let stage = Self::set_without_tenant_rights().await?;
        stage.grant_secrets(&stage.tenant).await?;
        Ok(stage)
    }

    /// The same, but the tenant namespace has not granted its Secrets.
    pub async fn set_without_tenant_rights() -> Result<Self> {
        Self::set_on(ControlPlane::from_env()?).await
    }

    /// The same on a control plane of one's own.
    pub async fn set_on(plane: ControlPlane) -> Result<Self> {
        let admin = plane.admin().await?;
        for crd in crds() {
            define(&admin, &crd).await?;
        }
        let home = TestNamespace::create(&admin, "home").await?.name().to_owned();
        let tenant = TestNamespace::create(&admin, "team").await?.name().to_owned();
        let stage = Self { plane, admin, home, tenant };
        stage.grant_home().await?;
        Ok(stage)
    }

    async fn grant_home(&self) -> Result<()> {
        let home = self.home.as_str();
        self.make("v1/ServiceAccount", home, "claviger", json!({})).await?;
        let kinds = ["oidcissuers", "connectors", "signingkeys", "localusers"];
        let statuses = kinds.map(|kind| format!("{kind}/status"));
        let rules = json!({"rules": [
            {"apiGroups": ["claviger.dev"], "resources": kinds, "verbs": ["list", "watch"]},
            {"apiGroups": ["claviger.dev"], "resources": statuses, "verbs": ["patch"]},
            {"apiGroups": ["claviger.dev"], "resources": ["sessions"], "verbs": ["list"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]},
        ]});
        self.make("rbac.authorization.k8s.io/v1/Role", home, "claviger", rules).await?;
        self.bind("RoleBinding", home, "claviger", "Role").await?;
        self.grant_secrets(home).await?;
        let rules = json!({"rules": [
            {"apiGroups": ["claviger.dev"], "resources": ["oauth2clients"], "verbs": ["list", "watch"]},
            {"apiGroups": ["claviger.dev"], "resources": ["oauth2clients/status"], "verbs": ["patch"]},
            {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]},
            {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
        ]});
        self.make("rbac.authorization.k8s.io/v1/ClusterRole", "", home, rules).await?;
        self.bind("ClusterRoleBinding", "", home, "ClusterRole").await
    }

    /// Lets the operator see to Secrets in a namespace.
    pub async fn grant_secrets(&self, namespace: &str) -> Result<()> {
        let verbs = ["get", "list", "watch", "create", "update", "delete"];
        let rules =
            json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": verbs}]});
        let role = "rbac.authorization.k8s.io/v1/Role";
        self.make(role, namespace, "claviger-secrets", rules).await?;
        self.bind("RoleBinding", namespace, "claviger-secrets", "Role").await
    }

    async fn bind(&self, kind: &str, namespace: &str, name: &str, role: &str) -> Result<()> {
        let binding = json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "claviger", "namespace": self.home}],
        });
        let kind = format!("rbac.authorization.k8s.io/v1/{kind}");
        self.make(&kind, namespace, name, binding).await.map(drop)
    }

    /// Applies an object as the administrator. `kind` is `group/version/Kind`, or `v1/Kind`.
    pub async fn make(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        content: Value,
    ) -> Result<DynamicObject> {
        let resource = resource(kind);
        let mut body = content;
        body["apiVersion"] = json!(resource.api_version);
        body["kind"] = json!(resource.kind);
        body["metadata"]["name"] = json!(name);
        let api = api(&self.admin, namespace, &resource);
        let params = PatchParams::apply("test").force();
        api.patch(name, &params, &Patch::Apply(&body))
            .await
            .with_context(|| format!("failed to apply {kind} {namespace}/{name}"))
    }

    /// Applies a custom resource of ours.
    pub async fn apply(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        spec: Value,
    ) -> Result<DynamicObject> {
        let kind = format!("claviger.dev/v1alpha1/{kind}");
        self.make(&kind, namespace, name, json!({"spec": spec})).await
    }

    /// Reads a custom resource of ours.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<DynamicObject> {
        let resource = resource(&format!("claviger.dev/v1alpha1/{kind}"));
        Ok(api(&self.admin, namespace, &resource).get(name).await?)
    }

    /// Deletes a custom resource of ours.
    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        let resource = resource(&format!("claviger.dev/v1alpha1/{kind}"));
        api(&self.admin, namespace, &resource).delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    pub fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.admin.clone(), namespace)
    }

    /// Makes a Secret, labelled or not.
    pub async fn secret(
        &self,
        namespace: &str,
        name: &str,
        label: Option<&str>,
        data: Value,
    ) -> Result<Secret> {
        let mut labels = json!({});
        if let Some(label) = label {
            labels["claviger.dev/secret"] = json!(label);
        }
        let secret = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels},
            "stringData": data,
        }))?;
        Ok(self.secrets(namespace).create(&PostParams::default(), &secret).await?)
    }

    /// A signing key, a local connector and an issuer that admits the tenant.
    pub async fn issuer(&self) -> Result<()> {
        let home = self.home.as_str();
        self.apply("SigningKey", home, "main", json!({"algorithm": "ES256"})).await?;
        let local = json!({"displayName": "Local", "upstream": {"local": {}}});
        self.apply("Connector", home, "local", local).await?;
        let issuer = json!({
            "url": format!("https://{home}.example.com"),
            "signingKeys": [{"name": "main"}],
            "connectors": [{"name": "local"}],
            "allowedClients": {"namespaces": {"from": "All"}},
            "tenants": {
                "allowedConnectors": ["local"],
                "allowedRedirectURIHosts": ["app.example.com"],
            },
        });
        self.apply("OIDCIssuer", home, "main", issuer).await.map(drop)
    }

    /// A public client with these fields besides.
    pub async fn client(&self, namespace: &str, name: &str, more: Value) -> Result<DynamicObject> {
        let mut spec = json!({
            "issuerRef": {"name": "main", "namespace": self.home},
            "type": "Public",
            "redirectURIs": ["https://app.example.com/callback"],
        });
        if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
            spec.extend(more);
        }
        self.apply("OAuth2Client", namespace, name, spec).await
    }

    /// Starts an operator that leads or follows.
    pub async fn start(&self, leads: bool) -> Result<Operator> {
        self.start_by(&self.plane.url()?, leads).await
    }

    /// The same, where it finds the API server at this URL.
    pub async fn start_by(&self, url: &str, leads: bool) -> Result<Operator> {
        let file = self.plane.service_account_kubeconfig_by(url, &self.home, "claviger").await?;
        let client = identity::client_from_file(&file).await?;
        let config = Config {
            bounds: claviger_controller::Bounds::default(),
            home: self.home.clone(),
            tenant_namespaces: BTreeSet::from([self.tenant.clone()]),
            instance: Some("test".into()),
            takes_proxies: true,
            azure_federated_token_file: None,
            observer: Arc::new(()),
        };
        let (leadership, led) = watch::channel(leads);
        let controller = Controller::new(client, config, Arc::new(Wall), led);
        let (snapshot, readiness) = (controller.snapshot(), controller.readiness());
        let assessments = controller.assessments();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(controller.run(async {
            let _ = stopped.await;
        }));
        Ok(Operator { snapshot, readiness, leadership, assessments, stop, running })
    }

    /// The user the operator is in the audit log.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:claviger", self.home)
    }

    /// What the operator asked the API server to store since then.
    pub fn writes_since(&self, mark: AuditMark) -> Result<Vec<String>> {
        let requests = self.plane.audit_log().requests_since(mark, &self.user())?;
        let reads = ["get", "list", "watch"];
        Ok(requests
            .iter()
            .filter(|r| !reads.contains(&r.verb.as_str()))
            .map(AuditedRequest::what)
            .collect())
    }

    /// `status/reason` of a condition, and its message.
    pub async fn condition(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        type_: &str,
    ) -> Result<(String, String)> {
        let object = self.get(kind, namespace, name).await?;
        let conditions = object.data["status"]["conditions"].as_array().cloned();
        let found = conditions.unwrap_or_default().into_iter().find(|one| one["type"] == type_);
        let found = found.with_context(|| format!("{kind} {name} has no condition {type_}"))?;
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        Ok((format!("{}/{}", text("status"), text("reason")), text("message")))
    }

    /// Waits until a condition says this, and returns its message.
    pub async fn until(
        &self,
        object: (&str, &str, &str),
        type_: &str,
        wanted: &str,
    ) -> Result<String> {
        let (kind, namespace, name) = object;
        eventually(PATIENCE, async || {
            let (word, message) = self.condition(kind, namespace, name, type_).await?;
            ensure!(word == wanted, "{kind} {name}: {type_} is {word}, not {wanted}: {message}");
            Ok(message)
        })
        .await
    }

    /// Makes the operator assess its world once more although nothing of it changed, and waits until it has
    /// written all that was to be written then.
    pub async fn wake(&self, operator: &Operator) -> Result<()> {
        self.look(operator, &self.tenant).await?;
        self.until_taken(operator).await?;
        self.look(operator, &self.tenant).await?;
        self.until_taken(operator).await
    }

    /// Changes a namespace's labels and waits until the operator has assessed that. Two calls for the same
    /// namespace at once would wait for each other's.
    pub async fn look(&self, operator: &Operator, namespace: &str) -> Result<()> {
        let round = ROUND.fetch_add(1, Ordering::Relaxed).to_string();
        let labels = json!({"metadata": {"labels": {"round": round}}});
        let namespaces: Api<Namespace> = Api::all(self.admin.clone());
        namespaces.patch(namespace, &PatchParams::default(), &Patch::Merge(&labels)).await?;
        eventually(PATIENCE, async || {
            let assessment = operator.assessments.borrow();
            let seen = assessment.world.namespaces.get(namespace).and_then(|l| l.get("round"));
            ensure!(seen == Some(&round), "round {round} is not assessed, but {seen:?}");
            Ok(())
        })
        .await
    }

    /// Waits until every task that writes has taken the last assessment, and so is done with those before.
    async fn until_taken(&self, operator: &Operator) -> Result<()> {
        eventually(PATIENCE, async || {
            let assessment = operator.assessments.borrow();
            let holders = (Arc::strong_count(&assessment), Arc::strong_count(&assessment.updates));
            ensure!(
                holders == (2, 2),
                "whole and updates are held by {holders:?}, not by a writer each"
            );
            Ok(())
        })
        .await
    }

    /// Waits until these operators, which are all there are, know everything that is stored and have nothing left
    /// to write: then none of them writes anything more by itself.
    pub async fn settle(&self, operators: &[&Operator]) -> Result<()> {
        eventually(PATIENCE, async || {
            let mark = self.plane.audit_log().mark()?;
            let stored = self.stored().await?;
            for operator in operators {
                let known = self.known(operator);
                ensure!(
                    known == stored,
                    "what is known is not what is stored: {known:?}, {stored:?}"
                );
                self.wake(operator).await?;
                let left = operator.assessments.borrow().updates.len();
                ensure!(left == 0, "{left} statuses are still to be written");
            }
            let writes = self.writes_since(mark)?;
            ensure!(writes.is_empty(), "still writing: {writes:?}");
            Ok(())
        })
        .await
    }

    /// All that operators follow here, as it is stored.
    async fn stored(&self) -> Result<BTreeSet<Version>> {
        let (home, tenant) = (self.home.as_str(), self.tenant.as_str());
        let all = ListParams::default();
        let (secrets, maps) =
            (all.clone().labels(labels::SECRET), all.clone().labels(labels::CONFIG_MAP));
        let ours = |kind: &str| resource(&format!("claviger.dev/v1alpha1/{kind}"));
        let mut stored = BTreeSet::new();
        for (kind, namespace, which) in [
            (ours("OIDCIssuer"), home, &all),
            (ours("Connector"), home, &all),
            (ours("SigningKey"), home, &all),
            (ours("LocalUser"), home, &all),
            (ours("OAuth2Client"), home, &all),
            (ours("OAuth2Client"), tenant, &all),
            (resource("v1/ConfigMap"), home, &maps),
            (resource("v1/Secret"), home, &secrets),
            (resource("v1/Secret"), tenant, &secrets),
        ] {
            stored
                .extend(api(&self.admin, namespace, &kind).list(which).await?.iter().map(version));
        }
        Ok(stored)
    }

    /// The same as the operator last assessed it.
    fn known(&self, operator: &Operator) -> BTreeSet<Version> {
        let assessment = operator.assessments.borrow();
        let world = &assessment.world;
        let here = |key: &ObjectKey| key.namespace == self.home || key.namespace == self.tenant;
        versions(&world.issuers, here)
            .chain(versions(&world.connectors, here))
            .chain(versions(&world.signing_keys, here))
            .chain(versions(&world.local_users, here))
            .chain(versions(&world.clients, here))
            .chain(versions(&world.config_maps, here))
            .chain(versions(&world.secrets, here))
            .chain(world.unreadable.values().flat_map(|objects| versions(objects, here)))
            .collect()
    }
}

/// UID and resource version of an object.
type Version = (Option<String>, Option<String>);

fn version(object: &impl ResourceExt) -> Version {
    (object.uid(), object.resource_version())
}

fn versions<K: ResourceExt>(
    objects: &Objects<K>,
    of: impl Fn(&ObjectKey) -> bool,
) -> impl Iterator<Item = Version> {
    objects.iter().filter(move |(key, _)| of(key)).map(|(_, object)| version(object.as_ref()))
}

impl Operator {
    pub fn issuer(&self) -> Result<Arc<Issuer>> {
        let snapshot = self.snapshot.load();
        let issuer = snapshot.issuers.first().context("no issuer is served")?;
        Ok(Arc::clone(issuer))
    }

    /// The client of this ID, if it is in service.
    pub fn client(&self, id: &str) -> Result<Arc<DomainClient>> {
        match self.issuer()?.client(id) {
            Some(ClientEntry::InService(client)) => Ok(Arc::clone(client)),
            Some(ClientEntry::OutOfService(_)) => bail!("client {id} is out of service"),
            None => bail!("client {id} is not served"),
        }
    }

    /// Its clock.
    pub fn now() -> i64 {
        Wall.now()
    }

    /// Waits until the issuer is served.
    pub async fn until_served(&self) -> Result<Arc<Issuer>> {
        eventually(PATIENCE, async || self.issuer()).await
    }

    /// Stops it and says how it ended.
    pub async fn stop(self) -> Result<()> {
        let _ = self.stop.send(());
        self.running.await??;
        Ok(())
    }
}

fn api(client: &Client, namespace: &str, resource: &ApiResource) -> Api<DynamicObject> {
    match namespace {
        "" => Api::all_with(client.clone(), resource),
        namespace => Api::namespaced_with(client.clone(), namespace, resource),
    }
}

fn resource(kind: &str) -> ApiResource {
    let parts: Vec<&str> = kind.split('/').collect();
    let (group, version, kind) = match parts[..] {
        [group, version, kind] => (group, version, kind),
        [version, kind] => ("", version, kind),
        _ => ("", "", kind),
    };
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

async fn define(client: &Client, crd: &CustomResourceDefinition) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply("e2e").force();
    let name = crd.name_any();
    let mut body = serde_json::to_value(crd)?;
    body["apiVersion"] = json!("apiextensions.k8s.io/v1");
    body["kind"] = json!("CustomResourceDefinition");
    api.patch(&name, &params, &Patch::Apply(&body)).await?;
    eventually(PATIENCE, async || {
        let conditions = api.get(&name).await?.status.and_then(|status| status.conditions);
        let established = conditions
            .iter()
            .flatten()
            .any(|one| one.type_ == "Established" && one.status == "True");
        ensure!(established, "{name} is not established");
        Ok(())
    })
    .await
}
