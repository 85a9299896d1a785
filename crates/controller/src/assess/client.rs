//! OAuth2Client → conditions, entry in the issuer, and the Secret to make for it.
//!
//! What always holds:
//! - a client outside home is `<namespace>/<name>`, whatever it says, and gets nothing its issuer's
//!   `tenants` does not grant: lists that ask for more are refused, of two numbers the stricter wins;
//! - a client whose issuer is not in home is nobody's business here: no status, no entry, no Secret;
//! - of two clients with one ID the oldest has it, in service or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use claviger_api::condition::Reason;
use claviger_api::{
    ClientConsent, IssuerConsent, NamespacesFrom, OAuth2Client, OAuth2ClientStatus, OIDCIssuer,
    SigningAlgorithm, TenantConditions, TenantConsent, TenantPolicy,
};
use claviger_domain::client::{Client, ClientAuthentication, Demands, Grant};
use claviger_domain::issuer::{ClientEntry, OutOfService};
use claviger_domain::policy::Condition;
use claviger_domain::workload::AllowedWorkloads;
use claviger_jose::Algorithm;
use kube::ResourceExt;

use crate::assess::age::by_age;
use crate::assess::client_authentication::{self, KeyMemo, Subject};
use crate::assess::client_credentials::client_credentials;
use crate::assess::client_lifetimes::lifetimes;
use crate::assess::client_logout::client_logout;
use crate::assess::client_requests;
use crate::assess::client_secret::ClientSecret;
use crate::assess::client_uris;
use crate::assess::client_users;
use crate::assess::condition::{ConditionMemo, condition};
use crate::assess::findings::Findings;
use crate::assess::grants::grants;
use crate::assess::introspection::introspection;
use crate::assess::issuer::AssessedIssuer;
use crate::assess::password_grant::password_connector;
use crate::assess::workloads::{Place, workloads};
use crate::assess::{algorithm, selector};
use crate::world::{ObjectKey, World};

/// What came of one client.
#[derive(Debug)]
pub struct AssessedClient {
    /// The object.
    pub object: Arc<OAuth2Client>,
    /// Its client ID; `None` if it may not have the one it wants.
    pub id: Option<String>,
    /// What was found.
    pub findings: Findings,
    /// The issuer it belongs to, if that exists.
    pub issuer: Option<String>,
    /// What requests at that issuer see.
    pub entry: Option<ClientEntry>,
    /// The Secret Claviger keeps for it.
    pub secret: Option<ClientSecret>,
}

impl AssessedClient {
    /// The status but for its conditions.
    pub fn status(&self) -> OAuth2ClientStatus {
        OAuth2ClientStatus {
            observed_generation: self.object.metadata.generation,
            client_id: self.id.clone(),
            conditions: Vec::new(),
        }
    }
}

/// Assesses every client whose issuer is in home, oldest first.
pub fn assess(
    world: &World,
    issuers: &BTreeMap<String, AssessedIssuer>,
    (keys, conditions): (&mut KeyMemo, &mut ConditionMemo),
) -> Vec<AssessedClient> {
    keys.turn();
    conditions.turn();
    let mut taken: BTreeMap<(String, String), ObjectKey> = BTreeMap::new();
    by_age(&world.clients)
        .filter(|client| issuer_namespace(client) == world.home)
        .map(|client| {
            let issuer = issuers.get(&client.spec.issuer_ref.name);
            let mut assessed = Assessor::new(world, client, issuer).assess(keys, conditions);
            claim(&mut assessed, &mut taken);
            assessed
        })
        .collect()
}

fn issuer_namespace(client: &OAuth2Client) -> String {
    let reference = &client.spec.issuer_ref;
    reference.namespace.clone().or_else(|| client.namespace()).unwrap_or_default()
}

/// Gives the ID to the first (oldest) client that may claim it, and refuses the others.
fn claim(client: &mut AssessedClient, taken: &mut BTreeMap<(String, String), ObjectKey>) {
    let (Some(id), Some(issuer)) = (&client.id, &client.issuer) else {
        return;
    };
    let own = ObjectKey::of(client.object.as_ref());
    let holder = taken.entry((issuer.clone(), id.clone())).or_insert_with(|| own.clone());
    if *holder == own {
        return;
    }
    client.findings.reject(
        Reason::ClientIDConflict,
        format!(
            "client ID {id} belongs to the older OAuth2Client {holder}: choose another clientID"
        ),
    );
    client.entry = None;
    client.secret = None;
}

/// Whether an issuer admits clients of a namespace that is not home.
pub fn admits_namespace(world: &World, issuer: &OIDCIssuer, namespace: &str) -> bool {
    let namespaces = &issuer.spec.allowed_clients.namespaces;
    match namespaces.from {
        NamespacesFrom::Same => false,
        NamespacesFrom::All => true,
        NamespacesFrom::Selector => {
            let labels = world.namespaces.get(namespace);
            let selector = namespaces.selector.as_ref();
            selector.zip(labels).is_some_and(|(s, labels)| selector::matches(s, labels))
        }
    }
}

/// One client under assessment.
struct Assessor<'w> {
    world: &'w World,
    object: &'w Arc<OAuth2Client>,
    issuer: Option<&'w AssessedIssuer>,
    findings: Findings,
    namespace: String,
}

impl<'w> Assessor<'w> {
    fn new(
        world: &'w World,
        object: &'w Arc<OAuth2Client>,
        issuer: Option<&'w AssessedIssuer>,
    ) -> Self {
        let namespace = object.namespace().unwrap_or_default();
        Self { world, object, issuer, findings: Findings::default(), namespace }
    }

    fn assess(mut self, keys: &mut KeyMemo, conditions: &mut ConditionMemo) -> AssessedClient {
        let id = self.id();
        let Some(issuer) = self.serving_issuer() else {
            return self.finish(id, None, None);
        };
        let admitted = self.admit(&issuer.object);
        let policy = self.tenant_policy(&issuer.object);
        let spec = &self.object.spec;
        let grants = grants(spec, &issuer.object.spec, policy, &mut self.findings);
        let scopes = client_users::scopes(spec, &issuer.object, policy, &mut self.findings);
        let (connectors, password_connector) = self.sign_in(issuer, policy, &grants);
        let redirects = grants.contains(&Grant::AuthorizationCode);
        let redirect_uris = client_uris::redirect_uris(spec, policy, redirects, &mut self.findings);
        let logout = client_logout(spec, policy, &redirect_uris, &mut self.findings);
        let response_types =
            client_requests::response_types(spec, &issuer.object, policy, &mut self.findings);
        let allowed_resources = client_requests::resources(spec, policy, &mut self.findings);
        let id_token_algorithm = self.algorithm(issuer);
        let userinfo_algorithm = self.userinfo_algorithm(issuer);
        client_authentication::check_fits_type(spec, &mut self.findings);
        let identity = id.as_deref().filter(|_| admitted);
        let identity = identity.map(|id| (id, issuer.object.spec.url.as_str()));
        let (authentication, secret) = self.authentication(identity, policy, keys);
        let introspection = introspection(spec, policy, &mut self.findings);
        let as_subject = client_credentials(spec, &self.namespace, policy, &mut self.findings);
        let condition = self.condition(id.as_deref(), issuer, conditions);
        let workloads = self.workloads(&issuer.object, policy);
        if !admitted {
            return self.finish(id, None, None);
        }
        let client = authentication.zip(id.clone()).zip(id_token_algorithm).map(
            |((authentication, id), id_token_algorithm)| Client {
                uid: self.object.uid().unwrap_or_default(),
                display_name: self.object.spec.display_name.clone().unwrap_or_else(|| id.clone()),
                id,
                authentication,
                redirect_uris,
                post_logout_redirect_uris: client_uris::post_logout(spec),
                grants,
                response_types,
                allowed_resources,
                sharing: client_requests::sharing(&self.object.spec, policy),
                required_acr: self.object.spec.required_acr.iter().cloned().collect(),
                scopes,
                allowed_connectors: connectors,
                password_connector,
                allowed_groups: self.object.spec.allowed_groups.iter().cloned().collect(),
                condition,
                trusted_peers: self.object.spec.trusted_peers.iter().cloned().collect(),
                pkce_required: self.object.spec.pkce_required(),
                demands: self.demands(),
                id_token_algorithm,
                userinfo_algorithm,
                max_id_token: self.object.spec.max_id_token_bytes.unsigned_abs() as usize,
                lifetimes: lifetimes(spec, &issuer.object, policy),
                consent_required: self.consent_required(&issuer.object, policy),
                introspection,
                as_subject,
                exchange_peers: self.object.spec.exchange_peers.iter().cloned().collect(),
                pages: Arc::new(client_uris::pages(spec)),
                registration_digest: self.registration_digest(&issuer.object),
                logout,
                workloads,
            },
        );
        self.finish(id, client, secret)
    }

    /// How the client proves itself: of its ID, if it may have that, at the issuer of this URL.
    fn authentication(
        &mut self,
        identity: Option<(&str, &str)>,
        policy: Option<&TenantPolicy>,
        keys: &mut KeyMemo,
    ) -> (Option<ClientAuthentication>, Option<ClientSecret>) {
        let Some(identity) = identity else { return (None, None) };
        let subject = Subject { world: self.world, client: self.object, identity, policy };
        client_authentication::assess(subject, keys, &mut self.findings)
    }

    fn workloads(
        &mut self,
        issuer: &OIDCIssuer,
        tenant: Option<&TenantPolicy>,
    ) -> AllowedWorkloads {
        let issuer_url = issuer.spec.url.as_str();
        let place = Place { issuer_url, namespace: &self.namespace, tenant };
        workloads(&self.object.spec, place, &mut self.findings)
    }

    /// The connectors whose users may sign in, and the one that checks passwords the client is told.
    fn sign_in(
        &mut self,
        issuer: &AssessedIssuer,
        policy: Option<&TenantPolicy>,
        grants: &BTreeSet<Grant>,
    ) -> (Option<BTreeSet<String>>, Option<String>) {
        let spec = &self.object.spec;
        let users = [Grant::AuthorizationCode, Grant::DeviceCode, Grant::Password];
        let signs_in = users.iter().any(|grant| grants.contains(grant));
        let connectors =
            client_users::connectors(spec, issuer, policy, signs_in, &mut self.findings);
        let allowed = (grants, connectors.as_ref());
        let asks = (spec, policy);
        let checks = password_connector(self.world, asks, issuer, allowed, &mut self.findings);
        (connectors, checks)
    }

    /// The issuer, if it exists; whether it serves is noted.
    fn serving_issuer(&mut self) -> Option<&'w AssessedIssuer> {
        let (reason, message) = match self.issuer {
            None => (
                Reason::IssuerNotFound,
                format!(
                    "OIDCIssuer {}/{} not found: create it, or correct issuerRef",
                    self.world.home, self.object.spec.issuer_ref.name
                ),
            ),
            Some(issuer) if !issuer.findings.is_in_service() => (
                Reason::IssuerNotReady,
                format!("OIDCIssuer {} is out of service: see its conditions", issuer.name()),
            ),
            Some(issuer) => return Some(issuer),
        };
        self.findings.unresolved(crate::secret::Unresolved::new(reason, message));
        self.issuer
    }

    fn finish(
        self,
        id: Option<String>,
        client: Option<Client>,
        secret: Option<ClientSecret>,
    ) -> AssessedClient {
        let hidden = self.findings.rejections().any(|reason| {
            matches!(reason, Reason::ClientIDNotAllowed | Reason::NamespaceNotAllowed)
        });
        let entry = match client {
            _ if hidden || id.is_none() || self.issuer.is_none() => None,
            Some(client) if self.findings.is_in_service() => {
                Some(ClientEntry::InService(Arc::new(client)))
            }
            client => Some(ClientEntry::OutOfService(Arc::new(self.out_of_service(client)))),
        };
        AssessedClient {
            object: Arc::clone(self.object),
            id,
            issuer: self.issuer.map(|issuer| issuer.name().to_owned()),
            secret: secret.filter(|_| self.findings.is_accepted()),
            findings: self.findings,
            entry,
        }
    }

    /// What is known of the client all the same.
    fn out_of_service(&self, client: Option<Client>) -> OutOfService {
        let issuer = self.issuer.map(|issuer| &issuer.object);
        let secrets = match client.map(|client| client.authentication) {
            Some(ClientAuthentication::Secret(live)) => live,
            _ => Vec::new(),
        };
        OutOfService {
            uid: self.object.uid().unwrap_or_default(),
            registration_digest: issuer.and_then(|issuer| self.registration_digest(issuer)),
            secrets,
        }
    }

    fn in_home(&self) -> bool {
        self.namespace == self.world.home
    }

    /// The client ID. A slash is what keeps the two kinds apart: names and home IDs have none.
    fn id(&mut self) -> Option<String> {
        let wanted = self.object.spec.client_id.as_deref();
        if !self.in_home() {
            let Some(wanted) = wanted else {
                return Some(format!("{}/{}", self.namespace, self.object.name_any()));
            };
            self.findings.reject(
                Reason::ClientIDNotAllowed,
                format!(
                    "clientID {wanted:?} is not allowed outside namespace {}: remove it, the client ID is {}/{}",
                    self.world.home,
                    self.namespace,
                    self.object.name_any()
                ),
            );
            return None;
        }
        let id = wanted.map_or_else(|| self.object.name_any(), ToOwned::to_owned);
        let printable = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic());
        if printable && !id.contains('/') {
            return Some(id);
        }
        self.findings.reject(
            Reason::InvalidSpec,
            "clientID must be printable ASCII without spaces and without '/': remove them",
        );
        None
    }

    /// Whether the issuer admits clients of this namespace at all.
    fn admit(&mut self, issuer: &OIDCIssuer) -> bool {
        if self.in_home() {
            return true;
        }
        let allowed = admits_namespace(self.world, issuer, &self.namespace);
        let namespace = &self.namespace;
        let name = issuer.name_any();
        if !allowed {
            self.findings.reject(
                Reason::NamespaceNotAllowed,
                format!("OIDCIssuer {name} does not admit clients of namespace {namespace}: its administrator must say so in spec.allowedClients"),
            );
        } else if issuer.spec.tenants.is_none() {
            self.findings.reject(
                Reason::NamespaceNotAllowed,
                format!("OIDCIssuer {name} has no spec.tenants, so no client outside namespace {} is served: its administrator must set the bounds there", self.world.home),
            );
        }
        allowed && issuer.spec.tenants.is_some()
    }

    /// The bounds on this client; `None` for a client in home.
    fn tenant_policy<'i>(&self, issuer: &'i OIDCIssuer) -> Option<&'i TenantPolicy> {
        issuer.spec.tenants.as_ref().filter(|_| !self.in_home())
    }

    fn algorithm(&mut self, issuer: &AssessedIssuer) -> Option<Algorithm> {
        let keys = issuer.keys.as_ref()?;
        let Some(wanted) = self.object.spec.id_token_signing_algorithm else {
            return Some(keys.default_algorithm);
        };
        self.available(issuer, wanted, "idTokenSigningAlgorithm")
    }

    /// That of answers from `/userinfo`; none where they are plain.
    fn userinfo_algorithm(&mut self, issuer: &AssessedIssuer) -> Option<Algorithm> {
        let wanted = self.object.spec.userinfo_signing_algorithm?;
        self.available(issuer, wanted, "userinfoSigningAlgorithm")
    }

    fn available(
        &mut self,
        issuer: &AssessedIssuer,
        wanted: SigningAlgorithm,
        field: &str,
    ) -> Option<Algorithm> {
        let found = algorithm(wanted);
        if issuer.keys.as_ref()?.algorithms.contains(&found) {
            return Some(found);
        }
        self.findings.reject(
            Reason::AlgorithmNotAvailable,
            format!("the issuer has no signing key for {}: remove {field}, or add a SigningKey of it to the issuer", wanted.as_str()),
        );
        None
    }

    fn condition(
        &mut self,
        id: Option<&str>,
        issuer: &AssessedIssuer,
        memo: &mut ConditionMemo,
    ) -> Option<Arc<Condition>> {
        let policy = self.tenant_policy(&issuer.object);
        let forbidden = policy.is_some_and(|p| p.conditions == TenantConditions::Forbidden);
        if forbidden && self.object.spec.condition.is_some() {
            self.findings.reject(
                Reason::TenantPolicyViolation,
                "a condition reads everything about a user, and the issuer's tenants.conditions is Forbidden: remove condition, or ask the issuer's administrator",
            );
            return None;
        }
        condition(self.object, id?, &issuer.object, memo, &mut self.findings)
    }

    fn demands(&self) -> Demands {
        let spec = &self.object.spec;
        Demands { pushed_requests: spec.pushed_requests_required(), dpop: spec.dpop_required() }
    }

    /// How the client may manage itself, if it is where those are that registered themselves.
    fn registration_digest(&self, issuer: &OIDCIssuer) -> Option<String> {
        let registrations = issuer.spec.dynamic_registration.as_ref()?;
        let registered = self.object.spec.registration.as_ref()?;
        let here = registrations.namespace == self.namespace;
        here.then(|| registered.access_token_digest.clone())
    }

    fn consent_required(&self, issuer: &OIDCIssuer, policy: Option<&TenantPolicy>) -> bool {
        if policy.is_some_and(|policy| policy.consent == TenantConsent::Required) {
            return true;
        }
        match self.object.spec.consent {
            Some(ClientConsent::Required) => true,
            Some(ClientConsent::Skip) => false,
            None => issuer.spec.consent == IssuerConsent::Required,
        }
    }
}
