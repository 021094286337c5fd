//! How a command fails: one clear sentence and, where there is one, a hint, on stderr; and the exit code.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io;
use std::process::ExitCode;

/// What a command returns: the exit code of one that ran (1 when it found something wrong), or why it could not run.
pub(crate) type Done = Result<ExitCode, Failure>;

/// Why a command did not do what was asked.
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Exit code 1.
    Failed,
    /// Exit code 2: the command line or the configuration is wrong.
    WrongUse,
    /// Ctrl-C ended it before it was through.
    Interrupted,
    /// Whoever read our output has seen enough (`| head`): nothing to say.
    OutputClosed,
}

impl Failure {
    /// Something went wrong while it was done.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, kind: Kind::Failed }
    }

    /// It was asked for wrongly.
    pub(crate) fn wrong_use(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, kind: Kind::WrongUse }
    }

    /// It was stopped by Ctrl-C; the message says how far it got.
    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self { kind: Kind::Interrupted, ..Self::new(message) }
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The sentence, without the hint.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Says it on stderr.
    pub(crate) fn report(&self) -> ExitCode {
        if self.kind != Kind::OutputClosed {
            // There is nobody left to tell when stderr is closed, too.
            let _ = crate::output::tell(self);
        }
        match self.kind {
            Kind::Failed => ExitCode::from(1),
            Kind::WrongUse => ExitCode::from(2),
            Kind::Interrupted => ExitCode::from(crate::job::INTERRUPTED),
            Kind::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "posthaste: {}", self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n  {hint}"))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let any: &(dyn Error + 'static) = &error;
        if any.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return Self { message: String::new(), hint: None, kind: Kind::OutputClosed };
        }
        let kind = if any.is::<posthaste_shared::config::ConfigError>() { Kind::WrongUse } else { Kind::Failed };
        Self { message: chain(any), hint: None, kind }
    }
}

/// An error with its causes, each said once.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            let _ = write!(text, ": {next}");
        }
        cause = error.source();
    }
    text
}
