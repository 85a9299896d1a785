//! [`Cluster`]: the API server says itself who signs the tokens of its `ServiceAccounts`.
//!
//! What always holds: the API server is asked under its own address, never under the `jwks_uri` it
//! names, which is for others and may be anywhere; its default role for that is
//! `system:service-account-issuer-discovery`.

use async_trait::async_trait;
use claviger_domain::ports::{Cluster, ClusterIssuer, FetchError};
use http::Request;
use kube::Client;
use serde::Deserialize;
use tokio::time::timeout;

use crate::client::DEADLINE;

/// OpenID Connect discovery of the API server.
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Its key set.
const KEYS: &str = "/openid/v1/jwks";

/// The API server of the cluster we run in.
#[derive(Clone)]
pub struct KubeCluster {
    client: Client,
}

impl std::fmt::Debug for KubeCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeCluster").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

impl KubeCluster {
    /// `client` must be a [`crate::request_path_client`].
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn text(&self, path: &str) -> Result<String, FetchError> {
        let failed = |why: String| FetchError::unavailable(format!("GET {path}: {why}"));
        let request = Request::get(path).body(Vec::new()).map_err(|e| failed(e.to_string()))?;
        let asked = timeout(DEADLINE, self.client.request_text(request)).await;
        let answer = asked.map_err(|_| failed("no answer in time".to_owned()))?;
        answer.map_err(|error| failed(error.to_string()))
    }
}

#[async_trait]
impl Cluster for KubeCluster {
    async fn discover(&self) -> Result<ClusterIssuer, FetchError> {
        let discovery: Discovery = serde_json::from_str(&self.text(DISCOVERY).await?)
            .map_err(|error| FetchError::unavailable(format!("GET {DISCOVERY}: {error}")))?;
        let jwks = self.text(KEYS).await?.into_bytes();
        Ok(ClusterIssuer { issuer: discovery.issuer, jwks })
    }
}
