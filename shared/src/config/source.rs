//! Where values come from: flags, environment, `posthaste.toml`, defaults, in this order.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::settings::{self, Profile, SETTINGS, Setting};

/// The file that is read when `--config` names none and it exists.
pub const DEFAULT_FILE: &str = "posthaste.toml";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A flag of the command line, such as `--listen`.
    Flag(String),
    /// An environment variable with this name.
    Environment(String),
    /// A file that an environment variable names.
    EnvironmentFile {
        /// The variable's name, which ends in `_FILE`.
        variable: String,
        /// The file that the variable names.
        path: PathBuf,
    },
    /// The configuration file at this path.
    File(PathBuf),
    /// A file in the data directory, created by `posthaste up`.
    DataDirectory(PathBuf),
    /// The default, because nothing sets it.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Environment(variable) => f.write_str(variable),
            Self::EnvironmentFile { variable, path } => write!(f, "{variable}={}", path.display()),
            Self::File(path) | Self::DataDirectory(path) => path.display().fmt(f),
            Self::Default => f.write_str("default"),
        }
    }
}

/// All that configuration is read from, so that tests can give it.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Values of flags: a setting's key and its text.
    pub flags: Vec<(&'static str, String)>,
    /// The configuration file that `--config` names.
    pub file: Option<PathBuf>,
    /// The environment variables, by name.
    pub environment: BTreeMap<String, String>,
    /// Where `posthaste.toml` is looked for when `file` is not given; `None`: nowhere.
    pub directory: Option<PathBuf>,
}

impl Inputs {
    /// The process's environment and working directory.
    ///
    /// # Errors
    /// A variable of ours that is not UTF-8.
    pub fn of_process() -> Result<Self, ConfigError> {
        let mut environment = BTreeMap::new();
        for (name, value) in std::env::vars_os() {
            // Not ours, as our names are ASCII.
            let Ok(name) = name.into_string() else {
                continue;
            };
            match value.into_string() {
                Ok(value) => drop(environment.insert(name, value)),
                Err(_) if name.starts_with("POSTHASTE_") => {
                    return Err(ConfigError::NotText { variable: name });
                }
                Err(_) => {}
            }
        }
        Ok(Self {
            environment,
            directory: Some(PathBuf::from(".")),
            ..Self::default()
        })
    }
}

/// A value before it is checked.
#[derive(Clone)]
pub(super) struct Raw {
    pub(super) text: String,
    pub(super) source: Source,
}

/// For every setting that has one, the value that counts.
pub(super) fn gather(
    inputs: &Inputs,
    profile: Profile,
) -> Result<BTreeMap<&'static str, Raw>, ConfigError> {
    let file = read_file(inputs)?;
    let mut values = BTreeMap::new();
    for setting in SETTINGS {
        // A flag stands in the command that somebody has just typed, the environment in a unit or a
        // manifest, the file on a disk: the nearest counts.
        let raw = match (
            from_flag(inputs, setting),
            from_environment(inputs, setting)?,
        ) {
            (Some(raw), _) | (None, Some(raw)) => Some(raw),
            (None, None) => file.get(setting.key).cloned(),
        };
        let default = || {
            let text = setting.default_for(profile)?.to_owned();
            Some(Raw {
                text,
                source: Source::Default,
            })
        };
        if let Some(raw) = raw.or_else(default) {
            values.insert(setting.key, raw);
        }
    }
    Ok(values)
}

fn from_flag(inputs: &Inputs, setting: &Setting) -> Option<Raw> {
    let (_, text) = inputs.flags.iter().find(|(key, _)| *key == setting.key)?;
    Some(Raw {
        text: text.clone(),
        source: Source::Flag(format!("--{}", flag(setting.key))),
    })
}

/// The flag of a setting: in the commands that have it, it is plain whose it is.
fn flag(key: &str) -> String {
    // A key on a command line is in the list of processes, so the flag names a file.
    if key == "api_key" {
        return "api-key-file".to_owned();
    }
    key.trim_start_matches("worker_").replace('_', "-")
}

/// An empty variable counts as not set, as compose files and shells leave such behind; but not
/// where it would open what somebody meant to close.
fn from_environment(inputs: &Inputs, setting: &Setting) -> Result<Option<Raw>, ConfigError> {
    let variable = |name: &str| {
        inputs.environment.get(name).filter(|value| {
            // Empty counts where it says something: of the allow list it says that nothing is
            // allowed.
            !value.trim().is_empty() || (setting.empty_counts && name == setting.env)
        })
    };
    let file_variable = format!("{}_FILE", setting.env);
    match (variable(setting.env), variable(&file_variable)) {
        // Which of the two counts would be a guess, and the wrong key would only show when a secret
        // cannot be read.
        (Some(_), Some(_)) => Err(ConfigError::Both {
            variable: setting.env,
        }),
        (Some(text), None) => Ok(Some(Raw {
            text: text.clone(),
            source: Source::Environment(setting.env.to_owned()),
        })),
        (None, Some(path)) => {
            let path = PathBuf::from(path);
            let text = if setting.secret {
                read_secret(&path)
            } else {
                read_value(&path)
            };
            let text = text.map_err(|source| ConfigError::ValueFile {
                variable: file_variable.clone(),
                path: path.clone(),
                source,
            })?;
            Ok(Some(Raw {
                text,
                source: Source::EnvironmentFile {
                    variable: file_variable,
                    path,
                },
            }))
        }
        (None, None) => Ok(setting.other_env.and_then(|name| {
            Some(Raw {
                text: variable(name)?.clone(),
                source: Source::Environment(name.to_owned()),
            })
        })),
    }
}

/// The content of a file that holds one value, without the newline at its end.
pub(super) fn read_value(path: &Path) -> std::io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    // Editors and `echo` end a file with a line break, and nobody means it to be part of a key.
    // Other spaces may be.
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// As [`read_value`]. An empty file is an error: a secret that was lost is not one that nobody set.
pub(super) fn read_secret(path: &Path) -> std::io::Result<String> {
    let text = read_value(path)?;
    if text.trim().is_empty() {
        let problem = "it is empty: put its content back, or delete it";
        return Err(std::io::Error::new(ErrorKind::InvalidData, problem));
    }
    Ok(text)
}

/// What is wrong with the file and in which line. Not in the words of the error itself, which shows
/// the line: a password or a key may stand there.
fn in_words(text: &str, error: &toml::de::Error) -> String {
    let problem = error.message();
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {problem}", before.matches('\n').count() + 1),
        None => problem.to_owned(),
    }
}

fn read_file(inputs: &Inputs) -> Result<BTreeMap<&'static str, Raw>, ConfigError> {
    let Some(path) = config_path(inputs) else {
        return Ok(BTreeMap::new());
    };
    let unreadable = |problem: String| ConfigError::File {
        path: path.clone(),
        problem,
    };
    let text = std::fs::read_to_string(&path).map_err(|error| unreadable(error.to_string()))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| unreadable(in_words(&text, &error)))?;
    let mut values = BTreeMap::new();
    for (key, value) in &table {
        match value {
            toml::Value::Table(section) => {
                for (inner, value) in section {
                    // `[worker] slots` and `worker_slots` are the same setting: a section is a way
                    // of writing, and has no names of its own.
                    insert(&mut values, &path, &format!("{key}_{inner}"), value)?;
                }
            }
            value => insert(&mut values, &path, key, value)?,
        }
    }
    Ok(values)
}

fn config_path(inputs: &Inputs) -> Option<PathBuf> {
    inputs.file.clone().or_else(|| {
        let path = inputs.directory.as_ref()?.join(DEFAULT_FILE);
        path.exists().then_some(path)
    })
}

fn insert(
    values: &mut BTreeMap<&'static str, Raw>,
    path: &Path,
    key: &str,
    value: &toml::Value,
) -> Result<(), ConfigError> {
    let Some(setting) = settings::find(key) else {
        // Refused and not passed over: a limit with a slip in its name would otherwise not hold,
        // and nobody would see it.
        let nearest = settings::nearest(key, SETTINGS.iter().map(|setting| setting.key));
        return Err(ConfigError::UnknownKey {
            key: key.to_owned(),
            path: path.to_owned(),
            nearest,
        });
    };
    let source = Source::File(path.to_owned());
    let Some(text) = as_text(value) else {
        let problem = format!(
            "must be a text, a number, true or false, not a TOML {}",
            value.type_str()
        );
        return Err(ConfigError::Invalid {
            key: setting.key,
            from: source,
            shown: None,
            problem,
        });
    };
    // Once in a section and once outside of it, which TOML itself does not notice.
    if values.insert(setting.key, Raw { text, source }).is_some() {
        return Err(ConfigError::File {
            path: path.to_owned(),
            problem: format!("{key} is set twice"),
        });
    }
    Ok(())
}

fn as_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            texts.map(|texts| texts.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}
