//! Whom a name that somebody typed may mean. Its form alone says which attributes are compared: what holds a backslash
//! is `DOMAIN\name`, what holds an `@` is a user principal name or a mail address, and anything else an account name. So
//! nobody's mail address can stand in the way of somebody's account name.

use claviger_api::connector::active_directory::{
    ActiveDirectoryLoginName as Kind, ActiveDirectoryUpstream,
};

use crate::ldap::config::Place;
use crate::ldap::filter::{Attribute, Filter, FilterError};

/// The names that are taken.
#[derive(Debug)]
pub struct LoginNames {
    kinds: Vec<Kind>,
    /// Of whom every filter speaks.
    users: Filter,
    /// Before the backslash.
    net_bios_domain: Option<String>,
    /// After the `@` of an account without a user principal name of its own.
    dns_domain: String,
    account_name: Attribute,
    principal_name: Attribute,
    mail: Attribute,
    guid: Attribute,
}

impl LoginNames {
    /// The names that the settings take.
    ///
    /// # Errors
    /// Never: the attributes stand here.
    pub fn new(spec: &ActiveDirectoryUpstream, place: &Place) -> Result<Self, FilterError> {
        Ok(Self {
            kinds: spec.login_names.clone(),
            users: place.filter.clone(),
            net_bios_domain: spec.net_bios_domain.clone(),
            dns_domain: place.base_dn.domain(),
            account_name: Attribute::parse("sAMAccountName")?,
            principal_name: Attribute::parse("userPrincipalName")?,
            mail: Attribute::parse("mail")?,
            guid: Attribute::parse("objectGUID")?,
        })
    }

    /// Who may be meant; a filter that finds nobody for a name that nobody here can have.
    pub fn meant(&self, typed: &str) -> Filter {
        let mut meanings = self.meanings(typed).into_iter();
        let meant = match meanings.next() {
            Some(first) => Filter::any(first, &meanings.collect::<Vec<_>>()),
            None => Filter::equals(&self.guid, &[0; 16]),
        };
        Filter::all(&[self.users.clone(), meant])
    }

    fn meanings(&self, typed: &str) -> Vec<Filter> {
        // To some domain controllers a name ends where a NUL is.
        if typed.contains(char::is_control) {
            return Vec::new();
        }
        let account = |name: &str| Filter::equals(&self.account_name, name.as_bytes());
        if let Some((domain, name)) = typed.split_once('\\') {
            let ours = self.net_bios_domain.as_deref();
            let ours = ours.is_some_and(|ours| ours.eq_ignore_ascii_case(domain));
            let taken = self.takes(Kind::DownLevelLogonName) && ours && !name.is_empty();
            return if taken { vec![account(name)] } else { Vec::new() };
        }
        let Some((name, domain)) = typed.rsplit_once('@') else {
            return if self.takes(Kind::SamAccountName) {
                vec![account(typed)]
            } else {
                Vec::new()
            };
        };
        let mut meanings = Vec::new();
        if self.takes(Kind::UserPrincipalName) {
            meanings.push(Filter::equals(&self.principal_name, typed.as_bytes()));
            if !name.is_empty() && domain.eq_ignore_ascii_case(&self.dns_domain) {
                meanings.push(account(name));
            }
        }
        if self.takes(Kind::Mail) {
            meanings.push(Filter::equals(&self.mail, typed.as_bytes()));
        }
        meanings
    }

    fn takes(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }
}

#[cfg(test)]
mod tests {
    use claviger_api::connector::active_directory::ActiveDirectoryUpstream;
    use ldap3::Scope;
    use serde_json::{Value, json};

    use super::*;
    use crate::ldap::dn::Dn;

    fn meant(change: &Value, typed: &str) -> String {
        let mut spec = json!({
            "urls": ["ldaps://dc1.ad.example.com"], "baseDN": "OU=Staff,DC=ad,DC=example,DC=com",
            "bind": { "name": "claviger", "passwordSecretRef": { "name": "ad", "key": "password" } },
        });
        for (name, value) in change.as_object().unwrap() {
            spec[name] = value.clone();
        }
        let spec: ActiveDirectoryUpstream = serde_json::from_value(spec).unwrap();
        let place = Place {
            base: spec.base_dn.clone(),
            base_dn: Dn::parse(&spec.base_dn).unwrap(),
            scope: Scope::Subtree,
            filter: Filter::parse("(a=b)").unwrap(),
        };
        let filter = LoginNames::new(&spec, &place).unwrap().meant(typed).to_string();
        filter.strip_prefix("(&(a=b)").unwrap().strip_suffix(')').unwrap().to_owned()
    }

    fn nobody() -> String {
        format!("(objectGUID={})", "\\00".repeat(16))
    }

    #[test]
    fn form_of_a_name_says_what_it_is_compared_with() {
        let default = json!({});
        assert_eq!(meant(&default, "ada"), "(sAMAccountName=ada)");
        assert_eq!(
            meant(&default, "ada@corp.example.com"),
            "(userPrincipalName=ada@corp.example.com)"
        );
        assert_eq!(meant(&default, "EXAMPLE\\ada"), nobody());
        let all = json!({
            "loginNames": ["SAMAccountName", "UserPrincipalName", "Mail", "DownLevelLogonName"],
            "netBIOSDomain": "EXAMPLE",
        });
        assert_eq!(meant(&all, "ada"), "(sAMAccountName=ada)");
        assert_eq!(meant(&all, "example\\ada"), "(sAMAccountName=ada)");
        assert_eq!(meant(&all, "OTHER\\ada"), nobody());
        assert_eq!(meant(&all, "EXAMPLE\\"), nobody());
        assert_eq!(
            meant(&all, "ada@example.org"),
            "(|(userPrincipalName=ada@example.org)(mail=ada@example.org))"
        );
        let mail = json!({"loginNames": ["Mail"]});
        assert_eq!(meant(&mail, "ada"), nobody());
        assert_eq!(meant(&mail, "ada@example.org"), "(mail=ada@example.org)");
    }

    #[test]
    fn account_name_in_the_domain_is_a_principal_name_for_those_without_one() {
        assert_eq!(
            meant(&json!({}), "ada@AD.example.com"),
            "(|(userPrincipalName=ada@AD.example.com)(sAMAccountName=ada))"
        );
    }

    #[test]
    fn what_looks_like_a_filter_is_a_value() {
        assert_eq!(meant(&json!({}), "*"), "(sAMAccountName=\\2a)");
        assert_eq!(
            meant(&json!({}), "a)(objectClass=*"),
            "(sAMAccountName=a\\29\\28objectClass=\\2a)"
        );
        assert_eq!(
            meant(&json!({}), "*)(a=*@ad.example.com"),
            "(|(userPrincipalName=\\2a\\29\\28a=\\2a@ad.example.com)(sAMAccountName=\\2a\\29\\28a=\\2a))"
        );
    }
}
