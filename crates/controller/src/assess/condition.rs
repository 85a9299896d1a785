//! A client's condition → what requests hold its users against, tried on its own examples first.
//!
//! What always holds: a condition that is not CEL, or comes out otherwise than one of its examples says,
//! takes its client out of service; it is read once a generation, never for a request.

use std::collections::BTreeMap;
use std::sync::Arc;

use claviger_api::condition::Reason;
use claviger_api::{
    ClientCondition, ConditionVerdict, ExampleUser, OAuth2Client, OIDCIssuer, Subject,
};
use claviger_domain::identity::Identity;
use claviger_domain::issue;
use claviger_domain::issuer::SubjectFormat;
use claviger_domain::policy::{Condition, ConditionError, Facts};
use kube::ResourceExt;

use crate::assess::findings::Findings;
use crate::assess::read_before::ReadBefore;

/// Conditions that were read before, of a client's generation and of how subjects were made then.
pub type ConditionMemo =
    ReadBefore<(Option<i64>, SubjectFormat), Result<Arc<Condition>, Vec<String>>>;

/// The condition of a client, if it has one that can be served.
pub fn condition(
    client: &OAuth2Client,
    id: &str,
    issuer: &OIDCIssuer,
    memo: &mut ConditionMemo,
    findings: &mut Findings,
) -> Option<Arc<Condition>> {
    let spec = client.spec.condition.as_ref()?;
    let format = subject_format(issuer);
    let of = (client.metadata.generation, format);
    match memo.get(client.uid(), of, || read(spec, id, format)) {
        Ok(condition) => Some(condition),
        Err(faults) => {
            for fault in faults {
                findings.reject(Reason::InvalidSpec, format!("condition: {fault}"));
            }
            None
        }
    }
}

/// How an issuer makes subjects.
pub fn subject_format(issuer: &OIDCIssuer) -> SubjectFormat {
    match issuer.spec.subject {
        Subject::Dex => SubjectFormat::Dex,
        Subject::Plain => SubjectFormat::Plain,
    }
}

fn read(
    spec: &ClientCondition,
    client_id: &str,
    format: SubjectFormat,
) -> Result<Arc<Condition>, Vec<String>> {
    let condition = Condition::compile(&spec.expression, spec.message.as_deref())
        .and_then(|condition| condition.affords(spec.examples.len()).map(|()| condition))
        .map_err(|error| vec![format!("expression: {error}")])?;
    let mut faults = Vec::new();
    for example in &spec.examples {
        let identity = identity_of(&example.user);
        let connector = &example.user.connector;
        let subject = issue::subject_of(format, connector, &identity.user_id);
        let scopes: Vec<_> = example.scopes.iter().map(String::as_str).collect();
        let facts = Facts {
            subject: &subject,
            identity: &identity,
            connector,
            client_id,
            scopes: &scopes,
            acr: example.acr.as_deref().unwrap_or_default(),
        };
        let came_out = match condition.check(&facts) {
            Ok(()) => Ok(ConditionVerdict::Allow),
            Err(ConditionError::NotMet(_)) => Ok(ConditionVerdict::Deny),
            Err(ConditionError::Failed(error)) => Err(error.to_string()),
        };
        if came_out != Ok(example.expect) {
            let came_out = came_out.map_or_else(|error| error, |verdict| format!("{verdict:?}"));
            faults.push(format!(
                "example {:?}: expected {:?}, came out: {came_out}",
                example.name, example.expect
            ));
        }
    }
    if faults.is_empty() { Ok(Arc::new(condition)) } else { Err(faults) }
}

/// An example's user as a connector would have reported them.
pub fn identity_of(user: &ExampleUser) -> Identity {
    let claims = user.claims.iter().map(|claim| (claim.name.clone(), claim.value.clone().into()));
    Identity {
        user_id: user.user_id.clone(),
        email: user.email.clone(),
        email_verified: user.email_verified,
        name: user.name.clone(),
        preferred_username: user.preferred_username.clone(),
        groups: user.groups.clone(),
        extra: claims.collect::<BTreeMap<_, _>>(),
    }
}
