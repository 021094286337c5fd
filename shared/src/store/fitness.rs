//! What of a database a promise depends on, beside the schema: it must be able to hold every text,
//! be written to, and have on its disk what it confirmed. Every process that opens the store looks
//! at it, and `posthaste doctor` too.

use super::{Store, StoreError};

/// Something about the database that is not as it must be, or had better be otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether the database can be used all the same.
    pub severity: Severity,
    /// What is so, such as "the database shop has the encoding SQL_ASCII".
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// A promise cannot be kept: no process works with it.
    Refused,
    /// A promise holds less well: `doctor` warns.
    Doubtful,
}

impl Finding {
    pub(super) fn refused(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            severity: Severity::Refused,
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    pub(super) fn doubtful(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            severity: Severity::Doubtful,
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

impl Store {
    /// Everything about the database that is not as it should be. Empty when all is well.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn findings(&self) -> Result<Vec<Finding>, StoreError> {
        self.driver.findings().await
    }

    /// Refuses a database that no promise can be kept on.
    ///
    /// # Errors
    /// [`StoreError::Unfit`] with the first reason.
    pub(super) async fn check_fitness(&self) -> Result<(), StoreError> {
        let refused = self
            .findings()
            .await?
            .into_iter()
            .find(|finding| finding.severity == Severity::Refused);
        match refused {
            None => Ok(()),
            Some(Finding {
                problem, remedy, ..
            }) => Err(StoreError::Unfit { problem, remedy }),
        }
    }
}
