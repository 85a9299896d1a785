//! Where vendors that speak OpenID Connect are, as they document it: for an [`OpenidProvider`](crate::openid_provider) that
//! stands in for one, behind a [`Tunnel`](crate::tunnel::Tunnel).

use crate::openid_provider::Places;

impl Places {
    /// Google, its token endpoint for service accounts and its Directory API.
    pub fn google() -> Self {
        Self {
            issuer: "https://accounts.google.com".into(),
            address: "https://accounts.google.com".into(),
            authorization: "https://accounts.google.com/o/oauth2/v2/auth".into(),
            token: "https://oauth2.googleapis.com/token".into(),
            keys: "https://www.googleapis.com/oauth2/v3/certs".into(),
            userinfo: "https://openidconnect.googleapis.com/v1/userinfo".into(),
            hosts: [
                "accounts.google.com",
                "oauth2.googleapis.com",
                "www.googleapis.com",
                "openidconnect.googleapis.com",
                "admin.googleapis.com",
            ]
            .map(str::to_owned)
            .into(),
        }
    }

    /// LinkedIn.
    pub fn linkedin() -> Self {
        Self {
            issuer: "https://www.linkedin.com/oauth".into(),
            address: "https://www.linkedin.com/oauth".into(),
            authorization: "https://www.linkedin.com/oauth/v2/authorization".into(),
            token: "https://www.linkedin.com/oauth/v2/accessToken".into(),
            keys: "https://www.linkedin.com/oauth/openid/jwks".into(),
            userinfo: "https://api.linkedin.com/v2/userinfo".into(),
            hosts: vec!["www.linkedin.com".into(), "api.linkedin.com".into()],
        }
    }

    /// Microsoft Entra ID at this tenant, whose configuration states this one, and Microsoft Graph.
    pub fn microsoft(tenant: &str, stated: &str) -> Self {
        let login = "https://login.microsoftonline.com";
        Self {
            issuer: format!("{login}/{stated}/v2.0"),
            address: format!("{login}/{tenant}/v2.0"),
            authorization: format!("{login}/{tenant}/oauth2/v2.0/authorize"),
            token: format!("{login}/{tenant}/oauth2/v2.0/token"),
            keys: format!("{login}/{tenant}/discovery/v2.0/keys"),
            userinfo: "https://graph.microsoft.com/oidc/userinfo".into(),
            hosts: vec!["login.microsoftonline.com".into(), "graph.microsoft.com".into()],
        }
    }
}
