//! Which resources a client's access tokens may be for (RFC 8707), by the configuration of this moment.

use crate::client::Client;
use crate::issuer::Issuer;

/// The client's own `allowed_resources`, and `/userinfo`. An access token's audience is never a client: a
/// kube-apiserver looks at nothing else.
///
/// # Errors
/// What is wrong, in words; on the wire it is `invalid_target`.
pub fn check(issuer: &Issuer, client: &Client, resources: &[String]) -> Result<(), String> {
    let userinfo = issuer.userinfo_endpoint();
    let allowed = |resource: &String| {
        (client.allowed_resources.contains(resource) && issuer.client(resource).is_none())
            || *resource == userinfo
    };
    match resources.iter().find(|resource| !allowed(resource)) {
        None => Ok(()),
        Some(refused) => {
            Err(format!("resource {refused} is not among this client's allowedResources"))
        }
    }
}
