//! What a LocalUser says beyond name, mail address and groups, in the words of OIDC Core 5.1.

use std::collections::BTreeMap;

use claviger_api::{Address, LocalUserSpec, Profile};
use serde_json::{Map, Value};

/// The further claims of a user.
pub fn of(spec: &LocalUserSpec) -> BTreeMap<String, Value> {
    let profile = spec.profile.iter().flat_map(profile);
    let phone = spec.phone_number.iter().map(|number| ("phone_number", number.clone().into()));
    let address = spec.address.iter().map(|parts| ("address", Value::Object(address(parts))));
    let all = profile.chain(phone).chain(address);
    all.map(|(name, value)| (name.to_owned(), value)).collect()
}

fn profile(profile: &Profile) -> impl Iterator<Item = (&'static str, Value)> {
    let claims = [
        ("given_name", &profile.given_name),
        ("family_name", &profile.family_name),
        ("middle_name", &profile.middle_name),
        ("nickname", &profile.nickname),
        ("profile", &profile.profile),
        ("picture", &profile.picture),
        ("website", &profile.website),
        ("gender", &profile.gender),
        ("birthdate", &profile.birthdate),
        ("zoneinfo", &profile.zoneinfo),
        ("locale", &profile.locale),
    ];
    claims.into_iter().filter_map(|(name, value)| Some((name, value.clone()?.into())))
}

fn address(address: &Address) -> Map<String, Value> {
    let parts = [
        ("formatted", &address.formatted),
        ("street_address", &address.street_address),
        ("locality", &address.locality),
        ("region", &address.region),
        ("postal_code", &address.postal_code),
        ("country", &address.country),
    ];
    parts
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_claim_of_the_specification_that_is_there_is_said() {
        let spec: LocalUserSpec = serde_json::from_value(serde_json::json!({
            "email": "a@b", "passwordHash": {"secretRef": {"name": "s", "key": "k"}},
            "profile": {"givenName": "Alice", "zoneinfo": "Europe/Berlin"},
            "phoneNumber": "+49 30 901820", "address": {"postalCode": "10178", "country": "DE"},
        }))
        .unwrap();
        let expected = serde_json::json!({
            "given_name": "Alice", "zoneinfo": "Europe/Berlin", "phone_number": "+49 30 901820",
            "address": {"postal_code": "10178", "country": "DE"},
        });
        assert_eq!(serde_json::to_value(of(&spec)).unwrap(), expected);
    }
}
