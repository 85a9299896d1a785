//! A deadline on every request of the control plane: a hung write must not stop a task for ever.

use std::time::Duration;

use tokio::time::timeout;

/// Longest time one request may take: twice what a user is let wait, for nobody waits here.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// One request, which fails when it is not answered in time. It may have happened all the same.
///
/// # Errors
/// The request's own, or that there was no answer.
pub async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    within_time(DEADLINE, request).await
}

async fn within_time<T>(
    limit: Duration,
    request: impl Future<Output = kube::Result<T>>,
) -> kube::Result<T> {
    timeout(limit, request).await.unwrap_or_else(|_| {
        let message = format!("the API server did not answer within {limit:?}");
        Err(kube::Error::Service(message.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_hangs_fails_in_its_time() {
        let hanging = std::future::pending::<kube::Result<()>>();
        let error = within_time(Duration::from_millis(20), hanging).await.unwrap_err();
        assert!(error.to_string().contains("did not answer within 20ms"), "{error}");
        within(std::future::ready(Ok(()))).await.unwrap();
    }
}
