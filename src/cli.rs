//! The command tree, and its help grouped by what one is after.

use std::fmt::Write as _;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::commands::{
    api, asyncapi, bench, console, dead, delivery, doctor, endpoint, event, explain, health, key,
    listen, migrate, notification, openapi, reconcile, replay, send, shell, up, worker,
};
use crate::examples;
use crate::failure::{Done, Failure};
use crate::global::{Global, ServiceFlags};

/// A durable delivery queue for webhooks
///
/// Hand a notification over and forget it: Posthaste gets it to every webhook that should have it,
/// or says, durably and once, why it could not.
#[derive(Debug, Parser)]
#[command(name = "posthaste", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything in one process, on an embedded store and queue
    Up(up::UpArgs),
    /// Run the HTTP API
    Api(api::ApiArgs),
    /// Run a delivery worker
    Worker(worker::WorkerArgs),
    /// Bring the store's schema up to date
    Migrate(migrate::MigrateArgs),
    /// Enqueue notifications, one or many
    Send(Box<send::SendArgs>),
    /// Manage endpoints: the webhooks that notifications go to
    Endpoint(Box<endpoint::EndpointArgs>),
    /// Look at notifications, also at those without a subscriber
    Notification(notification::NotificationArgs),
    /// Look at deliveries; send one again or cancel it
    Delivery(delivery::DeliveryArgs),
    /// Send again all deliveries that match a filter
    Replay(replay::ReplayArgs),
    /// Say why a notification or delivery is where it is
    Explain(explain::ExplainArgs),
    /// Print a link that signs in to the web console
    Console(console::ConsoleArgs),
    /// Look at the dead-letter queue and re-drive it
    Dead(dead::DeadArgs),
    /// Look at events, or follow them
    Event(event::EventArgs),
    /// Create, list and revoke API keys
    Key(key::KeyArgs),
    /// Receive webhooks locally, print them and verify their signatures
    Listen(listen::ListenArgs),
    /// Check configuration, store, broker and clocks
    Doctor(doctor::DoctorArgs),
    /// Ask a process on this machine whether it runs
    Health(health::HealthArgs),
    /// Prove that everything accepted is accounted for
    Reconcile(reconcile::ReconcileArgs),
    /// Measure how fast Posthaste is on this machine
    Bench(Box<bench::BenchArgs>),
    /// Print the OpenAPI specification of the HTTP API
    Openapi,
    /// Print the AsyncAPI specification of messages and events
    Asyncapi(ServiceFlags),
    /// Print a completion script for a shell
    Completions(shell::CompletionsArgs),
    /// Print the manual page, or write a page for each command
    Man(shell::ManArgs),
}

/// The groups of `posthaste --help`.
const GROUPS: &[(&str, &[&str])] = &[
    ("Run it", &["up", "api", "worker", "migrate"]),
    (
        "Use it",
        &[
            "send",
            "endpoint",
            "notification",
            "delivery",
            "replay",
            "explain",
            "console",
        ],
    ),
    (
        "Operate it",
        &[
            "doctor",
            "health",
            "reconcile",
            "event",
            "dead",
            "key",
            "bench",
        ],
    ),
    (
        "Develop against it",
        &["listen", "openapi", "asyncapi", "completions", "man"],
    ),
];

/// Parses the command line; prints help or what is wrong with it and ends the program (2: wrong
/// use).
pub(crate) fn parse() -> Cli {
    let mut command = command();
    let cli = command
        .try_get_matches_from_mut(std::env::args_os())
        .and_then(|matches| Cli::from_arg_matches(&matches));
    cli.unwrap_or_else(|error| {
        let error = with_tip(error.format(&mut command));
        // Help and the version are no errors, and are text in any case.
        if error.use_stderr() && std::env::args_os().any(|it| it == "--json") {
            let _ = wrong_use(&error).report(true);
            std::process::exit(error.exit_code());
        }
        error.exit()
    })
}

/// A parser's error as one of ours: its first paragraph, and what it suggests.
fn wrong_use(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let mut paragraphs = text.split("\n\n").map(str::trim);
    let message = paragraphs.next().unwrap_or_default();
    let failure = Failure::wrong_use(message.trim_start_matches("error: "));
    failure.hint(paragraphs.collect::<Vec<_>>().join("\n"))
}

/// Commands that others have, and where to find the same here. What is spelt like one of ours is
/// found by clap.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (
        &[
            "enqueue", "publish", "emit", "push", "post", "produce", "trigger",
        ],
        "send",
    ),
    (&["start", "serve", "server", "run", "demo"], "up"),
    (
        &["webhook", "webhooks", "subscription", "hook", "add"],
        "endpoint",
    ),
    (&["message", "messages", "list"], "notification list"),
    (&["attempts", "logs", "log", "show"], "delivery list"),
    (&["retry"], "delivery retry"),
    (&["cancel"], "delivery cancel"),
    (&["resend", "redeliver", "recover"], "replay"),
    (&["why", "trace", "inspect", "find"], "explain"),
    (&["dlq", "dead-letter", "dead-letters", "redrive"], "dead"),
    (&["tail", "watch", "follow"], "event tail"),
    (&["token", "apikey", "api-key"], "key"),
    (&["check", "status", "config"], "doctor"),
    (&["upgrade", "init", "setup"], "migrate"),
    (&["receive", "receiver"], "listen"),
];

/// The error, with a tip where a command was typed that is called otherwise here.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let typed = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(typed)) => typed.clone(),
        _ => return error,
    };
    let found = ELSEWHERE
        .iter()
        .find(|(names, _)| names.contains(&typed.as_str()));
    // Also where clap found something alike: `retry` is not a mistyped `replay`.
    if let Some((_, here)) = found {
        let here = vec![(*here).to_owned()];
        error.insert(
            ContextKind::SuggestedSubcommand,
            ContextValue::Strings(here),
        );
    }
    error
}

fn command() -> clap::Command {
    let command = examples::put_into(Cli::command());
    let template = help_template(&command);
    command.help_template(template)
}

fn help_template(command: &clap::Command) -> String {
    let mut template = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    for (title, names) in GROUPS {
        let _ = write!(template, "\n{title}:\n");
        for name in *names {
            let about = command
                .find_subcommand(name)
                .and_then(clap::Command::get_about)
                .map(ToString::to_string);
            let _ = writeln!(template, "  {name:<12} {}", about.unwrap_or_default());
        }
    }
    template.push_str(
        "\n{all-args}\n\nStart with `posthaste up --demo`. `posthaste <command> \
                       --help` has examples.\n",
    );
    // The subcommands are listed above; {all-args} would list them again.
    template.replace("{all-args}", "Options:\n{options}")
}

impl Cli {
    /// Whether output, and what is said of a failure, is for programs.
    pub(crate) const fn asks_for_json(&self) -> bool {
        self.global.json
    }

    /// Runs the command.
    ///
    /// # Errors
    /// Why it could not be done.
    pub(crate) async fn run(self) -> Done {
        let Self { global, command } = self;
        match command {
            Command::Up(args) => up::run(&global, args).await,
            Command::Api(args) => api::run(&global, args).await,
            Command::Worker(args) => worker::run(&global, args).await,
            Command::Migrate(args) => migrate::run(&global, args).await,
            Command::Send(args) => Box::pin(send::run(&global, *args)).await,
            Command::Endpoint(args) => endpoint::run(&global, *args).await,
            Command::Notification(args) => notification::run(&global, args).await,
            Command::Delivery(args) => delivery::run(&global, args).await,
            Command::Replay(args) => replay::run(&global, args).await,
            Command::Explain(args) => explain::run(&global, args).await,
            Command::Console(args) => console::run(&global, args).await,
            Command::Dead(args) => dead::run(&global, args).await,
            Command::Event(args) => event::run(&global, args).await,
            Command::Key(args) => key::run(&global, args).await,
            Command::Listen(args) => listen::run(&global, args).await,
            Command::Doctor(args) => Box::pin(doctor::run(&global, args)).await,
            Command::Health(args) => health::run(&global, args).await,
            Command::Reconcile(args) => reconcile::run(&global, args).await,
            Command::Bench(args) => Box::pin(bench::run(&global, *args)).await,
            Command::Openapi => openapi::run(&global),
            Command::Asyncapi(args) => asyncapi::run(&global, &args),
            Command::Completions(args) => {
                shell::completions(&args, examples::put_into(Cli::command()))
            }
            Command::Man(args) => shell::man(&args, examples::put_into(Cli::command())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parses(line: &str) -> Result<Cli, clap::Error> {
        let matches = command().try_get_matches_from(line.split_whitespace())?;
        Cli::from_arg_matches(&matches)
    }

    #[test]
    fn the_tree_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_command_has_its_group() {
        let mut grouped: Vec<&str> = GROUPS
            .iter()
            .flat_map(|(_, names)| names.iter().copied())
            .collect();
        let command = Cli::command();
        let mut all: Vec<&str> = command
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        grouped.sort_unstable();
        all.sort_unstable();
        assert_eq!(grouped, all);
    }

    #[test]
    fn every_command_has_examples_and_they_parse() {
        fn without(command: &clap::Command, path: &str, found: &mut Vec<String>) {
            let path = format!("{path} {}", command.get_name());
            if !command
                .get_after_help()
                .is_some_and(|help| help.to_string().contains("Example"))
            {
                found.push(path.clone());
            }
            command
                .get_subcommands()
                .for_each(|inner| without(inner, &path, found));
        }
        let mut found = Vec::new();
        command()
            .get_subcommands()
            .for_each(|inner| without(inner, "posthaste", &mut found));
        assert_eq!(found, [""; 0]);
        for line in examples::lines() {
            let line = line.split(['>', '|']).next().unwrap_or(line);
            if let Err(error) = parses(line) {
                panic!("{line}: {error}");
            }
        }
    }

    /// A word or two may remind whoever wrote it; a reader of `--help` needs a sentence.
    #[test]
    fn every_command_and_flag_says_what_it_is() {
        fn short(command: &clap::Command, path: &str, found: &mut Vec<String>) {
            let path = format!("{path} {}", command.get_name());
            let mut say = |name: &str, text: Option<&clap::builder::StyledStr>| {
                let text = text.map(ToString::to_string).unwrap_or_default();
                if text.split_whitespace().count() < 4 {
                    found.push(format!("{name}: {text:?}"));
                }
            };
            say(&path, command.get_about());
            for argument in command.get_arguments() {
                let name = format!("{path} {}", argument.get_id());
                // clap writes the texts of these two itself.
                if !matches!(argument.get_id().as_str(), "help" | "version") {
                    say(&name, argument.get_help());
                }
            }
            command
                .get_subcommands()
                .for_each(|inner| short(inner, &path, found));
        }
        let mut found = Vec::new();
        short(&command(), "", &mut found);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn commands_that_others_have_lead_to_ours() {
        for (line, tip) in [
            ("posthaste enqueue", "'send'"),
            ("posthaste publish --type a", "'send'"),
            ("posthaste webhook list", "'endpoint'"),
            ("posthaste dlq", "'dead'"),
            ("posthaste retry 1", "'delivery retry'"),
            ("posthaste sendd", "'send'"),
        ] {
            let said = with_tip(parses(line).map(|_| line).unwrap_err());
            assert_eq!(said.exit_code(), 2, "{line}");
            let said = said.to_string();
            assert!(
                said.contains("tip:") && said.contains(tip),
                "{line}: {said}"
            );
        }
        for (_, here) in ELSEWHERE {
            let found = here.split(' ').try_fold(Cli::command(), |command, name| {
                command.find_subcommand(name).cloned()
            });
            assert!(found.is_some(), "{here}");
        }
    }

    #[test]
    fn common_lines_parse() {
        for line in [
            "posthaste up --listen 127.0.0.1:1 --data-dir /tmp/x --demo",
            "posthaste worker --listen 0.0.0.0:9090 --slots 12",
            "posthaste send --type a.b --payload {} --endpoint ep_1 --ttl 3s --delay 5s --json",
            "posthaste send --file x.ndjson --broker --broker-url amqp://h",
            "posthaste send -",
            "posthaste endpoint add --url https://x --type a --type b.* --delays 1s,5s,5m \
             --header X-A:b --setting k=1",
            "posthaste endpoint set ep_1 --max-in-flight 3",
            "posthaste endpoint rotate-secret ep_1 --overlap 1h",
            "posthaste delivery list --status failed --since 1h",
            "posthaste delivery list --status failed,expired --reason rejected --reason gone \
             --status-code 404,410",
            "posthaste delivery list --hold disabled --endpoint ep_1,ep_2 --type a.b,a.c",
            "posthaste notification list --unmatched --type a.b --since 1h --limit 3",
            "posthaste notification list --unmatched=false",
            "posthaste endpoint add --uid orders --or-update --url https://x --tenant acme",
            "posthaste endpoint show orders --tenant acme",
            "posthaste delivery cancel 6b1f0a0e-0000-5000-8000-000000000000",
            "posthaste replay --status failed --no-wait",
            "posthaste replay --status failed --dry-run --yes --api-url http://127.0.0.1:1",
            "posthaste replay list --limit 3 --json --api-url http://127.0.0.1:1",
            "posthaste replay show 6b1f0a0e-0000-5000-8000-000000000000",
            "posthaste replay cancel 6b1f0a0e-0000-5000-8000-000000000000",
            "posthaste dead redrive --all",
            "posthaste dead redrive --all --no-wait",
            "posthaste dead redrives list",
            "posthaste dead redrives cancel 6b1f0a0e-0000-5000-8000-000000000000",
            "posthaste event tail --type delivery.failed --after 7 --exit-after 1",
            "posthaste event list --since 24h",
            "posthaste key create --name ci --scope enqueue --scope read --tenant acme",
            "posthaste listen --secret whsec_YQ== --status 503 --fail-first 2 --rate-limit 5/s \
             --exit-after 3",
            "posthaste reconcile --accepted ids.txt",
            "posthaste --json doctor",
            "posthaste health --ready --url http://127.0.0.1:9090",
            "posthaste bench",
            "posthaste bench fan-out --messages 3 --json-file x.json --database-url postgres://h",
            "posthaste bench backlog --against p --against-arg=--multiple --runs 5",
            "posthaste health --url localhost:9090",
            "posthaste listen --format raw",
        ] {
            if let Err(error) = parses(line) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn wrong_use_is_refused() {
        for line in [
            "posthaste sendd",
            "posthaste send --type a --payload {} --ttl 3 --expires-at 2026-01-01T00:00:00Z",
            "posthaste send --type a --payload {} --ttl 3",
            "posthaste send --api --broker -",
            "posthaste endpoint add --wire-format soap --url https://x",
            "posthaste endpoint add --url https://x --secret a --secret-file b",
            "posthaste delivery list --status lost",
            "posthaste delivery list --limit 0",
            "posthaste notification list --limit 0",
            "posthaste dead list --limit 0",
            "posthaste replay list --limit 0",
            "posthaste event list --limit 0",
            "posthaste delivery list --reason lost",
            "posthaste delivery list --status-code 5xx",
            "posthaste endpoint show ..",
            "posthaste endpoint add --or-update --url https://x",
            "posthaste delivery show not-a-uuid",
            "posthaste dead redrive",
            "posthaste dead redrive some-id --no-wait",
            "posthaste replay show not-a-uuid",
            "posthaste replay --status failed list",
            "posthaste event tail --type delivery.lost",
            "posthaste key create --scope root",
            "posthaste listen --status 99",
            "posthaste bench juggling",
            "posthaste bench --payload 3",
            "posthaste bench steady --rate 0",
        ] {
            let error = parses(line).map(|_| line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
