//! An LDAP connector's settings, checked once: what is in a [`Config`] needs no further checking.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use claviger_api::connector::ldap as spec;
use ldap3::Scope;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::claims::{Claims, nothing_to_tell};
use super::dn::Dn;
use super::filter::{Attribute, Filter, FilterError};
use crate::resolved::{Authorities, Purpose, Resolved, TLS_CERTIFICATE, TLS_PRIVATE_KEY};
use crate::tls::{self, Material, TlsError};
use crate::{BuildError, SecretRef};

const DEFAULT_USERNAME_LABEL: &str = "Username";
/// No login or re-check takes longer than this, whatever the timeouts of its steps add up to.
const LONGEST: Duration = Duration::from_mins(1);

/// One server.
pub struct Endpoint {
    /// `ldap://` or `ldaps://`, with a host.
    pub url: Url,
    /// Whether TLS begins by `StartTLS`, and not at once.
    pub start_tls: bool,
    /// How TLS is spoken, unless not at all.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({}, StartTLS {})", self.url, self.start_tls)
    }
}

/// The account that searches.
#[derive(Debug)]
pub struct ServiceAccount {
    /// Empty for anonymous.
    pub dn: String,
    /// Empty for anonymous, and then only.
    pub password: SecretString,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// TCP and TLS, of one server.
    pub connect: Duration,
    /// One bind or search.
    pub operation: Duration,
    /// A whole login or re-check.
    pub whole: Duration,
}

/// Where entries are searched.
#[derive(Debug)]
pub struct Place {
    /// As the administrator wrote it.
    pub base: String,
    /// The same, parsed.
    pub base_dn: Dn,
    /// How deep.
    pub scope: Scope,
    /// What every entry must match.
    pub filter: Filter,
}

/// How a user's entry is found and read.
#[derive(Debug)]
pub struct Users {
    /// Where.
    pub place: Place,
    /// The first of the attributes compared with what the user typed.
    pub username: Attribute,
    /// The others.
    pub other_usernames: Vec<Attribute>,
    /// What goes into `sub`.
    pub id: Attribute,
    /// Mail address.
    pub email: Attribute,
    /// Mail domain, instead of `email`.
    pub email_suffix: Option<String>,
    /// Full name.
    pub name: Option<Attribute>,
    /// Short name.
    pub preferred_username: Option<Attribute>,
    /// Further claims.
    pub claims: Claims,
}

/// What makes a user a member of a group.
#[derive(Debug)]
pub struct Matcher {
    /// Of the user.
    pub user: Attribute,
    /// Of the group.
    pub group: Attribute,
    /// Of a group, naming the groups in it.
    pub recursion: Option<Attribute>,
}

/// How groups are searched.
#[derive(Debug)]
pub struct Groups {
    /// Where.
    pub place: Place,
    /// What makes a member.
    pub matchers: Vec<Matcher>,
    /// A group's name.
    pub name: Attribute,
    /// Levels of groups in groups to follow.
    pub nested_depth: usize,
}

/// How groups are read from the user's entry.
#[derive(Debug)]
pub struct GroupsFromAttribute {
    /// Such as `memberOf`.
    pub attribute: Attribute,
    /// Whether the values are distinguished names, named by their first part.
    pub first_rdn: bool,
    /// Levels of groups in groups to follow.
    pub nested_depth: usize,
}

/// All settings of one connector.
#[derive(Debug)]
pub struct Config {
    /// Servers, in the order they are tried; at least one.
    pub endpoints: Vec<Endpoint>,
    /// Who searches.
    pub account: ServiceAccount,
    /// How long.
    pub timeouts: Timeouts,
    /// Most connections of the service account.
    pub pool_size: usize,
    /// Label on the login page.
    pub username_label: String,
    /// Users.
    pub users: Users,
    /// Groups by search.
    pub groups: Option<Groups>,
    /// Groups by attribute.
    pub groups_from_attribute: Option<GroupsFromAttribute>,
}

/// The Secrets a connector with these settings needs.
pub fn secret_refs(spec: &spec::LdapUpstream) -> Vec<SecretRef> {
    let mut refs = Vec::new();
    if let Some(bind) = &spec.bind {
        refs.push(SecretRef::new(&bind.password_secret_ref, Purpose::BindPassword));
    }
    if let Some(ca) = &spec.tls.ca_secret_ref {
        refs.push(SecretRef::new(ca, Purpose::CertificateAuthority));
    }
    if let Some(client) = &spec.tls.client_certificate_secret_ref {
        let of = |key: &str, purpose| SecretRef {
            name: client.name.clone(),
            key: key.to_owned(),
            purpose,
        };
        refs.push(of(TLS_CERTIFICATE, Purpose::ClientCertificate));
        refs.push(of(TLS_PRIVATE_KEY, Purpose::ClientKey));
    }
    refs
}

impl Config {
    /// Checks the settings and takes the Secrets they name.
    ///
    /// # Errors
    /// [`BuildError`] names the field and the fix.
    pub fn new(spec: &spec::LdapUpstream, resolved: &Resolved) -> Result<Self, BuildError> {
        let timeouts = timeouts(spec);
        Ok(Self {
            endpoints: endpoints(spec, resolved)?,
            account: account(spec, resolved)?,
            timeouts,
            pool_size: at_least_one(spec.pool_size),
            username_label: spec
                .username_prompt
                .clone()
                .unwrap_or_else(|| DEFAULT_USERNAME_LABEL.to_owned()),
            users: users(&spec.user_search)?,
            groups: spec.group_search.as_ref().map(groups).transpose()?,
            groups_from_attribute: spec
                .groups_from_attribute
                .as_ref()
                .map(groups_from_attribute)
                .transpose()?,
        })
    }
}

fn at_least_one(number: i32) -> usize {
    usize::try_from(number).unwrap_or(1).max(1)
}

fn timeouts(spec: &spec::LdapUpstream) -> Timeouts {
    let seconds = |n: i32| Duration::from_secs(u64::try_from(n).unwrap_or(1).max(1));
    let connect = seconds(spec.timeouts.connect_seconds);
    let operation = seconds(spec.timeouts.operation_seconds);
    // Every server may be slow to connect; then bind and search are once as slow as they may be.
    let servers = u32::try_from(spec.urls.len()).unwrap_or(1);
    let whole = (connect * servers + operation * 2).min(LONGEST);
    Timeouts { connect, operation, whole }
}

fn endpoints(spec: &spec::LdapUpstream, resolved: &Resolved) -> Result<Vec<Endpoint>, BuildError> {
    let mode = spec.tls.mode;
    let scheme = if mode == spec::LdapTlsMode::Ldaps { "ldaps" } else { "ldap" };
    let tls = match mode {
        spec::LdapTlsMode::Plaintext => None,
        spec::LdapTlsMode::Ldaps | spec::LdapTlsMode::StartTls => Some(tls(&spec.tls, resolved)?),
    };
    if spec.urls.is_empty() {
        return Err(BuildError::Url("there is none".to_owned()));
    }
    let endpoint = |text: &String| {
        let refused = |why: &str| BuildError::Url(format!("{text:?} {why}"));
        let url = Url::parse(text).map_err(|error| refused(&error.to_string()))?;
        if url.scheme() != scheme {
            return Err(refused(&format!("must begin with {scheme}:// in this tls.mode")));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(refused("has no host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("must not hold a user or password; use bind"));
        }
        let start_tls = mode == spec::LdapTlsMode::StartTls;
        Ok(Endpoint { url, start_tls, tls: tls.clone() })
    };
    spec.urls.iter().map(endpoint).collect()
}

fn tls(spec: &spec::LdapTls, resolved: &Resolved) -> Result<Arc<rustls::ClientConfig>, BuildError> {
    let ca = resolved.authorities(&Authorities {
        bundle: spec.ca_bundle.as_deref(),
        secret: spec.ca_secret_ref.as_ref(),
        config_map: spec.ca_config_map_ref.as_ref(),
    })?;
    let client = match &spec.client_certificate_secret_ref {
        None => None,
        Some(secret) => Some((
            resolved.bytes(&secret.name, TLS_CERTIFICATE, Purpose::ClientCertificate)?,
            resolved.bytes(&secret.name, TLS_PRIVATE_KEY, Purpose::ClientKey)?,
        )),
    };
    let skip_verification = spec.server_verification == spec::LdapServerVerification::InsecureSkip;
    let seen = resolved.certificates.clone();
    tls::client_config(&Material { ca, client, skip_verification, seen })
        .map_err(|error| blame_the_secret(spec, error))
}

/// What a Secret holds is the Secret's fault, not the Connector's.
fn blame_the_secret(spec: &spec::LdapTls, error: TlsError) -> BuildError {
    match (&error, &spec.ca_secret_ref, &spec.client_certificate_secret_ref) {
        (TlsError::Ca(_), Some(secret), _) if spec.ca_bundle.is_none() => {
            BuildError::unusable(secret, Purpose::CertificateAuthority, &error)
        }
        (TlsError::Client(_), _, Some(secret)) => BuildError::SecretUnusable {
            name: secret.name.clone(),
            key: TLS_CERTIFICATE.to_owned(),
            purpose: Purpose::ClientCertificate,
            cause: error.to_string(),
        },
        _ => BuildError::Tls(error),
    }
}

fn account(spec: &spec::LdapUpstream, resolved: &Resolved) -> Result<ServiceAccount, BuildError> {
    let Some(bind) = &spec.bind else {
        return Ok(ServiceAccount { dn: String::new(), password: SecretString::default() });
    };
    let secret = &bind.password_secret_ref;
    let password = resolved.password(&secret.name, &secret.key, Purpose::BindPassword)?;
    // A bind with a name and no password succeeds as nobody: RFC 4513 section 5.1.2.
    if password.expose_secret().is_empty() || bind.dn.is_empty() {
        return Err(BuildError::unusable(
            secret,
            Purpose::BindPassword,
            &"name or password is empty",
        ));
    }
    Ok(ServiceAccount { dn: bind.dn.clone(), password })
}

fn users(spec: &spec::LdapUserSearch) -> Result<Users, BuildError> {
    let read = |field, name: &str| named(field, Attribute::parse(name));
    let mut usernames = spec.username_attributes.iter();
    let username = usernames.next().ok_or(BuildError::NoUsernameAttribute)?;
    let matched =
        |name: &String| named("userSearch.usernameAttributes", Attribute::parse_matched(name));
    let told = |claim, field, name: &Option<String>| {
        let attribute = name.as_deref().map(|name| read(field, name)).transpose()?;
        match attribute
            .as_ref()
            .and_then(|attribute| Some((attribute, nothing_to_tell(attribute)?)))
        {
            None => Ok(attribute),
            Some((attribute, what)) => {
                let attribute = attribute.as_str().to_owned();
                Err(BuildError::ClaimAttribute { claim, attribute, what })
            }
        }
    };
    Ok(Users {
        place: place("userSearch", &spec.base_dn, spec.filter.as_deref(), spec.scope)?,
        username: matched(username)?,
        other_usernames: usernames.map(matched).collect::<Result<_, _>>()?,
        id: read("userSearch.idAttribute", &spec.id_attribute)?,
        email: read("userSearch.emailAttribute", &spec.email_attribute)?,
        email_suffix: spec.email_suffix.clone(),
        name: told("name", "userSearch.nameAttribute", &spec.name_attribute)?,
        preferred_username: told(
            "preferred_username",
            "userSearch.preferredUsernameAttribute",
            &spec.preferred_username_attribute,
        )?,
        claims: spec.claim_attributes.as_ref().map(Claims::new).transpose()?.unwrap_or_default(),
    })
}

fn groups(spec: &spec::LdapGroupSearch) -> Result<Groups, BuildError> {
    let matcher = |spec: &spec::LdapUserMatcher| {
        let field = "groupSearch.userMatchers";
        let recursion = spec.recursion_group_attribute.as_deref().map(Attribute::parse_matched);
        Ok(Matcher {
            user: named(field, Attribute::parse(&spec.user_attribute))?,
            group: named(field, Attribute::parse_matched(&spec.group_attribute))?,
            recursion: named(field, recursion.transpose())?,
        })
    };
    Ok(Groups {
        place: place("groupSearch", &spec.base_dn, spec.filter.as_deref(), spec.scope)?,
        matchers: spec.user_matchers.iter().map(matcher).collect::<Result<_, BuildError>>()?,
        name: named("groupSearch.nameAttribute", Attribute::parse(&spec.name_attribute))?,
        nested_depth: usize::try_from(spec.nested_depth).unwrap_or(0),
    })
}

fn groups_from_attribute(
    spec: &spec::LdapGroupsFromAttribute,
) -> Result<GroupsFromAttribute, BuildError> {
    Ok(GroupsFromAttribute {
        attribute: named("groupsFromAttribute.attribute", Attribute::parse(&spec.attribute))?,
        first_rdn: spec.name_format == spec::LdapGroupNameFormat::FirstRdn,
        nested_depth: usize::try_from(spec.nested_depth).unwrap_or(0),
    })
}

fn place(
    field: &'static str,
    base: &str,
    filter: Option<&str>,
    scope: spec::LdapSearchScope,
) -> Result<Place, BuildError> {
    let base_dn =
        Dn::parse(base).ok_or_else(|| BuildError::BaseDn { field, value: base.to_owned() })?;
    Ok(Place {
        base: base.to_owned(),
        base_dn,
        scope: match scope {
            spec::LdapSearchScope::Subtree => Scope::Subtree,
            spec::LdapSearchScope::OneLevel => Scope::OneLevel,
        },
        filter: named(field, filter.map_or_else(|| Ok(Filter::anything()), Filter::parse))?,
    })
}

fn named<T>(field: &'static str, parsed: Result<T, FilterError>) -> Result<T, BuildError> {
    parsed.map_err(|cause| BuildError::Filter { field, cause })
}
