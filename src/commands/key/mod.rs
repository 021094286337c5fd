//! `posthaste key`: API keys. Opens the store itself, because the first key cannot come through the
//! API.

mod rotate_master;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use posthaste_producer::http::new_key;
use posthaste_shared::clock::{Clock as _, SystemClock};
use posthaste_shared::config::Profile;
use posthaste_shared::domain::id::{KeyId, TenantId};
use posthaste_shared::domain::key::{ApiKey, Scope, Unusable};
use posthaste_shared::domain::time::Timestamp;
use serde_json::json;

use crate::connect;
use crate::failure::{Done, Failure};
use crate::flags::word;
use crate::global::{Global, ServiceFlags};
use crate::output::{self, Output, age, fixed, wrapped};
use crate::when;

/// Manage API keys. These commands open the store, so they need its URL and not the API.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  posthaste key create --name billing --scope enqueue --tenant \
                  acme\n  posthaste key create --name ci --scope admin --expires 90d\n  posthaste \
                  key list\n  posthaste key revoke key_0192…"
)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Create a key and print it, only this once
    Create(CreateArgs),
    /// List keys, including revoked and expired ones
    List(ServiceFlags),
    /// Revoke a key: it stops working within seconds
    Revoke(RevokeArgs),
    /// Encrypt all secrets in the store with a new master key, while everything runs
    ///
    /// Give every process the new key as POSTHASTE_MASTER_KEY and the old one as
    /// POSTHASTE_MASTER_KEY_PREVIOUS, one after the other; then run this with the same two; then
    /// take the old one away. Interrupted, it goes on when it is run again.
    RotateMaster(ServiceFlags),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// A name for the key, for people
    #[arg(long, default_value = "cli")]
    name: String,
    /// What the key may do, where admin is everything; repeatable
    #[arg(
        long = "scope",
        value_name = "SCOPE",
        value_parser = word(Scope::ALL.map(Scope::as_str), Scope::parse),
        default_value = "admin"
    )]
    scopes: Vec<Scope>,
    /// Bind the key to one tenant [default: every tenant]
    #[arg(long)]
    tenant: Option<TenantId>,
    /// When the key expires: after this long (12h, 90d), or at a time (2027-01-31T12:00:00Z)
    /// [default: never]
    #[arg(long, value_name = "DURATION|TIME", value_parser = when::future)]
    expires: Option<Timestamp>,
    #[command(flatten)]
    service: ServiceFlags,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// The id of the key, key_…
    id: KeyId,
    #[command(flatten)]
    service: ServiceFlags,
}

/// Runs `posthaste key` with its subcommand.
pub(crate) async fn run(global: &Global, args: KeyArgs) -> Done {
    match args.command {
        KeyCommand::Create(args) => create(global, args).await,
        KeyCommand::List(service) => list(global, &service).await,
        KeyCommand::Revoke(args) => revoke(global, &args).await,
        KeyCommand::RotateMaster(service) => self::rotate_master::run(global, &service).await,
    }
}

async fn create(global: &Global, args: CreateArgs) -> Done {
    let config = global.start(Profile::Tool, args.service.settings())?;
    let store = connect::migrated_store(&config).await?;
    let now = SystemClock.now();
    let mut scopes = args.scopes;
    scopes.sort();
    scopes.dedup();
    let info = ApiKey {
        id: KeyId::generate(now),
        name: args.name,
        tenant: args.tenant,
        scopes,
        created_at: now,
        expires_at: args.expires,
        last_used_at: None,
        revoked_at: None,
    };
    let (key, hash) = new_key();
    store.insert_key(&info, &hash).await?;
    store.close().await;
    let output = global.output();
    if output.json {
        let mut shown = serde_json::to_value(&info)?;
        shown["key"] = json!(key.expose());
        output.document(&shown)?;
    } else {
        output.line(key.expose())?;
        eprintln_quietly(&format!(
            "Created {}. The key above is shown only now; only its hash is kept.",
            info.id
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// A remark beside the output; nothing depends on it.
fn eprintln_quietly(text: &str) {
    let _ = output::tell(text);
}

async fn list(global: &Global, service: &ServiceFlags) -> Done {
    let config = global.start(Profile::Tool, service.settings())?;
    let store = connect::migrated_store(&config).await?;
    let keys = store.keys().await?;
    store.close().await;
    print_list(global.output(), &keys)?;
    Ok(ExitCode::SUCCESS)
}

fn print_list(output: Output, keys: &[ApiKey]) -> Result<(), Failure> {
    if output.json {
        return Ok(output.document(&json!({ "items": keys }))?);
    }
    let now = SystemClock.now();
    let row = |key: &ApiKey| -> Result<Vec<String>, Failure> {
        let value = serde_json::to_value(key)?;
        let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
        let tenant = key
            .tenant
            .as_ref()
            .map_or("every", TenantId::as_str)
            .to_owned();
        let created = age(&value, "created_at");
        let used = age(&value, "last_used_at");
        let state = match key.unusable(now) {
            Some(Unusable::Revoked) => "revoked".to_owned(),
            Some(Unusable::Expired(_)) => "expired".to_owned(),
            None if key.expires_at.is_some() => format!("ends {}", age(&value, "expires_at")),
            None => String::new(),
        };
        Ok(vec![
            key.id.to_string(),
            state,
            key.name.clone(),
            scopes.join(","),
            tenant,
            created,
            used,
        ])
    };
    let rows = keys.iter().map(row).collect::<Result<_, _>>()?;
    Ok(output.table(
        &[
            fixed("id"),
            fixed("state"),
            wrapped("name"),
            wrapped("scopes"),
            fixed("tenant"),
            fixed("age"),
            fixed("used"),
        ],
        rows,
    )?)
}

async fn revoke(global: &Global, args: &RevokeArgs) -> Done {
    let config = global.start(Profile::Tool, args.service.settings())?;
    let store = connect::migrated_store(&config).await?;
    let revoked = store.revoke_key(&args.id, SystemClock.now()).await?;
    store.close().await;
    if !revoked {
        return Err(
            Failure::new(format!("there is no key {} that still works", args.id))
                .hint("posthaste key list"),
        );
    }
    let output = global.output();
    if output.json {
        output.document(&json!({"id": args.id, "revoked": true}))?;
    } else {
        output.line(format_args!(
            "{} is revoked; it stops working within seconds.",
            args.id
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
