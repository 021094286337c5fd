//! `posthaste doctor`: what is configured, whether it works, and what to do where it does not.

mod checks;

use std::process::ExitCode;

use clap::Args;
use posthaste_shared::config::{
    BrokerKind, Config, ConfigError, Effective, Inputs, Profile, Source, mistyped_variables,
};
use posthaste_shared::telemetry::logging;
use serde::Serialize;
use serde_json::{Value, json};

use crate::failure::{Done, Failure};
use crate::global::{ClientFlags, Global, ServiceFlags};
use crate::output::{Output, fixed, wrapped};

/// Check configuration, store, schema, clocks, broker, topology, secrets and API; say what to do.
///
/// Prints the effective configuration, with secrets redacted. Exit code 1 when a check fails.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    client: ClientFlags,
    #[command(flatten)]
    service: ServiceFlags,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One check and what it found.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Ok,
            detail: detail.into(),
            remedy: None,
        }
    }

    fn warn(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Warn,
            detail: detail.into(),
            remedy: Some(remedy.into()),
        }
    }

    fn fail(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Fail,
            detail: detail.into(),
            remedy: Some(remedy.into()),
        }
    }
}

/// Runs `posthaste doctor`: every check, then the report.
pub(crate) async fn run(global: &Global, args: DoctorArgs) -> Done {
    let mut flags = args.client.settings()?;
    flags.extend(args.service.settings());
    let inputs = global.inputs(flags)?;
    let output = global.output();
    let config = match load(&inputs) {
        Ok(config) => config,
        Err(error) => {
            let check = Check::fail(
                "configuration",
                error.to_string(),
                "docs/configuration.md says what each setting must be",
            );
            report(output, &[], &[check])?;
            return Ok(ExitCode::FAILURE);
        }
    };
    logging::init(&config.log)?;
    let mut checks = vec![configuration(&inputs)];
    checks.extend(checks::store_and_broker(&config).await);
    checks.push(checks::api(global.client_of(&config)).await);
    report(output, config.effective(), &checks)?;
    let failed = checks.iter().any(|check| check.verdict == Verdict::Fail);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The configuration, with the defaults of `up` where nothing else can be meant: an embedded broker
/// in SQLite.
fn load(inputs: &Inputs) -> Result<Config, ConfigError> {
    let config = Config::load(Profile::Tool, inputs)?;
    let embedded = config.broker.kind == BrokerKind::Embedded
        && config.database.url.expose().starts_with("sqlite:");
    if !embedded {
        return Ok(config);
    }
    let mut as_up = Config::load(Profile::Up, inputs)?;
    as_up.log = config.log;
    Ok(as_up)
}

fn configuration(inputs: &Inputs) -> Check {
    let mistyped = mistyped_variables(inputs);
    if mistyped.is_empty() {
        return Check::ok("configuration", "it can be read");
    }
    let names = mistyped
        .iter()
        .map(|(wrong, right)| format!("{wrong} (did you mean {right}?)"));
    let detail = format!("not a setting: {}", names.collect::<Vec<_>>().join(", "));
    Check::warn("configuration", detail, "rename or unset them")
}

fn report(output: Output, effective: &[Effective], checks: &[Check]) -> Result<(), Failure> {
    if output.json {
        let setting = |effective: &Effective| {
            json!({
                "setting": effective.key,
                "value": effective.shown,
                "source": effective.source.to_string(),
            })
        };
        let settings: Vec<Value> = effective.iter().map(setting).collect();
        return Ok(output.document(&json!({"configuration": settings, "checks": checks}))?);
    }
    if !effective.is_empty() {
        let row = |effective: &Effective| {
            let source = if effective.shown.is_empty() {
                String::new()
            } else {
                source(&effective.source)
            };
            vec![effective.key.to_owned(), shown(effective), source]
        };
        output.table(
            &[fixed("setting"), wrapped("value"), fixed("from")],
            effective.iter().map(row).collect(),
        )?;
        output.line("")?;
    }
    let row = |check: &Check| {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        vec![
            verdict.to_owned(),
            check.name.to_owned(),
            check.detail.clone(),
        ]
    };
    output.table(
        &[fixed(""), fixed("check"), wrapped("what was found")],
        checks.iter().map(row).collect(),
    )?;
    for check in checks {
        if let Some(remedy) = &check.remedy {
            output.line(format_args!("\n{}: {remedy}", check.name))?;
        }
    }
    Ok(())
}

fn shown(effective: &Effective) -> String {
    if effective.shown.is_empty() {
        "(not set)".to_owned()
    } else {
        effective.shown.clone()
    }
}

fn source(source: &Source) -> String {
    source.to_string()
}
