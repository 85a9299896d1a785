//! Who is no user of a connector and gets tokens all the same: a client itself, a Kubernetes ServiceAccount,
//! and whoever an issuer that a client trusts vouches for, such as a job of a CI system.
//!
//! What always holds: no workload is a user, whoever chose its name. Its `sub` names no connector, and a user's
//! names one; of workloads a client's is its ID, with one slash at the most, a ServiceAccount's begins with
//! `serviceaccount/` and has two, and all others begin with an https URL. Nobody signed in, so there is neither
//! session nor refresh token, and what was given ends by its time.

use std::collections::{BTreeMap, BTreeSet};

use claviger_protocol::subject;
use serde_json::{Value, json};

use crate::client::{Client, ServiceAccount};
use crate::cluster_token::ProvenAccount;
use crate::issuer::{Issuer, SubjectFormat};
use crate::trusted_issuer::TrustedIssuer;

/// Longest `sub`, in characters (OIDC Core 2).
pub const MAX_SUBJECT: usize = 255;

/// Somebody who is no user of a connector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload {
    /// Its identifier, which no other workload has.
    pub id: String,
    /// With scope `groups`.
    pub groups: Vec<String>,
    /// With scope `profile`.
    pub username: Option<String>,
    /// Further claims, whatever the scopes.
    pub claims: BTreeMap<String, Value>,
}

/// Which workloads a client brings, besides itself, and whose it takes. Nobody by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedWorkloads {
    /// Issuers whose tokens it exchanges (RFC 8693).
    pub trusted_issuers: Vec<TrustedIssuer>,
    /// `ServiceAccounts` whose tokens are grants (RFC 7523).
    pub service_accounts: Vec<ServiceAccount>,
    /// Client IDs that may bring theirs here, by exchange or in the audience of a token.
    pub brought_by: BTreeSet<String>,
    /// Groups those `ServiceAccounts` are in; below `<namespace>:` for a client outside home.
    pub service_account_groups: Vec<String>,
}

impl Workload {
    /// A client itself.
    pub fn of_client(client: &Client) -> Self {
        let of = &client.as_subject;
        let claims = of.claims.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
        Self {
            id: client.id.clone(),
            groups: of.groups.clone(),
            username: of.username.clone(),
            claims: claims.collect(),
        }
    }

    /// Whom another issuer calls by this `sub`.
    pub fn of_issuer(issuer: &str, sub: &str, groups: Vec<String>) -> Self {
        // An issuer has no fragment, so the two are told apart.
        Self { id: format!("{issuer}#{sub}"), groups, ..Self::default() }
    }

    /// A ServiceAccount; it says of itself what Kubernetes says of it.
    pub fn of_account(account: &ProvenAccount, groups: Vec<String>) -> Self {
        let ProvenAccount { namespace, name, uid, .. } = account;
        let mut known = json!({ "namespace": namespace, "serviceaccount": { "name": name } });
        if let Some(uid) = uid {
            known["serviceaccount"]["uid"] = json!(uid);
        }
        Self {
            id: format!("serviceaccount/{namespace}/{name}"),
            groups,
            username: None,
            claims: BTreeMap::from([("kubernetes.io".to_owned(), known)]),
        }
    }

    /// `sub`.
    pub fn subject(&self, issuer: &Issuer) -> String {
        match issuer.subject {
            SubjectFormat::Dex => subject::encode(&self.id, ""),
            SubjectFormat::Plain => format!(":{}", self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::World;

    #[test]
    fn no_two_kinds_of_workloads_have_one_name_and_none_that_of_a_user() {
        let mut world = World::new();
        let account = ProvenAccount {
            subject: "system:serviceaccount:team:app".into(),
            namespace: "team".into(),
            name: "app".into(),
            uid: None,
            expires_at: 0,
        };
        let of_issuer = Workload::of_issuer("https://ci.example", "repo:a/b", Vec::new());
        let of_account = Workload::of_account(&account, Vec::new());
        assert_eq!(of_issuer.id, "https://ci.example#repo:a/b");
        assert_eq!(of_account.id, "serviceaccount/team/app");
        world.issuer.subject = SubjectFormat::Plain;
        // A connector has a name, and it has no colon.
        assert_eq!(of_issuer.subject(&world.issuer), ":https://ci.example#repo:a/b");
        assert_eq!(of_account.subject(&world.issuer), ":serviceaccount/team/app");
        world.issuer.subject = SubjectFormat::Dex;
        assert_eq!(
            of_account.subject(&world.issuer),
            subject::encode("serviceaccount/team/app", "")
        );
    }
}
