//! Waiting for a condition with a deadline: the one place in the tests where anything sleeps.

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
    let end = Instant::now() + deadline;
    loop {
        match condition().await {
            Ok(value) => return Ok(value),
            Err(missing) if Instant::now() >= end => {
                return Err(missing).with_context(|| format!("not so within {deadline:?}"));
            }
            Err(_) => sleep(POLL).await,
        }
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
