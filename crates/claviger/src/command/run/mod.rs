//! `claviger run`: wires the control plane to the server, and ends when any part of it does.
//!
//! ```text
//! mod.rs        what is wired to what
//! parts.rs      what runs: the first part that ends, ends the process
//! listeners.rs  what listens
//! readiness.rs  what /readyz asks
//! ```

mod listeners;
mod parts;
mod readiness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use claviger_controller::{Bounds, Config as ControllerConfig, Controller};
use claviger_domain::Provider;
use claviger_domain::back_channel_logout::Receivers;
use claviger_domain::client_assertion::Assertions;
use claviger_domain::outage::Attentive;
use claviger_domain::ports::Clock;
use claviger_outbound::{Outbound, Settings};
use claviger_server::{App, Metrics};
use claviger_store::{
    ApiTime, KubeCluster, KubeDevices, KubeRegistry, KubeSessions, PendingLogouts, RevokedSessions,
    Share, WriteGate, WriteLimits, request_path_client, watching_client,
};
use kube::Client;
use prometheus::Registry;
use tokio::sync::watch;

use self::parts::Parts;
use crate::args::{BoundsArgs, OutboundArgs, RunArgs};
use crate::audit::{LogAudit, publish_revocations};
use crate::cleanup::{self, Cleanup};
use crate::clock::{SystemClock, SystemEntropy, register_offset};
use crate::lease::{Contender, Leadership, Term};
use crate::logout_delivery::{self, LogoutDelivery};
use crate::telemetry;
use crate::upstream_metrics::UpstreamMetrics;

/// Where this replica is, and what everything in it shares.
struct Place {
    config: kube::Config,
    home: String,
    identity: String,
    api_time: Arc<ApiTime>,
    clock: Arc<dyn Clock>,
    registry: Registry,
}

impl Place {
    async fn find(args: &RunArgs) -> anyhow::Result<Self> {
        let (config, home) = super::cluster(&args.cluster).await?;
        let identity =
            args.identity.clone().unwrap_or_else(|| format!("claviger-{}", std::process::id()));
        let api_time = Arc::new(ApiTime::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new(Arc::clone(&api_time)));
        let registry = telemetry::registry()?;
        register_offset(&registry, &api_time)?;
        Ok(Self { config, home, identity, api_time, clock, registry })
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When something needed at start is not there, or a part ends by itself.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    telemetry::start_logging(args.log_format);
    if !args.insecure_http && args.tls_cert_file.is_none() {
        bail!(
            "give --tls-cert-file and --tls-key-file, or --insecure-http behind something that ends TLS"
        );
    }
    let place = Place::find(&args).await?;
    let mut parts = Parts::default();
    let watching = watching_client(&place.config, &place.api_time)
        .context("failed to make a Kubernetes client")?;
    let leadership = contend(&mut parts, &place, &args)?;
    let controller = Controller::new(
        watching.clone(),
        controller_config(&place, &args)?,
        Arc::clone(&place.clock),
        leadership.clone(),
    );
    let revoked = Arc::new(RevokedSessions::default());
    let (sessions, devices) = stores(&place, &args, &revoked)?;
    let (audit, revocations) = LogAudit::new(&place.registry)?;
    let provider = Provider {
        clock: Arc::clone(&place.clock),
        entropy: Arc::new(SystemEntropy),
        sessions: Arc::new(Attentive::new(Arc::new(sessions), Arc::clone(&place.clock))),
        devices: Arc::clone(&devices) as _,
        polls: Arc::default(),
        revocations: Arc::clone(&revoked) as _,
        registry: Arc::new(KubeRegistry::new(request_client(&place)?, &place.home)),
        audit: Arc::new(audit),
        assertions: Arc::new(assertions(&place, outbound(&args.outbound)?)?),
    };
    let delivery = LogoutDelivery::new(logout_delivery::Parts {
        leadership: cleanup::Leadership::new(leadership.clone(), Arc::clone(&place.clock)),
        pending: PendingLogouts::new(watching.clone(), &place.home),
        receivers: receivers(&args.outbound)?,
        provider: provider.clone(),
        snapshot: controller.snapshot(),
        registry: &place.registry,
    })?;
    let cleanup = Cleanup::new(cleanup::Parts {
        client: &watching,
        home: &place.home,
        instance: &place.identity,
        leadership,
        provider: &provider,
        snapshot: controller.snapshot(),
        revoked: Arc::clone(&revoked),
        devices: follow_devices(&mut parts, watching.clone(), &devices, &place.home),
        registry: &place.registry,
        interval: Duration::from_secs(args.cleanup_interval_seconds),
    })?;
    let app = App::new(provider, controller.snapshot(), Metrics::new(&place.registry)?);
    let ready = readiness::Sources {
        controller: controller.readiness(),
        tombstones: follow_revocations(&mut parts, watching.clone(), place.home.clone(), revoked),
        clock: Arc::clone(&place.clock),
    };

    let shutdown = parts.shutdown();
    parts.add(async move {
        controller.run(shutdown.cancelled_owned()).await.context("the control plane ended")
    });
    // A page under way is harmless.
    parts.add_endless(cleanup.run(), "nobody says any more who leads");
    parts.add_endless(delivery.run(), "nobody says any more who leads");
    let events = publish_revocations(watching, place.home, place.identity, revocations);
    parts.add_endless(events, "nobody is left to tell of revocations");
    listeners::serve_issuers(&mut parts, &args, app).await?;
    listeners::serve_admin(&mut parts, &args, place.registry, ready.into_check()).await?;
    parts.run().await
}

fn controller_config(place: &Place, args: &RunArgs) -> anyhow::Result<ControllerConfig> {
    Ok(ControllerConfig {
        home: place.home.clone(),
        tenant_namespaces: args.tenant_namespaces.iter().cloned().collect(),
        instance: Some(place.identity.clone()),
        bounds: bounds(&args.bounds),
        takes_proxies: args.auth_proxy_listen.is_some(),
        azure_federated_token_file: args.azure_federated_token_file.clone(),
        observer: Arc::new(UpstreamMetrics::new(&place.registry)?),
    })
}

fn bounds(args: &BoundsArgs) -> Bounds {
    Bounds { jwks_max_age: args.jwks_max_age, skew: args.clock_skew, staleness: args.staleness }
}

/// Contends for the Lease; the receiver says whether this replica leads.
fn contend(
    parts: &mut Parts,
    place: &Place,
    args: &RunArgs,
) -> anyhow::Result<watch::Receiver<bool>> {
    let term = Term::new(args.lease_duration_seconds, args.lease_grace_seconds)?;
    let who = (place.home.as_str(), place.identity.as_str(), term);
    let contender = Contender::new(&place.config, &place.api_time, Arc::clone(&place.clock), who)?;
    let leadership = Leadership::new(&place.registry)?;
    let leads = leadership.subscribe();
    parts.add(contender.run(leadership, parts.shutdown()));
    Ok(leads)
}

/// A client for requests that somebody waits for.
fn request_client(place: &Place) -> anyhow::Result<Client> {
    request_path_client(&place.config, &place.api_time)
        .context("failed to make a Kubernetes client")
}

/// How many writes this replica makes.
fn write_limits(args: &RunArgs) -> WriteLimits {
    WriteLimits {
        per_second: args.session_writes_per_second,
        burst: args.session_writes_burst,
        in_flight: args.session_writes_in_flight,
        per_user: Share {
            per_minute: args.shares.user_sign_ins_per_minute,
            burst: args.shares.user_sign_ins_burst,
        },
        per_session: Share {
            per_minute: args.shares.session_refreshes_per_minute,
            burst: args.shares.session_refreshes_burst,
        },
    }
}

/// Sessions, and devices that wait, each on a client of its own, so that nothing else is in their way: strangers
/// ask for devices. One gate lets all of them write.
fn stores(
    place: &Place,
    args: &RunArgs,
    revoked: &Arc<RevokedSessions>,
) -> anyhow::Result<(KubeSessions, Arc<KubeDevices>)> {
    let gate = Arc::new(WriteGate::new(write_limits(args), &place.registry)?);
    let devices = KubeDevices::new(request_client(place)?, &place.home, Arc::clone(&gate));
    let client = request_client(place)?;
    Ok((KubeSessions::new(client, &place.home, Arc::clone(revoked), gate), Arc::new(devices)))
}

/// Whoever believes what clients signed: their keys are asked for where they publish them, the cluster's
/// of the API server.
fn assertions(place: &Place, outbound: Outbound) -> anyhow::Result<Assertions> {
    let client = request_client(place)?;
    Ok(Assertions::new(Arc::new(outbound), Arc::new(KubeCluster::new(client))))
}

/// Who tells clients: a client of its own, so that those that do not answer keep nobody from proving themselves.
fn receivers(args: &OutboundArgs) -> anyhow::Result<Arc<dyn Receivers>> {
    Ok(Arc::new(outbound(args)?))
}

/// The client for URLs that others chose.
fn outbound(args: &OutboundArgs) -> anyhow::Result<Outbound> {
    let authorities = args
        .ca_file
        .as_ref()
        .map(|file| {
            std::fs::read(file).with_context(|| format!("failed to read {}", file.display()))
        })
        .transpose()?;
    let settings =
        Settings { allowed_networks: args.allowed_networks.clone(), authorities, deadline: None };
    Outbound::new(&settings).context("--outbound-ca-file")
}

/// Learns of revoked sessions; the flag says when all there were are known.
fn follow_revocations(
    parts: &mut Parts,
    client: Client,
    home: String,
    revoked: Arc<RevokedSessions>,
) -> Arc<AtomicBool> {
    let known = Arc::new(AtomicBool::new(false));
    let synced = Arc::clone(&known);
    let following = async move {
        let synced = || synced.store(true, Ordering::Release);
        revoked.follow(client, &home, synced).await;
    };
    parts.add_endless(following, "the watch of revoked sessions ended");
    known
}

/// Learns of devices that wait. No readiness depends on it: until they are listed, devices alone are told to
/// come later.
fn follow_devices(
    parts: &mut Parts,
    client: Client,
    devices: &Arc<KubeDevices>,
    home: &str,
) -> Arc<KubeDevices> {
    let (followed, home) = (Arc::clone(devices), home.to_owned());
    let following = async move { followed.follow(client, &home).await };
    parts.add_endless(following, "the watch of device authorizations ended");
    Arc::clone(devices)
}
