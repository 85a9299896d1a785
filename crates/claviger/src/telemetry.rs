//! Logs to standard error, metrics in one registry.
//!
//! What always holds: no body of an API server's answer is logged. kube's client would print one that does
//! not parse, whole: a Secret with its keys, a Session with its payload. Callers log the error instead.

use anyhow::Context;
use prometheus::process_collector::ProcessCollector;
use prometheus::{IntGaugeVec, Opts, Registry};
use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// Whatever `RUST_LOG` says: below this level kube's client prints bodies.
const NO_BODIES: &str = "kube_client::client=error";

/// Starts logging; `RUST_LOG` chooses levels.
///
/// # Errors
/// Never at present: what is always added to the filter is one.
pub fn start_logging(format: LogFormat) -> anyhow::Result<()> {
    let chosen = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = without_bodies(chosen)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Text => builder.init(),
    }
    Ok(())
}

fn without_bodies(filter: EnvFilter) -> anyhow::Result<EnvFilter> {
    let never = NO_BODIES.parse().context("failed to read a filter of our own")?;
    Ok(filter.add_directive(never))
}

/// The registry with process metrics and the build's version.
///
/// # Errors
/// When a metric cannot be registered.
pub fn registry() -> prometheus::Result<Registry> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    let build = IntGaugeVec::new(Opts::new("claviger_build_info", "Always 1."), &["version"])?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(build))?;
    Ok(registry)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_level_that_is_chosen_prints_what_kubes_client_read() {
        for chosen in ["info", "trace", "kube_client=trace", "kube_client::client=warn"] {
            let written = Written::default();
            let writer = written.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_env_filter(without_bodies(EnvFilter::new(chosen)).unwrap())
                .with_writer(move || writer.clone())
                .finish();
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(target: "kube_client::client", "a body");
                tracing::error!("an error");
            });
            let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert!(!written.contains("a body"), "{chosen}: {written}");
            assert!(written.contains("an error") || chosen.starts_with("kube_client"), "{chosen}");
        }
    }
}
