//! `posthaste endpoint`: webhooks, through the API.

mod fields;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use posthaste_shared::domain::id::{EndpointId, EndpointUid, TenantId};
use posthaste_shared::domain::wire_format::WireFormat;
use serde_json::{Map, Value, json};

use self::fields::{Fields, SecretFlags};
use crate::client::Client;
use crate::failure::{Done, Failure};
use crate::flags::word;
use crate::global::{ClientFlags, Global};
use crate::output::{Output, items, text};
use crate::when;

/// Manage endpoints: the webhooks that notifications go to.
#[derive(Debug, Args)]
pub(crate) struct EndpointArgs {
    #[command(subcommand)]
    command: EndpointCommand,
    /// The tenant that owns the endpoint, or that the uid belongs to [default: the key's tenant,
    /// else default; for `list`: all]
    #[arg(long, global = true)]
    tenant: Option<TenantId>,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Subcommand)]
enum EndpointCommand {
    /// Create an endpoint and print its signing secret, only this once
    #[command(after_help = ADD_EXAMPLES)]
    Add(Box<AddArgs>),
    /// List endpoints, the oldest first
    List(ListArgs),
    /// Show an endpoint; its secrets are never shown
    Show {
        /// The id of the endpoint, ep_…, or its uid
        id: EndpointId,
    },
    /// Change an endpoint; what is not given stays as it is
    Set(Box<SetArgs>),
    /// Call an endpoint again; what waited for it is sent
    Enable {
        /// The id of the endpoint, ep_…, or its uid
        id: EndpointId,
    },
    /// Stop calling an endpoint: its deliveries wait until they expire or it is enabled
    ///
    /// So do new notifications that name it. Those that only match its subscription are not
    /// delivered to it, not even later.
    Disable {
        /// The id of the endpoint, ep_…, or its uid
        id: EndpointId,
    },
    /// Delete an endpoint; deliveries that wait for it fail
    Delete {
        /// The id of the endpoint, ep_…, or its uid
        id: EndpointId,
    },
    /// Send a test notification now and show request, answer and verdict
    Test(TestArgs),
    /// Replace the signing secret; the old one signs beside the new one for a while
    RotateSecret(RotateArgs),
}

impl EndpointCommand {
    /// The id or uid that it is about.
    const fn name(&self) -> Option<&EndpointId> {
        match self {
            Self::Add(_) | Self::List(_) => None,
            Self::Show { id }
            | Self::Enable { id }
            | Self::Disable { id }
            | Self::Delete { id } => Some(id),
            Self::Set(args) => Some(&args.id),
            Self::Test(args) => Some(&args.id),
            Self::RotateSecret(args) => Some(&args.id),
        }
    }
}

const ADD_EXAMPLES: &str = "Examples:
  posthaste endpoint add --url https://example.com/hooks --type 'message.*'
  posthaste endpoint add --url https://example.com/hooks --delays 1s,5s,5m,30m --timeout 10s
  posthaste endpoint add --url https://example.com/hooks --header 'X-Team: billing'
  posthaste endpoint add --url http://127.0.0.1:9000/ --wire-format raw
  posthaste endpoint add --uid billing --or-update --url https://example.com/hooks
  posthaste endpoint add --from-json endpoint.json";

#[derive(Debug, Args)]
struct AddArgs {
    /// The wire format: how a notification becomes a request [default: standard]
    #[arg(long, value_parser = word(WireFormat::ALL.map(WireFormat::as_str), WireFormat::parse))]
    wire_format: Option<WireFormat>,
    /// An id of your choice, as an alternative to the one that Posthaste generates
    #[arg(long)]
    uid: Option<EndpointUid>,
    /// Update the endpoint that has the uid, if there is one; what is not given is reset to its
    /// default, except for the secret
    #[arg(long, requires = "uid")]
    or_update: bool,
    #[command(flatten)]
    secret: SecretFlags,
    #[command(flatten)]
    fields: Fields,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only those that are enabled (true) or disabled (false)
    #[arg(long)]
    enabled: Option<bool>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  posthaste endpoint set ep_0192… --max-in-flight 8\n  posthaste \
                  endpoint set ep_0192… --type 'order.*' --type refund.made"
)]
struct SetArgs {
    /// The id of the endpoint, ep_…, or its uid
    id: EndpointId,
    #[command(flatten)]
    fields: Fields,
}

#[derive(Debug, Args)]
struct TestArgs {
    /// The id of the endpoint, ep_…, or its uid
    id: EndpointId,
    /// The test notification's type; goes with --payload [default: the wire format's sample]
    #[arg(long = "type", value_name = "TYPE", requires = "payload")]
    kind: Option<String>,
    /// The test notification's payload: JSON, or @FILE; goes with --type [default: the wire
    /// format's sample]
    #[arg(long, value_name = "JSON", requires = "kind")]
    payload: Option<String>,
    /// The test notification's recipient: JSON, or @FILE
    #[arg(long, value_name = "JSON", requires = "kind")]
    recipient: Option<String>,
    /// The test notification's overrides: JSON, or @FILE
    #[arg(long, value_name = "JSON", requires = "kind")]
    overrides: Option<String>,
}

#[derive(Debug, Args)]
struct RotateArgs {
    /// The id of the endpoint, ep_…, or its uid
    id: EndpointId,
    /// How long the old secret keeps signing as well, up to 30d [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    overlap: Option<Duration>,
    #[command(flatten)]
    secret: SecretFlags,
}

/// Runs `posthaste endpoint` with its subcommand.
pub(crate) async fn run(global: &Global, args: EndpointArgs) -> Done {
    let named_uid = args
        .command
        .name()
        .is_some_and(|name| !name.as_str().starts_with("ep_"));
    let without_tenant = args.tenant.is_none();
    let done = run_command(global, args).await;
    done.map_err(|failure| {
        if named_uid && without_tenant && failure.is("not_found") {
            failure.hint(
                "a uid is looked for in the key's tenant, else in `default`: name another with \
                 --tenant",
            )
        } else {
            failure
        }
    })
}

async fn run_command(global: &Global, args: EndpointArgs) -> Done {
    let client = global.client(&args.client)?;
    let output = global.output();
    let tenant = args.tenant;
    let client = match &args.command {
        EndpointCommand::Add(add) => client.naming_members(add.fields.is_from_json()),
        EndpointCommand::List(_) => client,
        EndpointCommand::Set(set) => client
            .naming_members(set.fields.is_from_json())
            .of_tenant(tenant.clone()),
        _ => client.of_tenant(tenant.clone()),
    };
    match args.command {
        EndpointCommand::Add(args) => add(output, &client, *args, tenant).await?,
        EndpointCommand::List(args) => list(output, &client, &args, tenant).await?,
        EndpointCommand::Show { id } => {
            show::endpoint(
                output,
                &client.get(&["v1", "endpoints", id.as_str()], &[]).await?,
            )?;
        }
        EndpointCommand::Set(args) => set(output, &client, *args).await?,
        EndpointCommand::Enable { id } => switch(output, &client, &id, "enable").await?,
        EndpointCommand::Disable { id } => switch(output, &client, &id, "disable").await?,
        EndpointCommand::Delete { id } => delete(output, &client, &id).await?,
        EndpointCommand::Test(args) => return test(output, &client, &args).await,
        EndpointCommand::RotateSecret(args) => rotate(output, &client, &args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(
    output: Output,
    client: &Client,
    args: AddArgs,
    tenant: Option<TenantId>,
) -> Result<(), Failure> {
    let mut body = args.fields.base()?;
    args.fields.write(&mut body)?;
    if let Some(format) = args.wire_format {
        body.insert("wire_format".to_owned(), format.as_str().into());
    }
    body.entry("wire_format")
        .or_insert_with(|| WireFormat::Standard.as_str().into());
    if let Some(tenant) = tenant {
        body.insert("tenant".to_owned(), tenant.as_str().into());
    }
    if let Some(secret) = args.secret.read()? {
        body.insert("secret".to_owned(), secret.into());
    }
    let format = body
        .get("wire_format")
        .and_then(Value::as_str)
        .and_then(WireFormat::parse);
    if !body.contains_key("url") && format.is_none_or(WireFormat::has_url) {
        return Err(Failure::wrong_use("an endpoint needs --url")
            .hint("posthaste endpoint add --url https://example.com/hooks"));
    }
    let made: Value = match args.uid {
        Some(uid) if args.or_update => {
            client
                .put(&["v1", "endpoints", uid.as_str()], &body)
                .await?
        }
        uid => {
            body.extend(uid.map(|uid| ("uid".to_owned(), uid.as_str().into())));
            client.post(&["v1", "endpoints"], &body).await?
        }
    };
    show::endpoint(output, &made)
}

async fn set(output: Output, client: &Client, args: SetArgs) -> Result<(), Failure> {
    let path = ["v1", "endpoints", args.id.as_str()];
    let mut patch = args.fields.base()?;
    if args.fields.merges() {
        // Headers and settings are replaced as a whole: what is there and not named goes back as it
        // was shown.
        let now: Value = client.get(&path, &[]).await?;
        for name in ["headers", "settings"] {
            let shown = now.get(name).cloned().unwrap_or_else(|| json!({}));
            patch.entry(name).or_insert(shown);
        }
    }
    args.fields.write(&mut patch)?;
    if patch.is_empty() {
        return Err(Failure::wrong_use("nothing to change")
            .hint("posthaste endpoint set --help lists what can be set"));
    }
    show::endpoint(output, &client.patch(&path, &patch).await?)
}

async fn list(
    output: Output,
    client: &Client,
    args: &ListArgs,
    tenant: Option<TenantId>,
) -> Result<(), Failure> {
    let mut found: Vec<Value> = Vec::new();
    let mut cursor = None;
    loop {
        let query = [
            ("tenant", tenant.as_ref().map(ToString::to_string)),
            ("enabled", args.enabled.map(|enabled| enabled.to_string())),
            ("limit", Some("500".to_owned())),
            ("cursor", cursor),
        ];
        let page: Value = client.get(&["v1", "endpoints"], &query).await?;
        found.extend(items(&page).iter().cloned());
        // All pages: a list that ends at 500 would look complete.
        cursor = Some(text(&page, "next_cursor")).filter(|cursor| !cursor.is_empty());
        if cursor.is_none() {
            break;
        }
    }
    show::list(output, &found)
}

async fn switch(
    output: Output,
    client: &Client,
    id: &EndpointId,
    what: &str,
) -> Result<(), Failure> {
    let endpoint: Value = client
        .post(&["v1", "endpoints", id.as_str(), what], &json!({}))
        .await?;
    if output.json {
        return Ok(output.document(&endpoint)?);
    }
    Ok(output.line(format_args!("{id} is {what}d."))?)
}

async fn delete(output: Output, client: &Client, id: &EndpointId) -> Result<(), Failure> {
    client.delete(&["v1", "endpoints", id.as_str()]).await?;
    if output.json {
        return Ok(output.document(&json!({"id": id, "deleted": true}))?);
    }
    Ok(output.line(format_args!("{id} is deleted."))?)
}

/// Exit code 1 when the endpoint did not take the test.
async fn test(output: Output, client: &Client, args: &TestArgs) -> Done {
    let mut body = Map::new();
    if let (Some(kind), Some(payload)) = (&args.kind, &args.payload) {
        let payload = fields::json_or_file("--payload", payload)?;
        let mut notification = json!({"type": kind, "payload": payload});
        for (name, given) in [
            ("recipient", &args.recipient),
            ("overrides", &args.overrides),
        ] {
            if let Some(text) = given {
                notification[name] = fields::json_or_file(&format!("--{name}"), text)?;
            }
        }
        body.insert("notification".to_owned(), notification);
    }
    let report: Value = client
        .post(&["v1", "endpoints", args.id.as_str(), "test"], &body)
        .await?;
    show::test_report(output, &report)?;
    Ok(if text(&report, "outcome") == "delivered" {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn rotate(output: Output, client: &Client, args: &RotateArgs) -> Result<(), Failure> {
    let mut body = Map::new();
    body.extend(
        args.overlap
            .map(|overlap| ("overlap_seconds".to_owned(), overlap.as_secs().into())),
    );
    body.extend(
        args.secret
            .read()?
            .map(|secret| ("secret".to_owned(), secret.into())),
    );
    let rotated: Value = client
        .post(
            &["v1", "endpoints", args.id.as_str(), "rotate-secret"],
            &body,
        )
        .await?;
    show::rotated(output, &rotated)
}
