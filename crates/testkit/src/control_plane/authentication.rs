//! Swapping the API server's `AuthenticationConfiguration` while it runs.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use data_encoding::HEXLOWER;
use kube::Client;

use super::{ControlPlane, state};
use crate::eventually;

/// Takes effect as it stands: no token but the API server's own is known.
pub const NO_ISSUER: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt: []
";

/// It looks at the file once a minute if inotify fails it, and gives issuers a minute to answer.
const RELOAD: Duration = Duration::from_secs(150);

const METRIC: &str = "apiserver_authentication_config_controller_";

impl ControlPlane {
    /// Writes the API server's `AuthenticationConfiguration` and waits until the API server has taken it:
    /// at once without issuers, after 10 s with some, and every one of them must answer (see the module).
    ///
    /// The whole file is replaced, for everybody who uses this control plane: a test that runs beside others
    /// should have one of its own.
    ///
    /// # Errors
    /// The API server refuses the file or cannot reach an issuer in it within a minute; then the former
    /// file is put back. It was started with `--oidc-*` flags.
    pub async fn set_authentication_config(&self, yaml: &str) -> Result<()> {
        let path = self.state.join(state::AUTHENTICATION);
        let former = std::fs::read_to_string(&path).with_context(|| {
            format!("failed to read {}: was it started with --oidc flags?", path.display())
        })?;
        let lock = File::create(self.state.join("authentication.lock"))
            .context("failed to open the lock of the authentication configuration")?;
        eventually(RELOAD, async || {
            lock.try_lock().context("somebody else is changing the authentication configuration")
        })
        .await?;
        let client = self.admin().await?;
        let failures = Reloads::read(&client).await?.failures;
        self.replace_authentication(yaml)?;
        let taken = eventually(RELOAD, async || {
            let reloads = Reloads::read(&client).await?;
            if reloads.failures > failures {
                return Ok(Err(anyhow!(
                    "the API server refuses the authentication configuration, or an issuer in it does \
                     not answer; its log ends with:\n{}",
                    self.last_reload_error()
                )));
            }
            ensure!(reloads.holds(yaml), "the API server has not taken the file");
            Ok(Ok(()))
        })
        .await?;
        if taken.is_err() {
            self.replace_authentication(&former)?;
        }
        taken
    }

    fn replace_authentication(&self, yaml: &str) -> Result<()> {
        let path = self.state.join(state::AUTHENTICATION);
        let aside = path.with_extension("yaml.new");
        std::fs::write(&aside, yaml)
            .and_then(|()| std::fs::rename(&aside, &path))
            .with_context(|| format!("failed to write {}", path.display()))
    }

    fn last_reload_error(&self) -> String {
        let log =
            std::fs::read_to_string(self.state.join("kube-apiserver.log")).unwrap_or_default();
        let of_reload = |line: &&str| line.contains("authentication config");
        log.lines().rev().find(of_reload).unwrap_or_default().to_owned()
    }
}

/// What the API server's metrics say of reloads since its start.
struct Reloads {
    failures: u64,
    hash: String,
}

impl Reloads {
    async fn read(client: &Client) -> Result<Self> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let metrics = client.request_text(request).await.context("failed to read /metrics")?;
        Ok(Self::parse(&metrics))
    }

    fn parse(metrics: &str) -> Self {
        let ours = || metrics.lines().filter_map(|line| line.strip_prefix(METRIC));
        let failures = ours()
            .filter(|line| line.starts_with("automatic_reloads_total"))
            .filter(|line| line.contains(r#"status="failure""#))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum();
        let hash = ours()
            .find_map(|line| line.strip_prefix("last_config_info")?.split(r#",hash=""#).nth(1))
            .and_then(|rest| rest.split('"').next());
        Self { failures, hash: hash.unwrap_or_default().to_owned() }
    }

    fn holds(&self, yaml: &str) -> bool {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, yaml.as_bytes());
        self.hash == format!("sha256:{}", HEXLOWER.encode(digest.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_the_hash_of_the_taken_file_are_read_from_the_metrics() {
        let reloads = Reloads::parse(
            r#"# HELP apiserver_authentication_config_controller_automatic_reloads_total […]
apiserver_authentication_config_controller_automatic_reloads_total{apiserver_id_hash="sha256:1",status="failure"} 2
apiserver_authentication_config_controller_automatic_reloads_total{apiserver_id_hash="sha256:1",status="success"} 7
apiserver_authentication_config_controller_last_config_info{apiserver_id_hash="sha256:1",hash="sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"} 1
"#,
        );
        assert_eq!(reloads.failures, 2);
        assert!(reloads.holds("foo"));
        assert!(!reloads.holds("bar"));
    }
}
