//! Logs to standard error, metrics in one registry.
//!
//! What always holds: no body of an API server's answer is logged. kube's client would print one that does
//! not parse, whole: a Secret with its keys, a Session with its payload. Callers log the error instead.

use prometheus::process_collector::ProcessCollector;
use prometheus::{IntGaugeVec, Opts, Registry};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::LogFormat;

/// Starts logging; `RUST_LOG` chooses levels.
pub fn start_logging(format: LogFormat) {
    let chosen = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    subscriber(format, chosen, std::io::stderr).init();
}

fn subscriber<W>(format: LogFormat, chosen: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Json => lines.json().boxed(),
        LogFormat::Text => lines.boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(chosen.and(filter_fn(holds_no_body))))
}

/// Whatever was chosen: below the level of errors, kube's client prints bodies.
fn holds_no_body(of: &Metadata<'_>) -> bool {
    of.target() != "kube_client::client" || *of.level() == Level::ERROR
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
    fn no_level_that_is_chosen_prints_what_kubes_client_read_and_its_other_words_stay() {
        let chosen = [
            "info",
            "trace",
            "kube_client=trace",
            "kube_client::client[{message}]=trace",
            "[a]=trace,info",
        ];
        for (chosen, format) in
            chosen.into_iter().zip([LogFormat::Text, LogFormat::Json].into_iter().cycle())
        {
            let written = Written::default();
            let writer = written.clone();
            let subscriber = subscriber(format, EnvFilter::new(chosen), move || writer.clone());
            tracing::subscriber::with_default(subscriber, || {
                let _span = tracing::info_span!("a").entered();
                tracing::warn!(target: "kube_client::client", "a body");
                tracing::warn!(target: "kube_client::client::tls", "a stale authority");
                tracing::error!(target: "kube_client::client", "an error");
            });
            let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert!(!written.contains("a body"), "{chosen}: {written}");
            assert!(written.contains("an error"), "{chosen}: {written}");
            assert!(written.contains("a stale authority"), "{chosen}: {written}");
        }
    }
}
