//! `posthaste health`: asks a process on this machine whether it is well. For containers' health
//! checks, where there is no other program to ask with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use posthaste_shared::config::{Config, Profile};
use reqwest::Url;
use serde_json::json;

use crate::client::with_scheme;
use crate::failure::{Done, Failure, chain};
use crate::global::Global;

/// How long an answer may take; readiness itself waits for store and broker.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Ask a process on this machine whether it runs: exit code 0 when it does, else 1.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  posthaste health\n  posthaste health --ready --url \
                  http://127.0.0.1:9090"
)]
pub(crate) struct HealthArgs {
    /// Where it listens [default: the setting `metrics_listen`, else `listen`, else
    /// http://127.0.0.1:8080]
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    url: Option<Url>,
    /// Ask whether store and broker answer, too
    #[arg(long)]
    ready: bool,
}

fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(&with_scheme(text)).ok();
    url.filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| "must be a URL such as http://127.0.0.1:9090".to_owned())
}

/// Asks, and says what the process answered.
pub(crate) async fn run(global: &Global, args: HealthArgs) -> Done {
    let config = global.start(Profile::Tool, Vec::new())?;
    let mut url = match args.url {
        Some(url) => url,
        None => own_url(&config)?,
    };
    url.set_path(if args.ready { "/readyz" } else { "/healthz" });
    // A proxy from the environment is for the world outside.
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        .build()?;
    let answer = client.get(url.clone()).send().await.map_err(|error| {
        Failure::new(format!(
            "{url} does not answer: {}",
            chain(&error.without_url())
        ))
    })?;
    let status = answer.status();
    if !status.is_success() {
        return Err(Failure::new(format!("{url} answered {status}")));
    }
    let output = global.output();
    if output.json {
        output.document(&json!({"url": url.as_str(), "status": status.as_u16()}))?;
    } else {
        output.line(format_args!("{url} answered {status}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a process with this configuration answers.
fn own_url(config: &Config) -> Result<Url, Failure> {
    Ok(Url::parse(&format!(
        "http://{}",
        reachable(config.metrics_listen.unwrap_or(config.listen))
    ))?)
}

/// The address to connect to for one that is listened on: "every address" is no destination.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_asked_at_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:9090", "[::1]:9090"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.1.2.3:80", "10.1.2.3:80"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
