//! Which groups a user is in, by each source, and that none of them is ever left out in silence.

use claviger_domain::identity::Identity;
use claviger_testkit::samba::{BASE_DN, Samba, group_dn, user_dn};
use serde_json::{Value, json};

use crate::fixture::*;

fn sorted(identity: Identity) -> Vec<String> {
    let mut groups = identity.groups;
    groups.sort_unstable();
    groups
}

async fn groups_by(samba: &Samba, search: Value) -> Vec<String> {
    sorted(Service::with(samba, &json!({ "groupSearch": search })).identity("ada").await)
}

/// ada is in `engineers`, those are in `staff`, those in `everybody`; she is also in `mailing`, which is no security group.
fn nested(samba: &Samba) {
    samba.add_group("engineers", &[user_dn("ada")]).unwrap();
    samba.add_group("staff", &[group_dn("engineers")]).unwrap();
    samba.add_group("everybody", &[group_dn("staff")]).unwrap();
    samba
        .add(&format!(
            "dn: {}\nobjectClass: group\nsAMAccountName: mailing\ngroupType: 2\nmember: {}\n",
            group_dn("mailing"),
            user_dn("ada")
        ))
        .unwrap();
    // A loop, as directories have them.
    samba
        .modify(&format!(
            "dn: {}\nchangetype: modify\nadd: member\nmember: {}\n",
            group_dn("engineers"),
            group_dn("everybody")
        ))
        .unwrap();
}

#[tokio::test]
async fn each_source_gives_the_groups_it_says() {
    let samba = domain().await;
    nested(&samba);
    assert_eq!(
        groups_by(&samba, json!({})).await,
        ["Domain Users", "Users", "engineers", "everybody", "staff"]
    );
    assert_eq!(
        groups_by(&samba, json!({ "source": "InChain" })).await,
        ["engineers", "everybody", "mailing", "staff"]
    );
    assert_eq!(groups_by(&samba, json!({ "source": "Direct" })).await, ["engineers", "mailing"]);
    assert!(groups_by(&samba, json!({ "source": "None" })).await.is_empty());
}

#[tokio::test]
async fn groups_are_called_as_the_settings_say() {
    let samba = domain().await;
    nested(&samba);
    let filter = "(sAMAccountName=e*)";
    let by = |name: &str| groups_by(&samba, json!({ "nameAttribute": name, "filter": filter }));
    assert_eq!(by("CN").await, ["engineers", "everybody"]);
    assert_eq!(by("DN").await, [group_dn("engineers"), group_dn("everybody")]);
    let sids = by("SID").await;
    assert_eq!(sids.len(), 2);
    assert!(sids.iter().all(|sid| sid.starts_with("S-1-5-21-")), "{sids:?}");
    // Without a filter nothing is searched, and identifiers of other domains would be there too.
    let all = groups_by(&samba, json!({ "nameAttribute": "SID" })).await;
    assert!(all.contains(&"S-1-5-32-545".to_owned()) && sids.iter().all(|sid| all.contains(sid)));
    assert_eq!(all.len(), 5, "{all:?}");
}

#[tokio::test]
async fn groups_outside_the_search_base_are_left_out() {
    let samba = domain().await;
    nested(&samba);
    samba.add(&format!("dn: OU=Kubernetes,{BASE_DN}\nobjectClass: organizationalUnit\n")).unwrap();
    let admins = format!("CN=admins,OU=Kubernetes,{BASE_DN}");
    samba
        .add(&format!(
            "dn: {admins}\nobjectClass: group\nsAMAccountName: admins\nmember: {}\n",
            group_dn("staff")
        ))
        .unwrap();
    let below = json!({ "baseDN": format!("OU=Kubernetes,{BASE_DN}") });
    assert_eq!(groups_by(&samba, below).await, ["admins"]);
}

#[tokio::test]
async fn removed_member_has_one_group_less_at_the_next_refresh() {
    let samba = domain().await;
    nested(&samba);
    let service = Service::with(&samba, &json!({}));
    let known = service.signed_in("ada").await;
    samba.remove_member("staff", &group_dn("engineers")).unwrap();
    let fresh = service.recheck(&known).await.unwrap();
    assert_eq!(sorted(fresh.identity), ["Domain Users", "Users", "engineers"]);
}

/// More groups than memberOf would be sent in one piece (1,500), and than one search's filter holds.
#[tokio::test]
async fn every_group_of_very_many_is_there() {
    let samba = domain().await;
    let many = 1_600;
    let ldif: Vec<_> = (0..many)
        .map(|n| {
            format!(
                "dn: {}\nobjectClass: group\nsAMAccountName: many-{n:04}\nmember: {}\n\n",
                group_dn(&format!("many-{n:04}")),
                user_dn("ada")
            )
        })
        .collect();
    samba.add(&ldif.concat()).unwrap();
    for (source, more) in [("TokenGroups", 2), ("Direct", 0)] {
        let search = json!({ "source": source });
        let spec = connector_with(
            &samba,
            &json!({ "groupSearch": search, "timeouts": { "operationSeconds": 30 } }),
        );
        let groups = sorted(Service::new(&spec, &resolved(&samba)).identity("ada").await);
        assert_eq!(groups.len(), many + more, "{source}");
        assert!(groups.contains(&"many-1599".to_owned()), "{source}");
    }
}
