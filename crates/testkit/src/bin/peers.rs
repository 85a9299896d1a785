//! `make peers`: what the programs that the stories start cost on this machine, one after the other: seconds until each
//! answers, the first time and again, and memory then.
//!
//! Each is started by what starts it for the stories, and has ended before the next. What `make outside` fetches and builds
//! once is there before; what is made for each start, certificates and databases, counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use claviger_testkit::chromium::Scripts;
use claviger_testkit::gitea::Gitea;
use claviger_testkit::keycloak::Keycloak;
use claviger_testkit::keystone::Keystone;
use claviger_testkit::outside::provided;
use claviger_testkit::pysaml2::Pysaml2;
use claviger_testkit::upstream_provider::UpstreamProvider;
use claviger_testkit::{CertificateAuthority, Chromium, ControlPlane, Samba, Slapd, eventually};

const MEGABYTE: u64 = 1 << 20;
/// For a process that was killed to be gone.
const END: Duration = Duration::from_secs(10);

/// Starts each, prints what that took, and ends it.
#[derive(Parser)]
struct Args {
    /// How often each is started; beside the first start, the median of the others is printed.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=9))]
    times: u8,
}

#[tokio::main]
async fn main() -> Result<()> {
    let times = Args::parse().times;
    for what in ["oidc-provider", "pysaml2", "keystone", "gitea", "keycloak"] {
        provided(what).await?;
    }
    let authority = CertificateAuthority::create("peers")?;
    let folder = tempfile::tempdir()?;
    let certificate = folder.path().join("tls.crt");
    authority.server(&["localhost"], &[])?.save(&certificate, &folder.path().join("tls.key"))?;

    println!("| program | first start, s | again, s | MB |\n|---|---|---|---|");
    let plane = async || ControlPlane::start(ControlPlane::builder()).await;
    measure("etcd and kube-apiserver", times, plane).await?;
    measure("slapd", times, Slapd::start).await?;
    measure("Samba", times, Samba::start).await?;
    measure("Keycloak", times, Keycloak::apart).await?;
    let callback = "https://localhost:1/callback/corp";
    measure("oidc-provider", times, async || UpstreamProvider::start(&authority, callback).await)
        .await?;
    measure("pysaml2", times, async || Pysaml2::start(&authority).await).await?;
    measure("Keystone", times, Keystone::apart).await?;
    measure("Gitea", times, Gitea::apart).await?;
    let chromium = async || Chromium::start(&certificate, Scripts::On).await;
    measure("Chromium and its driver", times, chromium).await
}

/// Starts it as often, and prints a row of the table; the memory is the most that all its processes had together.
async fn measure<T>(name: &str, times: u8, start: impl AsyncFn() -> Result<T>) -> Result<()> {
    let before = descendants()?;
    let (mut seconds, mut most) = (Vec::new(), 0);
    for _ in 0..times {
        let began = Instant::now();
        let running = start().await.with_context(|| format!("{name} does not start"))?;
        seconds.push(began.elapsed().as_secs_f64());
        most = most.max(descendants()?.difference(&before).map(|pid| memory(*pid)).sum());
        drop(running);
        eventually(END, async || {
            let left = descendants()?.difference(&before).count();
            anyhow::ensure!(left == 0, "{left} processes of {name} are still there");
            Ok(())
        })
        .await?;
    }
    let first = seconds.remove(0);
    seconds.sort_by(f64::total_cmp);
    let again = seconds[seconds.len() / 2];
    println!("| {name} | {first:.1} | {again:.1} | {} |", most / MEGABYTE);
    Ok(())
}

/// Every process that this one is above of.
fn descendants() -> Result<BTreeSet<u32>> {
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").context("failed to list processes")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(parent) = field(pid, "status", "PPid") {
            parents.insert(pid, parent);
        }
    }
    let own = u64::from(std::process::id());
    let is_below = |pid: &u32| {
        let above = |pid: &u64| parents.get(&u32::try_from(*pid).ok()?).copied();
        std::iter::successors(above(&u64::from(*pid)), above).any(|parent| parent == own)
    };
    Ok(parents.keys().copied().filter(is_below).collect())
}

/// Bytes of it in memory, its share of what several have in common; none where it is gone.
fn memory(pid: u32) -> u64 {
    field(pid, "smaps_rollup", "Pss").unwrap_or_default() * 1_024
}

/// A number in a file of `/proc/<pid>`.
fn field(pid: u32, file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join(file));
    let text = text.ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}
