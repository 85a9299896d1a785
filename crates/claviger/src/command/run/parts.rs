//! The parts of a running Claviger: each is awaited, and the first that ends, ends them all.

use anyhow::{Context, anyhow, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Everything that runs until the process is told to end.
#[derive(Debug, Default)]
pub struct Parts {
    tasks: JoinSet<anyhow::Result<()>>,
    shutdown: CancellationToken,
}

impl Parts {
    /// Resolves when every part must end.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// A part that watches [`Parts::shutdown`] itself, and ends well only after it.
    pub fn add(&mut self, part: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.tasks.spawn(part);
    }

    /// A part that never ends by itself and may be dropped at any moment; `ended` is what is said
    /// when it does end.
    pub fn add_endless(
        &mut self,
        part: impl Future<Output = ()> + Send + 'static,
        ended: &'static str,
    ) {
        let shutdown = self.shutdown();
        self.tasks.spawn(async move {
            tokio::select! {
                biased; // what ends because the process does is no failure
                () = shutdown.cancelled() => Ok(()),
                () = part => bail!(ended),
            }
        });
    }

    /// Waits for a signal or for the first part that ends, tells the others to end, and waits for
    /// them.
    ///
    /// # Errors
    /// When a part ended by itself, failed or panicked.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let outcome = self.first_end().await;
        match &outcome {
            Ok(()) => tracing::info!("shutting down"),
            Err(error) => tracing::error!(error = format!("{error:#}"), "shutting down"),
        }
        self.shutdown.cancel();
        let mut outcomes = vec![outcome];
        while let Some(ended) = self.tasks.join_next().await {
            outcomes.push(ended.context("a part of claviger panicked").flatten());
        }
        // What ended first is the reason; the others' failures may follow from it.
        let mut failures = outcomes.into_iter().filter_map(Result::err);
        let first = failures.next();
        for error in failures {
            tracing::error!(error = format!("{error:#}"), "another part failed too");
        }
        first.map_or(Ok(()), Err)
    }

    async fn first_end(&mut self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            ended = self.tasks.join_next() => match ended {
                Some(Ok(Ok(()))) | None => Err(anyhow!("a part of claviger ended by itself")),
                Some(Ok(Err(error))) => Err(error),
                Some(Err(error)) => Err(error).context("a part of claviger panicked"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_part_that_ends_ends_the_others() {
        let mut parts = Parts::default();
        let shutdown = parts.shutdown();
        parts.add(async move {
            shutdown.cancelled().await;
            Ok(())
        });
        parts.add_endless(std::future::pending(), "never");
        parts.add_endless(async {}, "the watch ended");
        assert_eq!(parts.run().await.unwrap_err().to_string(), "the watch ended");
    }

    #[tokio::test]
    async fn the_reason_is_what_ended_first_and_not_what_followed() {
        let mut parts = Parts::default();
        let (held, mut followed) = tokio::sync::watch::channel(());
        parts.add(async move {
            drop(held);
            bail!("the Lease's task died")
        });
        parts.add(async move { Ok(followed.changed().await?) });
        assert_eq!(parts.run().await.unwrap_err().to_string(), "the Lease's task died");
    }

    #[tokio::test]
    async fn a_part_that_panics_ends_the_process() {
        let mut parts = Parts::default();
        parts.add_endless(async { panic!("broken") }, "never");
        let error = parts.run().await.unwrap_err();
        assert_eq!(error.to_string(), "a part of claviger panicked");
    }
}
