//! Flags that several commands share, and what becomes of them: configuration, logging, output.

use std::path::{Path, PathBuf};

use clap::Args;
use posthaste_shared::config::{Config, Inputs, Profile, Source, mistyped_variables};
use posthaste_shared::telemetry::logging;

use crate::client::{Client, is_loopback, with_scheme};
use crate::failure::Failure;
use crate::output::{self, Output};

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The configuration file [default: ./posthaste.toml if it exists]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    pub(crate) config: Option<PathBuf>,
    /// The directory where `up` keeps its database and keys [default: ./posthaste-data]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub(crate) data_dir: Option<PathBuf>,
    /// What is logged to stderr: a level, or levels for parts (info,posthaste_worker=debug)
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        help_heading = "Global options"
    )]
    pub(crate) log: Option<String>,
    /// Print JSON instead of tables
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
}

/// Flags of the commands that open the store or the broker.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServiceFlags {
    /// The store: sqlite://PATH or postgres://… (also POSTHASTE_DATABASE_URL; others can see a
    /// password here in `ps`)
    #[arg(long, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// The broker: amqp://…, amqps://… or embedded (also POSTHASTE_BROKER_URL; others can see a
    /// password here in `ps`)
    #[arg(long, value_name = "URL")]
    pub(crate) broker_url: Option<String>,
    /// Prefix of the names of exchanges and queues [default: posthaste]
    #[arg(long, value_name = "PREFIX")]
    pub(crate) name_prefix: Option<String>,
}

/// Flags of the commands that speak to the HTTP API.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ClientFlags {
    /// The URL of the API [default: POSTHASTE_API_URL, else http://127.0.0.1:8080]
    #[arg(long, global = true, value_name = "URL", help_heading = "API options")]
    pub(crate) api_url: Option<String>,
    /// File with the API key [default: POSTHASTE_API_KEY, else the key that `up` left in its data
    /// directory]
    #[arg(long, global = true, value_name = "FILE", help_heading = "API options")]
    pub(crate) api_key_file: Option<PathBuf>,
}

/// Values for settings that came as flags.
pub(crate) type SettingFlags = Vec<(&'static str, String)>;

impl ServiceFlags {
    /// The flags as values of settings.
    pub(crate) fn settings(&self) -> SettingFlags {
        let flags = [
            ("database_url", &self.database_url),
            ("broker_url", &self.broker_url),
            ("name_prefix", &self.name_prefix),
        ];
        flags
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.clone()?)))
            .collect()
    }
}

impl ClientFlags {
    /// The flags as values of settings.
    ///
    /// # Errors
    /// The key's file cannot be read.
    pub(crate) fn settings(&self) -> Result<SettingFlags, Failure> {
        let mut flags = SettingFlags::new();
        let url = self.api_url.as_deref().map(with_scheme);
        flags.extend(url.map(|url| ("api_url", url)));
        if let Some(path) = &self.api_key_file {
            let key = std::fs::read_to_string(path).map_err(|error| {
                Failure::wrong_use(format!(
                    "--api-key-file: {} cannot be read: {error}",
                    path.display()
                ))
            })?;
            if key.trim().is_empty() {
                return Err(Failure::wrong_use(format!(
                    "--api-key-file: {} is empty",
                    path.display()
                )));
            }
            if !key.trim().chars().all(|c| c.is_ascii_graphic()) {
                return Err(Failure::wrong_use(format!(
                    "--api-key-file: {} must have one API key in it and nothing else",
                    path.display()
                )));
            }
            flags.push(("api_key", key.trim().to_owned()));
        }
        Ok(flags)
    }
}

impl Global {
    /// What configuration is read from: these flags and the process's environment.
    ///
    /// # Errors
    /// An environment variable that is not text.
    pub(crate) fn inputs(&self, mut flags: SettingFlags) -> Result<Inputs, Failure> {
        flags.extend(
            self.data_dir
                .as_ref()
                .map(|dir| ("data_dir", dir.to_string_lossy().into_owned())),
        );
        flags.extend(self.log.clone().map(|filter| ("log", filter)));
        Ok(Inputs {
            flags,
            file: self.config.clone(),
            ..Inputs::of_process()?
        })
    }

    /// Reads the configuration and starts logging.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub(crate) fn start(&self, profile: Profile, flags: SettingFlags) -> Result<Config, Failure> {
        self.start_without(profile, flags, None)
    }

    /// [`Self::start`], without the log of one part unless somebody chose what is logged.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn start_without(
        &self,
        profile: Profile,
        flags: SettingFlags,
        quiet: Option<&str>,
    ) -> Result<Config, Failure> {
        let inputs = self.inputs(flags)?;
        for (wrong, right) in mistyped_variables(&inputs) {
            // `doctor` says it again, for whoever cannot see stderr.
            let _ = output::tell(format_args!(
                "posthaste: warning: {wrong} is not a setting and has no effect: did you mean \
                 {right}?"
            ));
        }
        let mut config = Config::load(profile, &inputs)?;
        // Only services send spans.
        if profile != Profile::Tool {
            self.refuse_collector(&config)?;
        }
        if let (Some(part), Some(Source::Default)) = (quiet, source(&config, "log")) {
            config.log.filter.push_str(&format!(",{part}=warn"));
        }
        logging::init(&config.log)?;
        Ok(config)
    }

    /// Reads the configuration and makes the API's client.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub(crate) fn client(&self, flags: &ClientFlags) -> Result<Client, Failure> {
        let config = self.start(Profile::Tool, flags.settings()?)?;
        self.client_of(&config)
    }

    /// The API's client of a configuration that was read with these flags. Every client with a key
    /// of the user's is made here.
    ///
    /// # Errors
    /// The key must not be sent to the URL.
    pub(crate) fn client_of(&self, config: &Config) -> Result<Client, Failure> {
        self.refuse_redirection(config)?;
        Client::new(config)
    }

    /// A `posthaste.toml` that happens to lie in the working directory must not send a key
    /// elsewhere that it did not bring along: it may be somebody else's directory.
    fn refuse_redirection(&self, config: &Config) -> Result<(), Failure> {
        let Some(file) = self.found_file(config, "api_url") else {
            return Ok(());
        };
        let key = match source(config, "api_key") {
            Some(key) if is_brought_along(key) => key,
            // What `up` made beside the file is for an API on this machine, wherever that listens.
            Some(key @ Source::DataDirectory(made))
                if !(is_loopback(&config.client.api_url) && lies_beside(made, file)) =>
            {
                key
            }
            _ => return Ok(()),
        };
        let file = file.display();
        let url = &config.client.api_url;
        Err(Failure::wrong_use(format!(
            "{file} in the working directory sets api_url to {url}, but the API key is from \
             {key}: it is not sent there"
        ))
        .hint(format!(
            "if this is right, say so with --config {file}, --api-url {url} or \
                       POSTHASTE_API_URL"
        )))
    }

    /// Nor may it lead the collector's credentials to another collector: the headers that go with
    /// spans.
    fn refuse_collector(&self, config: &Config) -> Result<(), Failure> {
        let (Some(tracing), Some(file)) = (
            &config.tracing,
            self.found_file(config, "tracing_otlp_endpoint"),
        ) else {
            return Ok(());
        };
        let Some(headers) = source(config, "tracing_headers").filter(|from| is_brought_along(from))
        else {
            return Ok(());
        };
        let file = file.display();
        let url = &tracing.endpoint;
        Err(Failure::wrong_use(format!(
            "{file} in the working directory sends spans to {url}, but tracing_headers are from \
             {headers}: they are not sent there"
        ))
        .hint(format!(
            "if this is right, say so with --config {file} or POSTHASTE_TRACING_OTLP_ENDPOINT"
        )))
    }

    /// The configuration file that a setting is from, where nobody named that file.
    fn found_file<'a>(&self, config: &'a Config, key: &str) -> Option<&'a Path> {
        match (source(config, key), &self.config) {
            (Some(Source::File(file)), None) => Some(file),
            _ => None,
        }
    }

    /// How the commands print.
    pub(crate) fn output(&self) -> Output {
        Output::new(self.json)
    }
}

/// Where the value of a setting is from.
fn source<'a>(config: &'a Config, key: &str) -> Option<&'a Source> {
    let setting = config.effective().iter().find(|one| one.key == key);
    setting.map(|one| &one.source)
}

/// Whether `path` is in the directory of `file`, or beneath it. Where it really is counts: a link
/// beside the file may lead to somebody else's.
fn lies_beside(path: &Path, file: &Path) -> bool {
    let directory = file.canonicalize();
    let directory = directory.as_deref().ok().and_then(Path::parent);
    let path = path.canonicalize();
    directory.is_some_and(|directory| path.is_ok_and(|path| path.starts_with(directory)))
}

/// Whether a value came with the command, and not with the file in the working directory.
const fn is_brought_along(source: &Source) -> bool {
    matches!(
        source,
        Source::Flag(_) | Source::Environment(_) | Source::EnvironmentFile { .. }
    )
}
