//! Waiting for a condition with a deadline: what a test does instead of sleeping until something should be true.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

const POLL: Duration = Duration::from_millis(50);

/// Asks `condition` every 50 ms until it answers `Ok`, and hands that value on.
///
/// The condition is asked at least once. It says with its error what is still missing; after `deadline`
/// the last such error is returned. One answer may take longer than the deadline: nothing is cut off.
pub async fn eventually<T, F>(deadline: Duration, mut condition: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<T>,
{
    let deadline = Deadline::after(deadline);
    loop {
        match condition().await {
            Ok(value) => return Ok(value),
            Err(missing) => deadline.pause_or(missing).await?,
        }
    }
}

/// The same for a loop of one's own: in a task that is spawned, where the borrow checker refuses
/// [`eventually`]'s closures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    end: Instant,
    time: Duration,
}

impl Deadline {
    /// Begins now.
    pub(crate) fn after(time: Duration) -> Self {
        Self { end: Instant::now() + time, time }
    }

    /// A pause before the next attempt, or, when the time is over, what the last one missed.
    pub(crate) async fn pause_or(self, missing: anyhow::Error) -> Result<()> {
        if Instant::now() >= self.end {
            return Err(missing).with_context(|| format!("not so within {:?}", self.time));
        }
        sleep(POLL).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{bail, ensure};

    #[tokio::test]
    async fn the_first_good_answer_is_handed_on() {
        let mut asked = 0;
        let answer = eventually(Duration::from_secs(5), async || {
            asked += 1;
            ensure!(asked == 3, "asked {asked} times");
            Ok(asked)
        })
        .await;
        assert_eq!(answer.unwrap(), 3);
    }

    #[tokio::test]
    async fn after_the_deadline_the_last_error_says_what_is_missing() {
        let failure = eventually(Duration::ZERO, async || -> Result<()> { bail!("no moon") })
            .await
            .unwrap_err();
        assert_eq!(format!("{failure:#}"), "not so within 0ns: no moon");
    }
}
