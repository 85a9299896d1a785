//! An Active Directory connector's settings: put into the words of an LDAP connector, which checks them, and what only
//! a domain knows.

use claviger_api::connector::active_directory as spec;
use claviger_api::connector::ldap;

use super::account::{self, Ends};
use super::login_name::LoginNames;
use crate::ldap::config::{self, Config};
use crate::ldap::filter::{Attribute, Filter, FilterError};
use crate::ldap::user::wanted_attributes;
use crate::{BuildError, Resolved, SecretRef};

/// Every ordinary account, and no computer's, service's or trust's (`SAM_NORMAL_USER_ACCOUNT`); indexed.
const ORDINARY_ACCOUNTS: &str = "(sAMAccountType=805306368)";
const SAM_ACCOUNT_NAME: &str = "sAMAccountName";
const USER_PRINCIPAL_NAME: &str = "userPrincipalName";
const MAIL: &str = "mail";
/// Groups within groups, by the domain controller (`LDAP_MATCHING_RULE_IN_CHAIN`).
const MEMBER_IN_CHAIN: &str = "member:1.2.840.113556.1.4.1941:";
/// Security identifiers of the groups in a user's token; computed, on a read of the entry alone.
pub const TOKEN_GROUPS: &str = "tokenGroups";
const OBJECT_SID: &str = "objectSid";

/// How groups get their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// There are none.
    None,
    /// The security identifiers in the user's token are the names.
    Identifiers,
    /// The groups with those identifiers are searched.
    OfToken,
    /// The groups with this member are searched.
    OfMember,
}

/// What only a domain knows; the rest is an LDAP connector's.
#[derive(Debug)]
pub struct Domain {
    /// By which names users sign in.
    pub login_names: LoginNames,
    /// Whether mail addresses count as verified.
    pub email_verified: bool,
    /// Where groups come from.
    pub groups: Groups,
    /// `tokenGroups`.
    pub token_groups: Attribute,
    /// What ends a session.
    pub ends: Ends,
}

/// The Secrets a connector with these settings needs.
pub fn secret_refs(spec: &spec::ActiveDirectoryUpstream) -> Vec<SecretRef> {
    config::secret_refs(&as_ldap(spec))
}

/// Checks the settings and takes the Secrets they name. The last part is what to ask for in a user's entry.
///
/// # Errors
/// [`BuildError`] names the field and the fix.
pub fn read(
    spec: &spec::ActiveDirectoryUpstream,
    resolved: &Resolved,
) -> Result<(Config, Domain, Vec<String>), BuildError> {
    let translated = as_ldap(spec);
    // Each filter for itself: composed with another, a broken one might pass.
    if let Some(filter) = &spec.user_search.filter {
        Filter::parse(filter)
            .map_err(|cause| BuildError::Filter { field: "userSearch.filter", cause })?;
    }
    let config = Config::new(&translated, resolved)?;
    let constant = |name| Attribute::parse(name).map_err(of_ours);
    let mut wanted = wanted_attributes(&config.users, None, None);
    wanted.extend(account::ATTRIBUTES.map(str::to_owned));
    wanted.sort_unstable();
    wanted.dedup();
    let login_names = LoginNames::new(spec, &config.users.place).map_err(of_ours)?;
    let domain = Domain {
        login_names,
        email_verified: spec.email_verification == spec::ActiveDirectoryEmailVerification::Verified,
        groups: groups(&spec.group_search),
        token_groups: constant(TOKEN_GROUPS)?,
        ends: Ends {
            password_changed: ends(spec.session_end.password_changed),
            locked_out: ends(spec.session_end.locked_out),
        },
    };
    Ok((config, domain, wanted))
}

/// An attribute that stands in this file; it parses.
fn of_ours(cause: FilterError) -> BuildError {
    BuildError::Filter { field: "activeDirectory", cause }
}

fn ends(on_change: spec::ActiveDirectoryOnChange) -> bool {
    on_change == spec::ActiveDirectoryOnChange::EndSession
}

fn groups(search: &spec::ActiveDirectoryGroupSearch) -> Groups {
    use spec::ActiveDirectoryGroupSource as Source;
    let everywhere = search.base_dn.is_none() && search.filter.is_none();
    match search.source {
        Source::None => Groups::None,
        Source::InChain | Source::Direct => Groups::OfMember,
        Source::TokenGroups
            if everywhere && search.name_attribute == spec::ActiveDirectoryGroupName::Sid =>
        {
            Groups::Identifiers
        }
        Source::TokenGroups => Groups::OfToken,
    }
}

fn as_ldap(spec: &spec::ActiveDirectoryUpstream) -> ldap::LdapUpstream {
    ldap::LdapUpstream {
        urls: spec.urls.clone(),
        tls: tls(&spec.tls),
        bind: Some(ldap::LdapBind {
            dn: spec.bind.name.clone(),
            password_secret_ref: spec.bind.password_secret_ref.clone(),
        }),
        username_prompt: spec.username_prompt.clone(),
        user_search: user_search(spec),
        group_search: group_search(spec),
        groups_from_attribute: None,
        timeouts: spec.timeouts,
        pool_size: spec.pool_size,
    }
}

fn tls(tls: &spec::ActiveDirectoryTls) -> ldap::LdapTls {
    ldap::LdapTls {
        mode: match tls.mode {
            spec::ActiveDirectoryTlsMode::Ldaps => ldap::LdapTlsMode::Ldaps,
            spec::ActiveDirectoryTlsMode::StartTls => ldap::LdapTlsMode::StartTls,
        },
        ca_secret_ref: tls.ca_secret_ref.clone(),
        ca_config_map_ref: tls.ca_config_map_ref.clone(),
        ca_bundle: tls.ca_bundle.clone(),
        client_certificate_secret_ref: tls.client_certificate_secret_ref.clone(),
        server_verification: ldap::LdapServerVerification::Verify,
    }
}

fn user_search(spec: &spec::ActiveDirectoryUpstream) -> ldap::LdapUserSearch {
    let search = &spec.user_search;
    let filter = match &search.filter {
        None => ORDINARY_ACCOUNTS.to_owned(),
        Some(filter) => format!("(&{ORDINARY_ACCOUNTS}{filter})"),
    };
    let id = match spec.id_attribute {
        spec::ActiveDirectoryIDAttribute::ObjectGuid => "objectGUID",
        spec::ActiveDirectoryIDAttribute::ObjectSid => OBJECT_SID,
    };
    let preferred = match spec.preferred_username {
        spec::ActiveDirectoryUsername::SamAccountName => SAM_ACCOUNT_NAME,
        spec::ActiveDirectoryUsername::UserPrincipalName => USER_PRINCIPAL_NAME,
    };
    ldap::LdapUserSearch {
        base_dn: search.base_dn.clone().unwrap_or_else(|| spec.base_dn.clone()),
        filter: Some(filter),
        scope: ldap::LdapSearchScope::Subtree,
        // Who is found by what was typed, `login_name` says; this is what every account has.
        username_attributes: vec![SAM_ACCOUNT_NAME.to_owned()],
        id_attribute: id.to_owned(),
        email_attribute: MAIL.to_owned(),
        email_suffix: None,
        name_attribute: Some("displayName".to_owned()),
        preferred_username_attribute: Some(preferred.to_owned()),
        claim_attributes: spec.claim_attributes.clone(),
    }
}

fn group_search(spec: &spec::ActiveDirectoryUpstream) -> Option<ldap::LdapGroupSearch> {
    use spec::ActiveDirectoryGroupName as Name;
    use spec::ActiveDirectoryGroupSource as Source;
    let search = &spec.group_search;
    let (of_user, of_group) = match search.source {
        Source::None => return None,
        Source::TokenGroups => (TOKEN_GROUPS, OBJECT_SID),
        Source::InChain => ("DN", MEMBER_IN_CHAIN),
        Source::Direct => ("DN", "member"),
    };
    let name = match search.name_attribute {
        Name::SamAccountName => SAM_ACCOUNT_NAME,
        Name::Cn => "cn",
        Name::Dn => "DN",
        Name::Sid => OBJECT_SID,
    };
    Some(ldap::LdapGroupSearch {
        base_dn: search.base_dn.clone().unwrap_or_else(|| spec.base_dn.clone()),
        filter: search.filter.clone(),
        scope: ldap::LdapSearchScope::Subtree,
        user_matchers: vec![ldap::LdapUserMatcher {
            user_attribute: of_user.to_owned(),
            group_attribute: of_group.to_owned(),
            recursion_group_attribute: None,
        }],
        name_attribute: name.to_owned(),
        nested_depth: 0,
    })
}
