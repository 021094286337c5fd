//! Waiting for a store that does not answer.

use std::future::Future;

use crate::error::causes_of;
use crate::repeat::until_ok;
use crate::store::StoreError;
use crate::telemetry::metrics::Metrics;

/// Asks the store until it answers, whatever its error is: for reads that nothing can go on
/// without. `what` is what waits meanwhile, for the log, in the plural ("results").
pub async fn until_answered<T, A: Future<Output = Result<T, StoreError>>>(
    metrics: &Metrics,
    what: &str,
    ask: impl FnMut() -> A,
) -> T {
    until_ok(ask, |error| away(metrics, what, &error)).await
}

/// As [`until_answered`], for writes.
///
/// # Errors
/// The store refuses the data themselves ([`StoreError::is_about_data`]). It would refuse them
/// again, for ever, and whatever waits behind them would wait as long.
pub async fn until_taken<T, A: Future<Output = Result<T, StoreError>>>(
    metrics: &Metrics,
    what: &str,
    mut ask: impl FnMut() -> A,
) -> Result<T, StoreError> {
    let ask = || {
        let answer = ask();
        async {
            match answer.await {
                Err(error) if error.is_about_data() => {
                    metrics.store_errors.inc();
                    Ok(Err(error))
                }
                answer => answer.map(Ok),
            }
        }
    };
    until_answered(metrics, what, ask).await
}

/// Counts and logs that the store did not do what was asked, and that `what` waits for it.
pub fn away(metrics: &Metrics, what: &str, error: &StoreError) {
    metrics.store_errors.inc();
    // Waited out alike, but an operator looks elsewhere: at the server, or at what it says.
    let does = if error.is_transient() {
        "does not answer"
    } else {
        "refuses a query"
    };
    tracing::warn!(
        %error,
        cause = causes_of(error),
        "the store {does}; {what} wait for it"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable() -> StoreError {
        StoreError::Unavailable(sqlx::Error::PoolTimedOut)
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_is_asked_until_it_answers() {
        let metrics = Metrics::new();
        let mut asked = 0;
        let answer = until_answered(&metrics, "results", || {
            asked += 1;
            std::future::ready(if asked < 3 {
                Err(unreachable())
            } else {
                Ok(asked)
            })
        })
        .await;
        assert_eq!((answer, metrics.store_errors.get()), (3, 2));
    }

    #[tokio::test]
    async fn what_is_refused_for_what_is_in_it_is_not_written_again() {
        let metrics = Metrics::new();
        let mut refused = Some(refused_data().await);
        // Only now: the database answers from a thread, for which a paused clock does not wait.
        tokio::time::pause();
        let mut asked = 0;
        let answer = until_taken(&metrics, "results", || {
            asked += 1;
            std::future::ready(match refused.take_if(|_| asked == 3) {
                Some(error) => Err::<(), _>(error),
                None => Err(unreachable()),
            })
        })
        .await;
        assert!(answer.is_err_and(|error| error.is_about_data()));
        assert_eq!((asked, metrics.store_errors.get()), (3, 3));
    }

    /// A database's own error about a value: nothing else can build one.
    async fn refused_data() -> StoreError {
        let pool = sqlx::SqlitePool::connect("sqlite::memory:").await.unwrap();
        let source = sqlx::query("SELECT CAST(zeroblob(2147483647) AS TEXT)")
            .execute(&pool)
            .await
            .unwrap_err();
        StoreError::Refused {
            query: "a.query".to_owned(),
            source,
        }
    }
}
