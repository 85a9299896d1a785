//! What listens: the issuers' endpoints, the one for trusted proxies, and the admin endpoints.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use claviger_server::tls::{CertificateFiles, Certificates};
use claviger_server::{App, Limits};
use prometheus::Registry;
use rustls::ServerConfig;
use tokio::net::TcpListener;

use super::parts::Parts;
use crate::admin;
use crate::args::RunArgs;

/// Serves OpenID Connect.
///
/// # Errors
/// When the address is taken or the certificate cannot be used.
pub async fn serve_issuers(parts: &mut Parts, args: &RunArgs, app: App) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("failed to listen on {}", args.listen))?;
    let shutdown = parts.shutdown();
    let tls = match (&args.tls_cert_file, &args.tls_key_file) {
        (Some(certificate), Some(key)) => {
            let files = CertificateFiles { certificate: certificate.clone(), key: key.clone() };
            let certificates = Arc::new(Certificates::load(files, app.snapshot())?);
            let polling = Arc::clone(&certificates).poll(shutdown.clone());
            parts.add(async move {
                polling.await;
                Ok(())
            });
            if let Some(address) = args.auth_proxy_listen {
                let config = certificates.proxy_config()?;
                serve_proxies(parts, address, config, app.clone()).await?;
            }
            Some(certificates.server_config()?)
        }
        _ => None,
    };
    parts.add(async move {
        claviger_server::serve(listener, tls, app, Limits::default(), shutdown)
            .await
            .context("the OpenID Connect listener ended")
    });
    tracing::info!(address = %args.listen, "serving OpenID Connect");
    Ok(())
}

async fn serve_proxies(
    parts: &mut Parts,
    address: SocketAddr,
    tls: Arc<ServerConfig>,
    app: App,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on {address}"))?;
    let shutdown = parts.shutdown();
    parts.add(async move {
        claviger_server::serve_proxies(listener, tls, app, Limits::default(), shutdown)
            .await
            .context("the listener for trusted proxies ended")
    });
    tracing::info!(%address, "taking the word of trusted proxies");
    Ok(())
}

/// Serves `/metrics`, `/livez` and `/readyz`.
///
/// # Errors
/// When the address is taken.
pub async fn serve_admin(
    parts: &mut Parts,
    args: &RunArgs,
    registry: Registry,
    ready: admin::Readiness,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.admin_listen)
        .await
        .with_context(|| format!("failed to listen on {}", args.admin_listen))?;
    let router = admin::router(registry, ready);
    let shutdown = parts.shutdown();
    parts.add(async move {
        axum::serve(listener, router)
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await
            .context("the admin listener ended")
    });
    Ok(())
}
