//! Who may register clients at an issuer, and what they get: the bounds of its `tenants`, as they apply to
//! everybody's clients in that namespace.
//!
//! What always holds: what is wrong here takes registration away and leaves the issuer in service; no client is
//! registered into the home namespace, nor where it would not be served.

use claviger_api::{DynamicRegistration, OIDCIssuer, TenantPolicy};
use claviger_domain::registration::{Bounds, Registration};
use kube::ResourceExt;
use secrecy::SecretString;

use crate::assess::client::admits_namespace;
use crate::assess::client_requests::domain_response_type;
use crate::assess::findings::Findings;
use crate::assess::grants::domain_grant;
use crate::secret::{self, Unresolved, Use};
use crate::world::World;
use claviger_api::condition::Reason;

/// Shortest initial access token, in bytes.
const MIN_TOKEN: usize = 32;

/// What the issuer says of dynamic registration, if it is in order.
pub fn registration(
    world: &World,
    issuer: &OIDCIssuer,
    findings: &mut Findings,
) -> Option<Registration> {
    let spec = issuer.spec.dynamic_registration.as_ref()?;
    let assessed = check_namespace(world, issuer, spec).and_then(|tenants| {
        Ok(Registration {
            namespace: spec.namespace.clone(),
            initial_access_tokens: tokens(world, spec)?,
            max_clients: spec.max_clients.unsigned_abs() as usize,
            bounds: bounds(issuer, tenants),
        })
    });
    match assessed {
        Ok(registration) => Some(registration),
        Err(unresolved) => {
            let message = format!("dynamicRegistration is off: {}", unresolved.message);
            findings.unready(unresolved.reason, message);
            None
        }
    }
}

/// The bounds, if clients in the namespace would be served.
fn check_namespace<'i>(
    world: &World,
    issuer: &'i OIDCIssuer,
    spec: &DynamicRegistration,
) -> Result<&'i TenantPolicy, Unresolved> {
    let namespace = &spec.namespace;
    let wrong = |why: String| Unresolved::new(Reason::InvalidSpec, why);
    if *namespace == world.home {
        return Err(wrong(format!(
            "namespace {namespace} is Claviger's own, where a client could be a cluster: name another"
        )));
    }
    if !admits_namespace(world, issuer, namespace) {
        return Err(wrong(format!(
            "spec.allowedClients does not admit namespace {namespace}: admit it, or name another"
        )));
    }
    secret::check_access(world, namespace)?;
    let name = issuer.name_any();
    let without = || wrong(format!("OIDCIssuer {name} has no spec.tenants: add the bounds"));
    issuer.spec.tenants.as_ref().ok_or_else(without)
}

fn tokens(world: &World, spec: &DynamicRegistration) -> Result<Vec<SecretString>, Unresolved> {
    let token = |reference: &claviger_api::SecretKeyRef| {
        let at = (reference.name.as_str(), reference.key.as_str());
        let bytes = secret::resolve_value(world, &world.home, at, Use::Registration)?;
        let token = secret::line(bytes).filter(|token| token.len() >= MIN_TOKEN);
        token.map(SecretString::from).ok_or_else(|| {
            let (home, name, key) = (&world.home, &reference.name, &reference.key);
            Unresolved::new(
                Reason::SecretInvalid,
                format!("Secret {home}/{name}: {key} must be text of at least {MIN_TOKEN} characters, such as openssl rand -base64 32"),
            )
        })
    };
    spec.initial_access_tokens.iter().map(token).collect()
}

fn bounds(issuer: &OIDCIssuer, tenants: &TenantPolicy) -> Bounds {
    let spec = &issuer.spec;
    // These need what no registration says: a connector, or ServiceAccounts.
    let unsayable = [claviger_api::Grant::Password, claviger_api::Grant::JwtBearer];
    let grants = tenants.allowed_grants.iter();
    let grants = grants.filter(|grant| spec.grants.contains(grant) && !unsayable.contains(grant));
    let types = tenants.allowed_response_types.iter();
    let types = types.filter(|response_type| spec.response_types.contains(response_type));
    Bounds {
        grants: grants.copied().map(domain_grant).collect(),
        response_types: types.copied().map(domain_response_type).collect(),
        scopes: tenants.allowed_scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        redirect_hosts: tenants.allowed_redirect_uri_hosts.clone(),
        jwks_hosts: tenants.allowed_jwks_uri_hosts.clone(),
        back_channel_hosts: tenants.allowed_back_channel_logout_hosts.clone(),
    }
}
