//! Those whose keys are asked for: clients, and the cluster.

use std::collections::HashMap;
use std::sync::Mutex;

use async_trait::async_trait;

use super::lock;
use crate::ports::{Cluster, ClusterIssuer, FetchError, PublishedKeys};

/// Everybody who publishes keys: clients by URL, and the cluster, whose document is `cluster`'s.
#[derive(Debug, Default)]
pub struct TablePublishers {
    documents: Mutex<HashMap<String, String>>,
    asked: Mutex<Vec<String>>,
}

/// `iss` of the cluster of [`TablePublishers`].
pub const CLUSTER_ISSUER: &str = "https://kubernetes.default.svc";

impl TablePublishers {
    /// Publishes a document in place of the one before.
    pub fn publish(&self, place: &str, document: String) {
        lock(&self.documents).insert(place.to_owned(), document);
    }

    /// The places asked so far, taken out.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.asked))
    }

    fn ask(&self, place: &str) -> Result<Vec<u8>, FetchError> {
        lock(&self.asked).push(place.to_owned());
        let found = lock(&self.documents).get(place).cloned();
        found.map(String::into_bytes).ok_or_else(|| FetchError::unavailable("nobody is there"))
    }
}

#[async_trait]
impl PublishedKeys for TablePublishers {
    async fn fetch(&self, uri: &str) -> Result<Vec<u8>, FetchError> {
        self.ask(uri)
    }
}

#[async_trait]
impl Cluster for TablePublishers {
    async fn discover(&self) -> Result<ClusterIssuer, FetchError> {
        Ok(ClusterIssuer { issuer: CLUSTER_ISSUER.into(), jwks: self.ask("cluster")? })
    }
}
