//! Configuration: files and environment variables.

use std::collections::BTreeMap;

use posthaste_shared::config::settings::{Kind, SETTINGS};
use posthaste_shared::config::{Config, ConfigError, Inputs, Profile};

use super::{Target, parts};

pub(super) const TARGET: Target = Target {
    name: "config",
    about: "posthaste.toml and the environment: read, or refused without showing a secret",
    run,
    tokens: &[
        "POSTHASTE_DATABASE_URL=",
        "POSTHASTE_BROKER_URL=",
        "POSTHASTE_MASTER_KEY=",
        "POSTHASTE_WORKER_SLOTS=",
        "POSTHASTE_EGRESS_ALLOW=",
        "POSTHASTE_API_LISTEN=",
        "POSTHASTE_LOG=",
        "[worker]\n",
        "[api]\n",
        "slots = ",
        "listen = ",
        "\"127.0.0.1:0\"",
        "5s",
        "30d",
        "1MiB",
        "sqlite://",
        "postgres://u:hush-hush@h/d",
        "amqp://u:hush-hush@h",
        "'''",
        "\"\"\"",
    ],
};

/// Stands in seeds and tokens where a password stands.
const PASSWORD: &str = "hush-hush";

fn run(input: &[u8]) {
    let [environment, file] = parts(input);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("posthaste.toml"), file).unwrap();
    let variables: BTreeMap<String, String> = String::from_utf8_lossy(environment)
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        // Files that they may name are not ours to read.
        .filter(|(name, _)| name.starts_with("POSTHASTE_") && !name.ends_with("_FILE"))
        .collect();
    let inputs = Inputs {
        flags: Vec::new(),
        file: None,
        environment: variables,
        directory: Some(folder.path().to_owned()),
    };
    match Config::load(Profile::Up, &inputs) {
        Ok(config) => {
            for setting in config.effective().iter().filter(|it| is_secret(it.key)) {
                assert!(!shows_password(&setting.shown), "{}", setting.key);
            }
        }
        // What is no secret is shown, whatever somebody wrote there by mistake.
        Err(ConfigError::Invalid { key, .. }) if !is_secret(key) => {}
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty(), "refused without a reason");
            assert!(!shows_password(&text), "{text}");
        }
    }
}

fn is_secret(key: &str) -> bool {
    SETTINGS
        .iter()
        .any(|setting| setting.key == key && (setting.secret || setting.kind == Kind::Url))
}

/// Whether a password is shown as part of a URL. A setting that is no secret may say anything.
fn shows_password(text: &str) -> bool {
    // A file has a name, and no password.
    text.contains(&format!(":{PASSWORD}@")) && !text.starts_with("sqlite:")
}
