//! `posthaste up`: API, worker and scheduler in one process.

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use posthaste_producer::http::{hash_key, new_key, sign_in};
use posthaste_shared::config::{Config, ConsoleMode, Profile};
use posthaste_shared::domain::id::KeyId;
use posthaste_shared::domain::key::{ApiKey, Scope};
use posthaste_shared::domain::secret::Secret;
use tokio_util::sync::CancellationToken;

use crate::commands::demo;
use crate::connect;
use crate::ending;
use crate::failure::{Done, Failure};
use crate::global::{Global, ServiceFlags};
use crate::output::Output;
use crate::service::{self, Node, Schema};
use crate::systemd;

/// Run everything in one process, on an embedded store and queue.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  posthaste up --demo\n  posthaste up --listen 127.0.0.1:8080 \
                  --data-dir ./posthaste-data"
)]
pub(crate) struct UpArgs {
    /// Address of the API [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Show what Posthaste does: start receivers, send notifications to them, print the results,
    /// then keep serving. Unless --log says otherwise, the log is without the lines on who changed
    /// what
    #[arg(long)]
    pub(crate) demo: bool,
    #[command(flatten)]
    pub(crate) service: ServiceFlags,
}

/// Runs until it is told to stop.
pub(crate) async fn run(global: &Global, args: UpArgs) -> Done {
    let mut flags = args.service.settings();
    flags.extend(args.listen.map(|address| ("listen", address)));
    // The demonstration creates a dozen endpoints, and a line for each would hide its table.
    let quiet = args.demo.then_some("posthaste_producer::http::auth::audit");
    let mut config = global.start_without(Profile::Up, flags, quiet)?;
    make_data_dir(&config.data_dir)?;
    // Before the store is opened, which refuses another key than its own.
    config.master_key = Some(master_key(&config).await?);
    let node = Node::open(&config, Schema::Migrate, "up").await?;
    // Before anything answers: whoever waits until this is ready finds the key then.
    let first_key = first_key(&node, &config).await?;
    let shutdown = CancellationToken::new();
    let servers = service::serve_api(&node, &config, &shutdown).await?;
    let mut worker = node.start_worker(&config, service::worker_name()).await?;

    let redriver = node.start_redriver(shutdown.clone());

    // Only now, so that commands find the key as soon as a service manager says that this is up.
    let _ready = systemd::ready();

    let output = global.output();
    output.line(format_args!(
        "Posthaste is up: http://{}, data in {}",
        servers.address,
        config.data_dir.display()
    ))?;
    let path = config.api_key_path();
    // systemd sets it where what is printed goes to its journal, which others read.
    if let Some(key) = first_key.filter(|_| std::env::var_os("JOURNAL_STREAM").is_none()) {
        output.line(format_args!("API key, shown this once: {}", key.expose()))?;
        output.line(format_args!(
            "(it is also in {}, where the commands find it)",
            path.display()
        ))?;
    } else if let Ok(key) = std::fs::read_to_string(&path) {
        let path = path.display();
        if is_valid(&node, key.trim()).await {
            output.line(format_args!(
                "API key: in {path}, where the commands find it"
            ))?;
        } else {
            output.line(format_args!(
                "The API key in {path} is not valid any more: `posthaste key create` makes one, \
                 for POSTHASTE_API_KEY or that file"
            ))?;
        }
    }
    sign_in_link(&config, &servers, output).await?;
    let end = {
        let told = ending::until_told_or_failure(&config, &node, &mut worker);
        tokio::pin!(told);
        if args.demo {
            tokio::select! {
                shown = demo::run(&node, &config, servers.address, output) => {
                    // The receivers live as long as this does.
                    let _receivers = shown?;
                    told.await?
                }
                early = &mut told => early?,
            }
        } else {
            told.await?
        }
    };

    // The worker before the API: `endpoint test` and health checks answer while it drains.
    ending::stop_worker(worker, config.shutdown_grace).await;
    shutdown.cancel();
    for server in servers.tasks {
        ending::stop_server(server, config.shutdown_grace).await;
    }
    ending::stop_server(redriver, Duration::from_secs(5)).await;
    node.close().await;
    end.done()
}

/// Prints a link that signs in to the console once, where somebody is there to follow it: not into
/// files and journals, which others read.
async fn sign_in_link(
    config: &Config,
    servers: &service::Servers,
    output: Output,
) -> Result<(), Failure> {
    if config.api.console == ConsoleMode::Off || !std::io::stdout().is_terminal() || output.json {
        return Ok(());
    }
    // The key that the commands use, too. Without one there is nobody to sign in.
    let Ok(key) = std::fs::read_to_string(config.api_key_path()) else {
        return Ok(());
    };
    // What is wrong with the store is in the log, and no reason to stop.
    if let Ok(link) = sign_in::new_link(&servers.api, &hash_key(key.trim())).await {
        let address = match &config.api.console_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            // An address that stands for all of them is none to go to, and the console wants
            // loopback.
            None if servers.address.ip().is_unspecified() => {
                format!("http://127.0.0.1:{}", servers.address.port())
            }
            None => format!("http://{}", servers.address),
        };
        output.line(format_args!(
            "Console, signs in once within 10 minutes: {address}{}",
            link.path
        ))?;
    }
    Ok(())
}

/// For this user alone: it holds keys.
fn make_data_dir(dir: &Path) -> Result<(), Failure> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| {
            Failure::new(format!(
                "the data directory {} cannot be created: {error}",
                dir.display()
            ))
            .hint("choose another one with --data-dir or POSTHASTE_DATA_DIR")
        })
}

/// The master key: the configured one, else that in the data directory, else a new one left there.
async fn master_key(config: &Config) -> Result<Secret, Failure> {
    if let Some(key) = &config.master_key {
        return Ok(key.clone());
    }
    let path = config.master_key_path();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Secret::new(text.trim())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            refuse_new_key(config, &path).await?;
            let (key, _) = new_key();
            write_private(&path, key.expose())?;
            Ok(key)
        }
        Err(error) => Err(Failure::new(format!(
            "the master key {} cannot be read: {error}",
            path.display()
        ))),
    }
}

/// A store that has secrets has a key already, and a new one would not be it: somebody restored the
/// database without the file beside it.
async fn refuse_new_key(config: &Config, path: &Path) -> Result<(), Failure> {
    let store = connect::store(config).await?;
    // An error: it has no table for it, or cannot be reached and is waited for later.
    let has_key = store.needs_master_key().await.unwrap_or(false);
    store.close().await;
    if !has_key {
        return Ok(());
    }
    let path = path.display();
    Err(Failure::new(format!(
        "the store's secrets are encrypted with a master key, and {path} is not there"
    ))
    .hint(
        "put that file back from the backup of the data directory, or set POSTHASTE_MASTER_KEY to \
         what was in it",
    ))
}

/// Creates the first API key of a store that has none, and leaves it in the data directory.
async fn first_key(node: &Node, config: &Config) -> Result<Option<Secret>, Failure> {
    if node
        .services
        .store
        .keys()
        .await?
        .iter()
        .any(|key| key.revoked_at.is_none())
    {
        return Ok(None);
    }
    let now = node.services.clock.now();
    let info = ApiKey {
        id: KeyId::generate(now),
        name: "first key, created by `up`".to_owned(),
        tenant: None,
        scopes: vec![Scope::Admin],
        created_at: now,
        expires_at: None,
        last_used_at: None,
        revoked_at: None,
    };
    let (key, hash) = new_key();
    // The file first: a key that is in the store and nowhere else could never be used.
    write_private(&config.api_key_path(), key.expose())?;
    node.services.store.insert_key(&info, &hash).await?;
    Ok(Some(key))
}

/// Whether the key is one of the store's, neither revoked nor expired.
async fn is_valid(node: &Node, key: &str) -> bool {
    let found = node.services.store.key_by_hash(&hash_key(key)).await;
    let now = node.services.clock.now();
    // What is wrong with the store is in the log.
    !matches!(found, Ok(found) if found.as_ref().is_none_or(|key| {
        key.revoked_at.is_some() || key.expires_at.is_some_and(|at| at <= now)
    }))
}

/// Writes a file that only this user can read, in place of whatever has its name: an older file
/// with an open mode does not lend it to the new one, and a symbolic link is replaced, not
/// followed. Whoever reads it sees all of it or the older one.
fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("{} cannot be written: {error}", path.display()));
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}.new", std::process::id()));
    let new = Path::new(&new);
    let written = write_new(new, text).and_then(|()| std::fs::rename(new, path));
    if written.is_err() {
        // Ignored: the file may not exist, and the error above is the one to report.
        let _ = std::fs::remove_file(new);
    }
    written.map_err(failed)
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    // A link planted under this name makes this fail.
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_private_file_is_private_whatever_was_there_before() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("api-key"), dir.path().join("other"));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        write_private(&path, "key").unwrap();
        assert_eq!(
            (std::fs::read_to_string(&path).unwrap(), mode(&path)),
            ("key\n".to_owned(), 0o600)
        );

        std::fs::write(&other, "untouched").unwrap();
        std::fs::remove_file(&path).unwrap();
        symlink(&other, &path).unwrap();
        write_private(&path, "key").unwrap();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "untouched");
        assert!(!std::fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            2,
            "nothing else is left"
        );
    }
}
