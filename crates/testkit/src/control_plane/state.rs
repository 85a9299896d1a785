//! The state folder: everything a control plane reads and writes, made anew for each.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::KeyPair;
use tempfile::TempDir;

use crate::identity::{Credentials, kubeconfig};
use crate::pki::CertificateAuthority;

pub const CA_CERTIFICATE: &str = "ca.crt";
pub const CA_KEY: &str = "ca.key";
pub const SERVER_CERTIFICATE: &str = "kube-apiserver.crt";
pub const SERVER_KEY: &str = "kube-apiserver.key";
pub const SERVICE_ACCOUNT_KEY: &str = "service-account.key";
pub const SERVICE_ACCOUNT_PUBLIC_KEY: &str = "service-account.pub";
pub const KUBECONFIG: &str = "kubeconfig";
pub const URL: &str = "url";
pub const AUDIT_LOG: &str = "audit.log";
pub const AUDIT_POLICY: &str = "audit-policy.yaml";
pub const AUTHENTICATION: &str = "authentication.yaml";
pub const ETCD_DATA: &str = "etcd";

const CA_NAME: &str = "Claviger test control plane";
/// First of the service range below, where clients inside a cluster would find the API server.
const SERVICE_ADDRESS: [u8; 4] = [10, 0, 0, 1];
pub const SERVICE_RANGE: &str = "10.0.0.0/24";

const POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
";

/// There are keys in it that open the API server.
const OURS_ALONE: u32 = 0o700;

const PREFIX: &str = "claviger-control-plane-";
/// Locked as long as the folder's owner lives.
const OWNER_LOCK: &str = "owner.lock";

/// The folder, and what makes it go away.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    _scratch: Option<TempDir>,
    _owner: File,
}

impl StateFolder {
    /// Uses `path` (and leaves it there at the end, for people to look at), or else a scratch folder.
    pub fn create(path: Option<&Path>) -> Result<Self> {
        if let Some(path) = path {
            std::fs::create_dir_all(path)
                .with_context(|| format!("failed to create {}", path.display()))?;
            let path = path.canonicalize().context("failed to find the state folder")?;
            std::fs::set_permissions(&path, Permissions::from_mode(OURS_ALONE))
                .context("failed to close the state folder to others")?;
            let owner = lock(&path)?;
            for stale in [ETCD_DATA, AUDIT_LOG, "etcd.log", "kube-apiserver.log"] {
                remove(&path.join(stale))?;
            }
            return Ok(Self { path, _scratch: None, _owner: owner });
        }
        let parent = std::env::temp_dir();
        // One at a time: else we might take for abandoned what another is just making.
        let uid = rustix::process::getuid().as_raw();
        let prefix = format!("{PREFIX}{uid}-");
        let sweeping = open_lock(&parent.join(format!("{PREFIX}{uid}.lock")))?;
        sweeping.lock().context("failed to lock the folder of scratch folders")?;
        remove_abandoned(&parent, &prefix);
        let scratch = tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(Permissions::from_mode(OURS_ALONE))
            .tempdir_in(parent)
            .context("failed to make a scratch folder")?;
        let owner = lock(scratch.path())?;
        let path = scratch.path().canonicalize().context("failed to find the scratch folder")?;
        Ok(Self { path, _scratch: Some(scratch), _owner: owner })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Keys, certificates, the admin's kubeconfig and the audit policy for an API server at `port`.
    pub fn furnish(&self, port: u16) -> Result<()> {
        let authority = CertificateAuthority::create(CA_NAME)?;
        authority.save(&self.file(CA_CERTIFICATE), &self.file(CA_KEY))?;
        authority
            .server(
                &["kubernetes", "kubernetes.default", "kubernetes.default.svc"],
                &[SERVICE_ADDRESS.into()],
            )?
            .save(&self.file(SERVER_CERTIFICATE), &self.file(SERVER_KEY))?;
        let accounts = KeyPair::generate().context("failed to make the service account key")?;
        self.write(SERVICE_ACCOUNT_KEY, &accounts.serialize_pem())?;
        self.write(SERVICE_ACCOUNT_PUBLIC_KEY, &accounts.public_key_pem())?;
        self.write(AUDIT_POLICY, POLICY)?;
        let url = format!("https://127.0.0.1:{port}");
        self.write(URL, &url)?;
        self.write_admin_kubeconfig(KUBECONFIG, &url).map(drop)
    }

    /// The admin's kubeconfig for the API server at this URL.
    pub fn write_admin_kubeconfig(&self, name: &str, url: &str) -> Result<PathBuf> {
        let authority = load_authority(&self.path)?;
        let admin = Credentials::Certificate(authority.client("admin", &["system:masters"])?);
        let kubeconfig = kubeconfig(url, authority.certificate_pem(), &admin, "default");
        self.write(name, &format!("{kubeconfig:#}"))?;
        Ok(self.file(name))
    }

    pub fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.file(name);
        std::fs::write(&path, content)
            .with_context(|| format!("failed to write {}", path.display()))
    }
}

pub fn load_authority(state: &Path) -> Result<CertificateAuthority> {
    CertificateAuthority::load(&state.join(CA_CERTIFICATE), &state.join(CA_KEY), CA_NAME)
}

fn open_lock(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("failed to open {}", path.display()))
}

fn lock(folder: &Path) -> Result<File> {
    let owner = open_lock(&folder.join(OWNER_LOCK))?;
    owner.try_lock().with_context(|| {
        format!(
            "another control plane lives in {}: end it or name another folder",
            folder.display()
        )
    })?;
    Ok(owner)
}

fn remove(path: &Path) -> Result<()> {
    let removed =
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes the scratch folders (150 MB each) of those who were killed before they could. Nothing depends
/// on it, so what cannot be removed stays.
fn remove_abandoned(parent: &Path, prefix: &str) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let owner = File::options().write(true).open(path.join(OWNER_LOCK));
        let ours = entry.file_name().to_string_lossy().starts_with(prefix);
        if ours && owner.is_ok_and(|owner| owner.try_lock().is_ok()) {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_whose_owner_was_killed_is_removed_by_the_next_and_a_living_ones_is_not() {
        let uid = rustix::process::getuid().as_raw();
        let abandoned = std::env::temp_dir().join(format!("{PREFIX}{uid}-abandoned"));
        std::fs::create_dir_all(&abandoned).unwrap();
        std::fs::write(abandoned.join(OWNER_LOCK), "").unwrap();
        let first = StateFolder::create(None).unwrap();
        assert!(!abandoned.exists());
        let _second = StateFolder::create(None).unwrap();
        assert!(first.path().exists());
    }

    #[test]
    fn a_named_folder_has_one_owner_at_a_time_is_emptied_and_stays() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        let first = StateFolder::create(Some(&path)).unwrap();
        first.write(AUDIT_LOG, "of a former run").unwrap();
        let refusal = StateFolder::create(Some(&path)).unwrap_err().to_string();
        assert!(refusal.contains("another control plane lives in"), "{refusal}");
        drop(first);
        let second = StateFolder::create(Some(&path)).unwrap();
        assert!(!second.file(AUDIT_LOG).exists());
        drop(second);
        assert!(path.exists());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, OURS_ALONE);
    }
}
