//! Signing out at the proxy: it sends the browser on by itself, if it can be told where.

use async_trait::async_trait;
use claviger_api::connector::AuthProxySignOut;
use claviger_domain::connector::{Leaving, SignOut};
use url::Url;

use super::AuthProxyError;

/// Where a proxy signs its users out, such as oauth2-proxy's `/oauth2/sign_out`.
#[derive(Debug)]
pub struct ProxySignOut {
    url: Url,
    return_parameter: Option<String>,
}

impl ProxySignOut {
    /// Makes it of what the administrator wrote.
    ///
    /// # Errors
    /// [`AuthProxyError::SignOut`].
    pub fn new(spec: &AuthProxySignOut) -> Result<Self, AuthProxyError> {
        let refused = || AuthProxyError::SignOut(spec.url.clone());
        let url = Url::parse(&spec.url).map_err(|_| refused())?;
        if url.scheme() != "https" || !url.has_host() {
            return Err(refused());
        }
        Ok(Self { url, return_parameter: spec.return_parameter.clone() })
    }
}

#[async_trait]
impl SignOut for ProxySignOut {
    async fn location(&self, leaving: &Leaving<'_>) -> Option<String> {
        let mut url = self.url.clone();
        if let Some(parameter) = &self.return_parameter {
            url.query_pairs_mut().append_pair(parameter, leaving.return_to);
        }
        Some(url.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn location(url: &str, return_parameter: Option<&str>) -> Option<String> {
        let return_parameter = return_parameter.map(str::to_owned);
        let spec = AuthProxySignOut { url: url.to_owned(), return_parameter };
        let made = ProxySignOut::new(&spec).ok()?;
        let leaving = Leaving {
            return_to: "https://id.example.org/logout?client_id=a",
            callback: "https://id.example.org/callback/proxy".to_owned(),
            data: None,
            id: "id".to_owned(),
            now: 0,
        };
        made.location(&leaving).await
    }

    #[tokio::test]
    async fn the_browser_goes_to_the_proxy_which_is_told_where_to_send_it() {
        let url = "https://proxy.example.org/oauth2/sign_out";
        assert_eq!(location(url, None).await.as_deref(), Some(url));
        assert_eq!(
            location(url, Some("rd")).await.as_deref(),
            Some(
                "https://proxy.example.org/oauth2/sign_out?rd=https%3A%2F%2Fid.example.org%2Flogout%3Fclient_id%3Da"
            )
        );
        assert!(location("http://proxy.example.org/", None).await.is_none());
        assert!(location("javascript:alert(1)", None).await.is_none());
    }
}
