//! `claviger run`: wires the control plane to the server, and ends when any part of it does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use claviger_controller::{Bounds, Config as ControllerConfig, Controller};
use claviger_domain::Provider;
use claviger_domain::outage::Attentive;
use claviger_domain::ports::Clock;
use claviger_server::tls::{CertificateFiles, Certificates};
use claviger_server::{App, Limits, Metrics};
use claviger_store::{KubeSessions, RevokedSessions, request_path_client};
use kube::Client;
use prometheus::Registry;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::args::{BoundsArgs, RunArgs};
use crate::audit::{LogAudit, publish_revocations};
use crate::cleanup::{Cleanup, Parts};
use crate::clock::{SystemClock, SystemEntropy};
use crate::lease;
use crate::telemetry;

/// For giving up the lease at the end; the API server may be away.
const RELEASE: Duration = Duration::from_secs(5);

type Tasks = JoinSet<anyhow::Result<()>>;

/// Runs until a signal, or until a part of it ends.
///
/// # Errors
/// When something cannot start, or a part ended by itself.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    telemetry::start_logging(args.log_format);
    if !args.insecure_http && args.tls_cert_file.is_none() {
        bail!(
            "give --tls-cert-file and --tls-key-file, or --insecure-http behind something that ends TLS"
        );
    }
    let (config, home) = super::cluster(&args.cluster).await?;
    let registry = telemetry::registry()?;
    let shutdown = CancellationToken::new();
    let mut tasks = Tasks::new();

    let watching = watching_client(&config)?;
    let identity = identity(&args);
    let (leadership, lease_task) = lease::contend(watching.clone(), &home, &identity).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let controller = Controller::new(
        watching.clone(),
        ControllerConfig {
            home: home.clone(),
            tenant_namespaces: args.tenant_namespaces.iter().cloned().collect(),
            instance: Some(identity.clone()),
            bounds: bounds(&args.bounds),
            takes_proxies: args.auth_proxy_listen.is_some(),
        },
        Arc::clone(&clock),
        leadership.clone(),
    );
    let (snapshot, readiness) = (controller.snapshot(), controller.readiness());
    let revoked = Arc::new(RevokedSessions::default());
    let sessions = KubeSessions::new(request_path_client(&config)?, &home, Arc::clone(&revoked));
    let (audit, revocations) = LogAudit::new(&registry)?;
    let provider = Provider {
        sessions: Arc::new(Attentive::new(Arc::new(sessions), Arc::clone(&clock))),
        clock,
        entropy: Arc::new(SystemEntropy),
        revocations: Arc::clone(&revoked) as _,
        audit: Arc::new(audit),
    };
    let cleanup = Cleanup::new(Parts {
        client: &watching,
        home: &home,
        instance: &identity,
        leadership: leadership.clone(),
        provider: &provider,
        snapshot: Arc::clone(&snapshot),
        revoked: Arc::clone(&revoked),
        registry: &registry,
        interval: Duration::from_secs(args.cleanup_interval_seconds),
    })?;
    let app = App::new(provider, Arc::clone(&snapshot), Metrics::new(&registry)?);

    spawn_controller(&mut tasks, controller, &shutdown);
    spawn_cleanup(&mut tasks, cleanup, &shutdown);
    let events = publish_revocations(watching.clone(), home.clone(), identity, revocations);
    spawn_events(&mut tasks, events, &shutdown);
    let tombstones = Arc::new(AtomicBool::new(false));
    spawn_revocations(&mut tasks, watching, home, (revoked, Arc::clone(&tombstones)), &shutdown);
    serve_issuers(&mut tasks, &args, app, &shutdown).await?;
    serve_admin(&mut tasks, &args, registry, (readiness, tombstones), &shutdown).await?;

    let outcome = first_end(&mut tasks, &shutdown).await;
    while let Some(ended) = tasks.join_next().await {
        ended.context("a part of claviger panicked")??;
    }
    drop(leadership); // the lease task releases the lease when nobody listens any more
    if let Ok(ended) = timeout(RELEASE, lease_task).await {
        ended.context("the lease task panicked")?.context("failed to release the lease")?;
    } else {
        tracing::warn!("the lease was not released in time; it runs out by itself");
    }
    outcome
}

fn bounds(args: &BoundsArgs) -> Bounds {
    Bounds { jwks_max_age: args.jwks_max_age, skew: args.clock_skew, staleness: args.staleness }
}

/// The pod's name, or something like it.
fn identity(args: &RunArgs) -> String {
    args.identity.clone().unwrap_or_else(|| format!("claviger-{}", std::process::id()))
}

/// For watches and the controllers' own writes: no retry below ours, and no read timeout, for a
/// quiet watch is healthy.
fn watching_client(config: &kube::Config) -> anyhow::Result<Client> {
    let mut config = config.clone();
    config.default_retry = false;
    config.read_timeout = None;
    Client::try_from(config).context("failed to make a Kubernetes client")
}

/// Waits for a signal or for the first task that ends, then tells the others to end.
async fn first_end(tasks: &mut Tasks, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = tasks.join_next() => match ended {
            Some(Ok(Ok(()))) | None => Err(anyhow::anyhow!("a part of claviger ended by itself")),
            Some(Ok(Err(error))) => Err(error),
            Some(Err(error)) => Err(error).context("a part of claviger panicked"),
        },
    };
    tracing::info!("shutting down");
    shutdown.cancel();
    outcome
}

fn spawn_controller(tasks: &mut Tasks, controller: Controller, shutdown: &CancellationToken) {
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        controller.run(shutdown.cancelled_owned()).await.context("the control plane ended")
    });
}

fn spawn_cleanup(tasks: &mut Tasks, cleanup: Cleanup, shutdown: &CancellationToken) {
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => Ok(()), // a page under way is harmless
            () = cleanup.run() => bail!("nobody says any more who leads"),
        }
    });
}

fn spawn_events(
    tasks: &mut Tasks,
    events: impl Future<Output = ()> + Send + 'static,
    shutdown: &CancellationToken,
) {
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            () = events => bail!("nobody is left to tell of revocations"),
        }
    });
}

fn spawn_revocations(
    tasks: &mut Tasks,
    client: Client,
    home: String,
    revoked: (Arc<RevokedSessions>, Arc<AtomicBool>),
    shutdown: &CancellationToken,
) {
    let (revoked, known) = revoked;
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        let synced = || known.store(true, Ordering::Release);
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            () = revoked.follow(client, &home, synced) => bail!("the watch of revoked sessions ended"),
        }
    });
}

async fn serve_issuers(
    tasks: &mut Tasks,
    args: &RunArgs,
    app: App,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("failed to listen on {}", args.listen))?;
    let tls = match (&args.tls_cert_file, &args.tls_key_file) {
        (Some(certificate), Some(key)) => {
            let files = CertificateFiles { certificate: certificate.clone(), key: key.clone() };
            let certificates = Arc::new(Certificates::load(files, app.snapshot())?);
            let polling = Arc::clone(&certificates).poll(shutdown.clone());
            tasks.spawn(async move {
                polling.await;
                Ok(())
            });
            if let Some(address) = args.auth_proxy_listen {
                let config = certificates.proxy_config()?;
                serve_proxies(tasks, address, config, app.clone(), shutdown).await?;
            }
            Some(certificates.server_config()?)
        }
        _ => None,
    };
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        claviger_server::serve(listener, tls, app, Limits::default(), shutdown)
            .await
            .context("the OpenID Connect listener ended")
    });
    tracing::info!(address = %args.listen, "serving OpenID Connect");
    Ok(())
}

async fn serve_proxies(
    tasks: &mut Tasks,
    address: SocketAddr,
    tls: Arc<ServerConfig>,
    app: App,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on {address}"))?;
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        claviger_server::serve_proxies(listener, tls, app, Limits::default(), shutdown)
            .await
            .context("the listener for trusted proxies ended")
    });
    tracing::info!(%address, "taking the word of trusted proxies");
    Ok(())
}

async fn serve_admin(
    tasks: &mut Tasks,
    args: &RunArgs,
    registry: Registry,
    (readiness, tombstones): (watch::Receiver<claviger_controller::Readiness>, Arc<AtomicBool>),
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.admin_listen)
        .await
        .with_context(|| format!("failed to listen on {}", args.admin_listen))?;
    let ready: admin::Readiness = Arc::new(move || {
        let readiness = readiness.borrow();
        if !tombstones.load(Ordering::Acquire) {
            Err("revoked sessions are not listed yet: may the ServiceAccount list sessions?".into())
        } else if readiness.is_ready() {
            Ok(())
        } else if readiness.missing.is_empty() {
            Err("the first snapshot is not published yet".into())
        } else {
            Err(readiness.missing.join("\n"))
        }
    });
    let router = admin::router(registry, ready);
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        axum::serve(listener, router)
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await
            .context("the admin listener ended")
    });
    Ok(())
}
