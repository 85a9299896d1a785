//! One file per verb.

pub mod authentication_config;
pub mod hash_password;
pub mod run;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::args::ClusterArgs;

/// The cluster a verb talks to, and the home namespace there.
async fn cluster(args: &ClusterArgs) -> anyhow::Result<(kube::Config, String)> {
    let config = match &args.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)
                .with_context(|| format!("failed to read {}", path.display()))?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("failed to use {}", path.display()))?
        }
        None => kube::Config::infer().await.context(
            "no cluster: give --kubeconfig, set KUBECONFIG, or run in a pod with a ServiceAccount",
        )?,
    };
    let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    Ok((config, namespace))
}
