//! An issuer's own claims → what tokens say, tried on their own examples first.
//!
//! What always holds: no claim here has a name that anybody else gives a meaning; one that is not CEL, or comes
//! out otherwise than one of its examples says, takes the issuer out of service, since a token that lacks a claim may
//! open doors; they are read once a generation.

use std::sync::Arc;

use claviger_api::condition::Reason;
use claviger_api::{OAuth2ClientSpec, OIDCIssuer, TenantPolicy};
use claviger_domain::claim::is_reserved;
use claviger_domain::custom_claim::{CustomClaim, CustomClaims};
use claviger_domain::issue;
use claviger_domain::issuer::SubjectFormat;
use claviger_domain::policy::{Expression, Facts};
use claviger_domain::scopes::KNOWN_SCOPES;
use kube::ResourceExt;
use serde_json::Value;

use crate::assess::condition::{identity_of, subject_format};
use crate::assess::findings::Findings;
use crate::assess::read_before::ReadBefore;

/// Claims that were read before, of an issuer's generation.
pub type ClaimMemo = ReadBefore<Option<i64>, Result<CustomClaims, Vec<String>>>;

/// The claims of an issuer's own.
pub fn custom_claims(
    issuer: &OIDCIssuer,
    memo: &mut ClaimMemo,
    findings: &mut Findings,
) -> CustomClaims {
    let read = memo.get(issuer.uid(), issuer.metadata.generation, || read(issuer));
    read.unwrap_or_else(|faults| {
        for fault in faults {
            findings.reject(Reason::InvalidSpec, fault);
        }
        CustomClaims::default()
    })
}

fn read(issuer: &OIDCIssuer) -> Result<CustomClaims, Vec<String>> {
    let format = subject_format(issuer);
    let (mut claims, mut faults) = (Vec::new(), Vec::new());
    for spec in &issuer.spec.claims {
        match read_one(spec, format) {
            Ok(claim) => claims.push(claim),
            Err(of_it) => {
                faults.extend(of_it.into_iter().map(|why| format!("claims: {}: {why}", spec.name)));
            }
        }
    }
    if faults.is_empty() { Ok(CustomClaims::new(claims)) } else { Err(faults) }
}

fn read_one(
    spec: &claviger_api::CustomClaim,
    format: SubjectFormat,
) -> Result<CustomClaim, Vec<String>> {
    if is_reserved(&spec.name) {
        return Err(vec!["it has a meaning of its own: choose another name".to_owned()]);
    }
    if spec.scope == "offline_access" || spec.scope.starts_with("audience:") {
        return Err(vec![format!("scope {} has a meaning of its own: choose another", spec.scope)]);
    }
    let expression = Expression::compile(&spec.expression, &Facts::OF_CLAIMS)
        .and_then(|expression| expression.affords(spec.examples.len()).map(|()| expression))
        .map_err(|error| vec![format!("expression: {error}")])?;
    let faults: Vec<_> = spec
        .examples
        .iter()
        .filter_map(|example| {
            let fault = try_on(spec, &expression, example, format).err()?;
            Some(format!("example {:?}: {fault}", example.name))
        })
        .collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    let expression = Arc::new(expression);
    Ok(CustomClaim { name: spec.name.clone(), scope: spec.scope.clone(), expression })
}

fn try_on(
    spec: &claviger_api::CustomClaim,
    expression: &Expression,
    example: &claviger_api::ClaimExample,
    format: SubjectFormat,
) -> Result<(), String> {
    let expected: Value = serde_json::from_str(&example.expect_json)
        .map_err(|error| format!("expectJSON is no JSON: {error}"))?;
    let identity = identity_of(&example.user);
    let connector = &example.user.connector;
    let by_default = ["openid", spec.scope.as_str()];
    let stated: Vec<_> = example.scopes.iter().map(String::as_str).collect();
    let facts = Facts {
        subject: &issue::subject_of(format, connector, &identity.user_id),
        identity: &identity,
        connector,
        client_id: &example.client_id,
        scopes: if stated.is_empty() { &by_default } else { &stated },
        acr: "",
    };
    match expression.claim(&facts) {
        Ok(value) if value.clone().unwrap_or_default() == expected => Ok(()),
        Ok(value) => Err(format!("expected {expected}, came out: {}", value.unwrap_or_default())),
        Err(error) => Err(format!("expected {expected}, came out: {error}")),
    }
}

/// The scopes of the issuer's own that a client may ask for. Nobody has one by default, and a tenant none that its
/// issuer does not grant.
pub fn custom_scopes<'s>(
    spec: &'s OAuth2ClientSpec,
    issuer: &OIDCIssuer,
    tenant: Option<&TenantPolicy>,
    findings: &mut Findings,
) -> Vec<&'s str> {
    let mut granted = Vec::new();
    for scope in spec.custom_scopes.iter().map(String::as_str) {
        if KNOWN_SCOPES.contains(&scope) {
            findings.reject(
                Reason::InvalidSpec,
                format!("customScopes: {scope} is one of OpenID Connect's: move it to scopes"),
            );
        } else if tenant.is_some_and(|t| !t.allowed_custom_scopes.iter().any(|one| one == scope)) {
            findings.reject(
                Reason::TenantPolicyViolation,
                format!("scope {scope} is not in the issuer's tenants.allowedCustomScopes: remove it from customScopes, or ask the issuer's administrator"),
            );
        } else if !issuer.spec.claims.iter().any(|claim| claim.scope == scope) {
            findings
                .note(format!("scope {scope} reveals none of the issuer's claims: it is withheld"));
        } else {
            granted.push(scope);
        }
    }
    granted
}
