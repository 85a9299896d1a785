//! Microsoft Entra ID: work, school and personal accounts, and their groups from Microsoft Graph.
//!
//! What always holds: a token names the issuer of its own tenant and is signed by a key that Microsoft publishes for that
//! issuer; whoever's tenant is not admitted is nobody; groups are read whole from Graph, whatever scopes a client asks
//! for, and never from the token, which leaves them out where there are many.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use claviger_api::connector::microsoft::{
    MicrosoftCloud, MicrosoftEmail, MicrosoftGroupNames, MicrosoftGroupTypes, MicrosoftGroups,
    MicrosoftUpstream,
};
use claviger_api::connector::oidc::{OidcClaims, OidcOfflineAccess, OidcUpstream};
use claviger_domain::connector::Authenticated;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use crate::http::Http;
use crate::oauth2::{self, Api, ApiError, Paging};
use crate::oidc::client_authentication::{ClientAuthentication, certificate_refs};
use crate::oidc::federated_token::FederatedToken;
use crate::oidc::tokens::Received;
use crate::oidc::vendor::{Vendor, settings};
use crate::oidc::{Dialect, Provider};
use crate::{BuildError, Resolved, SecretRef};

/// The tenant of all personal accounts.
const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
/// What stands for a token's tenant in the configuration of many tenants.
const TENANT: &str = "{tenantid}";
/// What Graph calls a group.
const GROUP: &str = "#microsoft.graph.group";

/// What is Microsoft's own.
#[derive(Debug)]
struct Microsoft {
    /// Where users sign in.
    login: &'static str,
    graph: Url,
    /// Those that are admitted.
    tenants: BTreeSet<String>,
    /// Whether the address is for many tenants, each with an issuer of its own.
    has_many: bool,
    email: MicrosoftEmail,
    groups: Option<MicrosoftGroups>,
    domain_hint: Option<String>,
}

/// A user, as Graph says.
#[derive(Deserialize)]
struct Me {
    id: String,
    mail: Option<String>,
    #[serde(rename = "userPrincipalName")]
    principal_name: Option<String>,
    #[serde(rename = "accountEnabled")]
    enabled: Option<bool>,
}

#[derive(Deserialize)]
struct DirectoryObject {
    #[serde(rename = "@odata.type")]
    kind: Option<String>,
    id: String,
    #[serde(rename = "displayName")]
    display_name: Option<String>,
    #[serde(rename = "securityEnabled")]
    is_security: Option<bool>,
}

/// Which keys of which Secrets the connector needs.
pub fn secret_refs(spec: &MicrosoftUpstream) -> Vec<SecretRef> {
    let certificate = spec.certificate_secret_ref.iter().flat_map(certificate_refs);
    let others = oauth2::secret_refs(spec.client_secret_ref.as_ref(), &spec.tls);
    others.into_iter().chain(certificate).collect()
}

/// Contacts nobody. `name` is for logs.
///
/// # Errors
/// [`BuildError`] names the field and the fix.
pub fn provider(
    name: &str,
    spec: &MicrosoftUpstream,
    resolved: &Resolved,
) -> Result<Provider, BuildError> {
    let (login, graph) = addresses(spec.cloud);
    let tenant = if spec.tenant == "consumers" { CONSUMERS } else { spec.tenant.as_str() };
    let has_many = matches!(tenant, "common" | "organizations");
    if has_many && spec.allowed_tenants.is_empty() {
        let why = "microsoft: tenant common and organizations admit every tenant in the world: list those you mean in allowedTenants, or name one tenant";
        return Err(BuildError::Oidc(why.to_owned()));
    }
    let mut scopes: Vec<String> = ["profile", "email", "User.Read"].map(str::to_owned).into();
    if spec.groups.is_some() {
        scopes.push("GroupMember.Read.All".to_owned());
    }
    let issuer = format!("{login}/{tenant}/v2.0");
    let oidc = OidcUpstream {
        scopes,
        offline_access: OidcOfflineAccess::Scope,
        claims: OidcClaims { user_id: "oid".to_owned(), ..OidcClaims::default() },
        ..settings(&issuer, &spec.client_id, spec.client_secret_ref.as_ref(), &spec.tls)
    };
    let stated = if has_many { TENANT } else { tenant };
    let vendor = Microsoft {
        login,
        graph: oauth2::url("microsoft", "Graph", graph)?,
        tenants: if has_many {
            spec.allowed_tenants.iter().map(|tenant| tenant.to_lowercase()).collect()
        } else {
            [tenant.to_lowercase()].into()
        },
        has_many,
        email: spec.email,
        groups: spec.groups.clone(),
        domain_hint: spec.domain_hint.clone(),
    };
    let dialect = Dialect {
        field: "microsoft",
        vendor: Some(Arc::new(vendor)),
        stated_issuer: Some(format!("{login}/{stated}/v2.0")),
        authentication: Some(authentication(spec, resolved)?),
    };
    Provider::speaking(name, &oidc, resolved, dialect)
}

/// By what Microsoft knows us.
fn authentication(
    spec: &MicrosoftUpstream,
    resolved: &Resolved,
) -> Result<ClientAuthentication, BuildError> {
    let refused = |why: &str| Err(BuildError::Oidc(format!("microsoft: {why}")));
    match (&spec.client_secret_ref, &spec.certificate_secret_ref, &spec.federated_credential) {
        (Some(at), None, None) => ClientAuthentication::posting(at, resolved),
        (None, Some(at), None) => ClientAuthentication::certified(at, resolved),
        (None, None, Some(_)) => match &resolved.azure_federated_token_file {
            Some(path) => Ok(ClientAuthentication::Federated(FederatedToken::at(path.clone()))),
            None => refused(
                "federatedCredential needs a token of this process: start Claviger with --azure-federated-token-file (in the \
                 chart, azureFederatedToken.create: true)",
            ),
        },
        // The schema says so too; an older one would not.
        _ => refused(
            "say exactly one of clientSecretRef, certificateSecretRef and federatedCredential",
        ),
    }
}

/// Where a cloud signs users in, and where its Graph is.
fn addresses(cloud: MicrosoftCloud) -> (&'static str, &'static str) {
    match cloud {
        MicrosoftCloud::Global => {
            ("https://login.microsoftonline.com", "https://graph.microsoft.com/v1.0")
        }
        MicrosoftCloud::USGovernment => {
            ("https://login.microsoftonline.us", "https://graph.microsoft.us/v1.0")
        }
        MicrosoftCloud::China => (
            "https://login.partner.microsoftonline.cn",
            "https://microsoftgraph.chinacloudapi.cn/v1.0",
        ),
    }
}

#[async_trait]
impl Vendor for Microsoft {
    fn parameters(&self) -> Vec<(&'static str, String)> {
        self.domain_hint.iter().map(|hint| ("domain_hint", hint.clone())).collect()
    }

    /// Each refresh brings another refresh token, and those before stay good.
    fn rotates(&self) -> bool {
        false
    }

    fn issuer_of(&self, claims: &Map<String, Value>) -> Option<String> {
        if !self.has_many {
            return None; // the one of its configuration, whatever the token says
        }
        let tenant = claims.get("tid")?.as_str()?;
        let is_id = tenant.len() == 36
            && tenant.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
        is_id.then(|| format!("{}/{tenant}/v2.0", self.login))
    }

    async fn complete(
        &self,
        http: &Http,
        received: &Received,
        user: &mut Authenticated,
    ) -> Result<(), ApiError> {
        let claim = |name: &str| received.claims.get(name);
        let tenant = claim("tid").and_then(Value::as_str).unwrap_or_default().to_lowercase();
        if !self.tenants.contains(&tenant) {
            let why = "the account belongs to no organization that is admitted here";
            return Err(ApiError::Refused(why.to_owned()));
        }
        let token = received.access_token.expose_secret();
        let api = Api::of(http, &self.graph, token, "Microsoft Graph");
        let said: Map<String, Value> = api.object(ME).await?;
        let me = Me::deserialize(Value::Object(said.clone()));
        let me =
            me.map_err(|_| ApiError::Unusable("Microsoft Graph says no id of the user".into()))?;
        if !is_same(&user.identity.user_id, &me.id, &tenant) {
            let why = "Microsoft Graph answers about another user than the token is about";
            return Err(ApiError::Unusable(why.to_owned()));
        }
        if me.enabled == Some(false) {
            return Err(ApiError::Refused("the account is disabled".to_owned()));
        }
        user.raw.insert("graph".to_owned(), said.into());
        let identity = &mut user.identity;
        if self.has_many {
            // An object's ID is its tenant's to vouch for.
            identity.user_id = format!("{tenant}/{}", identity.user_id);
        }
        identity.preferred_username =
            me.principal_name.clone().or(identity.preferred_username.take());
        (identity.email, identity.email_verified) = match self.email {
            // A tenant has shown that its domains are its own; that of personal accounts has none.
            MicrosoftEmail::UserPrincipalName => (me.principal_name, tenant != CONSUMERS),
            MicrosoftEmail::Mail => {
                // It speaks of the token's address.
                let said = claim("email").and_then(Value::as_str).map(str::to_lowercase);
                let is_said = said.is_some() && said == me.mail.as_deref().map(str::to_lowercase);
                (me.mail, is_said && claim("xms_edov").is_some_and(is_true))
            }
        };
        identity.email_verified &= identity.email.is_some();
        if let Some(groups) = &self.groups {
            identity.groups = groups_of(&api, groups).await?;
        }
        Ok(())
    }
}

/// Whether Graph answers about the object of a token. It names personal accounts by the last half of their object ID.
fn is_same(object: &str, said: &str, tenant: &str) -> bool {
    let personal = || {
        let digits = object.replace('-', "").to_lowercase();
        said.len() == 16 && digits.ends_with(&said.to_lowercase())
    };
    object == said || (tenant == CONSUMERS && personal())
}

/// What is asked of a user.
const ME: &str = "/me?$select=id,displayName,mail,userPrincipalName,mailNickname,onPremisesSamAccountName,accountEnabled,department,jobTitle,employeeId";
/// What is asked of their groups, nested ones included.
const MEMBER_OF: &str = "/me/transitiveMemberOf?$select=id,displayName,securityEnabled&$top=999";

async fn groups_of(api: &Api<'_>, wanted: &MicrosoftGroups) -> Result<Vec<String>, ApiError> {
    let listed = api.list::<DirectoryObject>(MEMBER_OF, Paging::OData).await?;
    let groups = listed.items.into_iter().filter(|object| {
        let is_wanted =
            wanted.types == MicrosoftGroupTypes::All || object.is_security == Some(true);
        object.kind.as_deref() == Some(GROUP) && is_wanted
    });
    let names: BTreeSet<String> = groups
        .filter_map(|group| match wanted.names {
            MicrosoftGroupNames::ID => Some(group.id),
            MicrosoftGroupNames::DisplayName => group.display_name.filter(|name| !name.is_empty()),
        })
        .collect();
    Ok(names.into_iter().collect())
}

/// Microsoft says true, `"true"`, 1 or `"1"`.
fn is_true(value: &Value) -> bool {
    value.as_bool() == Some(true)
        || value.as_i64() == Some(1)
        || matches!(value.as_str(), Some("true" | "1"))
}
