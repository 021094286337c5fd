//! How a command fails: one clear sentence and, where there is one, a hint, on stderr; and the exit
//! code.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use posthaste_shared::store::StoreError;
use posthaste_shared::tls;

/// The exit code of a command that Ctrl-C ended: 128 + SIGINT, as shells report it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Codes of Postgres ("Appendix A. PostgreSQL Error Codes").
const NO_DATABASE: &str = "3D000";
const NO_ROLE: &str = "28000";
const WRONG_PASSWORD: &str = "28P01";

/// What a command returns: the exit code of one that ran (1 when it found something wrong), or why
/// it could not run.
pub(crate) type Done = Result<ExitCode, Failure>;

/// Why a command did not do what was asked.
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    kind: Kind,
    /// The API's code, where it answered with a problem.
    code: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The command could not be done: exit code 1.
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
        Self {
            message: message.into(),
            hint: None,
            kind: Kind::Failed,
            code: None,
        }
    }

    /// It was asked for wrongly.
    pub(crate) fn wrong_use(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::WrongUse,
            ..Self::new(message)
        }
    }

    /// It was stopped by Ctrl-C; the message says how far it got.
    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Interrupted,
            ..Self::new(message)
        }
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Which problem of the API it is.
    pub(crate) fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Whether it is that problem of the API.
    pub(crate) fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// A word for programs: the API's code, or what kind of failure it is.
    fn word(&self) -> &str {
        let kind = match self.kind {
            Kind::WrongUse => "wrong_use",
            Kind::Interrupted => "interrupted",
            Kind::Failed | Kind::OutputClosed => "failed",
        };
        self.code.as_deref().unwrap_or(kind)
    }

    /// The sentence, without the hint.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Says it on stderr, as a sentence or, where JSON was asked for, as an object on a line.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        let object =
            || serde_json::json!({"error": self.message, "code": self.word(), "hint": self.hint});
        // There is nobody left to tell when stderr is closed, too.
        let _ = match self.kind {
            Kind::OutputClosed => Ok(()),
            _ if json => crate::output::tell(object()),
            _ => crate::output::tell(self),
        };
        match self.kind {
            Kind::Failed => ExitCode::from(1),
            Kind::WrongUse => ExitCode::from(2),
            Kind::Interrupted => ExitCode::from(INTERRUPTED),
            Kind::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "posthaste: {}", self.message)?;
        self.hint
            .as_ref()
            .map_or(Ok(()), |hint| write!(f, "\n  {hint}"))
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
        if any
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        {
            return Self {
                kind: Kind::OutputClosed,
                ..Self::new("")
            };
        }
        let kind = if any.is::<posthaste_shared::config::ConfigError>() {
            Kind::WrongUse
        } else {
            Kind::Failed
        };
        Self {
            kind,
            ..Self::new(chain(any))
        }
    }
}

/// An error with its causes, and with what is wrong with a certificate or a database in words.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    if let Some(said) = error.downcast_ref().and_then(of_database) {
        return said;
    }
    let text = posthaste_shared::error::chain(error);
    tls::reword(&text, error).unwrap_or(text)
}

/// What the server of the database says, by its own words alone: sqlx adds the line of the server's
/// source, which looks like one of a migration.
fn of_database(error: &StoreError) -> Option<String> {
    let (StoreError::Unavailable(source) | StoreError::Refused { source, .. }) = error else {
        return None;
    };
    let said = source.as_database_error()?;
    let what = match said.code().as_deref() {
        Some(NO_DATABASE | NO_ROLE | WRONG_PASSWORD) => {
            "the database server refuses the connection".to_owned()
        }
        _ => error.to_string(),
    };
    Some(format!("{what}: {}", said.message()))
}

/// Whether it is that there is no database of the URL's name.
pub(crate) fn is_missing_database(error: &StoreError) -> bool {
    let StoreError::Unavailable(source) = error else {
        return false;
    };
    let said = source.as_database_error();
    said.is_some_and(|said| said.code().as_deref() == Some(NO_DATABASE))
}
