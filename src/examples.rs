//! Examples at the end of the help of every command that has none beside its arguments.

use clap::Command;

/// A command's path, without `posthaste`, and lines to type.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "api",
        &[
            "posthaste api --listen 0.0.0.0:8080",
            "posthaste api --database-url postgres://db/posthaste --broker-url amqp://mq",
        ],
    ),
    (
        "worker",
        &[
            "posthaste worker --listen 127.0.0.1:9090",
            "posthaste worker --slots 256",
        ],
    ),
    (
        "migrate",
        &["posthaste migrate --database-url sqlite://posthaste.db"],
    ),
    ("doctor", &["posthaste doctor", "posthaste doctor --json"]),
    ("openapi", &["posthaste openapi > openapi.json"]),
    ("asyncapi", &["posthaste asyncapi > asyncapi.json"]),
    (
        "completions",
        &["posthaste completions bash > /etc/bash_completion.d/posthaste"],
    ),
    (
        "man",
        &[
            "posthaste man | man -l -",
            "posthaste man --dir /usr/local/share/man/man1",
        ],
    ),
    (
        "endpoint",
        &[
            "posthaste endpoint add --url https://example.com/hooks",
            "posthaste endpoint list",
        ],
    ),
    ("endpoint list", &["posthaste endpoint list --tenant acme"]),
    (
        "endpoint show",
        &["posthaste endpoint show ep_0192f0c4b7e87d3f8a1bd2c3e4f50617"],
    ),
    (
        "endpoint enable",
        &["posthaste endpoint enable ep_0192f0c4b7e87d3f8a1bd2c3e4f50617"],
    ),
    (
        "endpoint disable",
        &["posthaste endpoint disable ep_0192f0c4b7e87d3f8a1bd2c3e4f50617"],
    ),
    (
        "endpoint delete",
        &["posthaste endpoint delete ep_0192f0c4b7e87d3f8a1bd2c3e4f50617"],
    ),
    (
        "endpoint test",
        &["posthaste endpoint test ep_0192f0c4b7e87d3f8a1bd2c3e4f50617"],
    ),
    (
        "endpoint rotate-secret",
        &["posthaste endpoint rotate-secret ep_0192f0c4b7e87d3f8a1bd2c3e4f50617 --overlap 24h"],
    ),
    (
        "delivery list",
        &[
            "posthaste delivery list --status failed --since 1h",
            "posthaste delivery list --status failed,expired --status-code 500,503",
            "posthaste delivery list --type order.paid --limit 500 --json",
        ],
    ),
    (
        "notification",
        &[
            "posthaste notification list --unmatched --since 1h",
            "posthaste notification show order-17",
        ],
    ),
    (
        "notification list",
        &[
            "posthaste notification list --type order.paid",
            "posthaste notification list --unmatched",
        ],
    ),
    (
        "notification show",
        &["posthaste notification show order-17 --tenant acme"],
    ),
    (
        "delivery show",
        &["posthaste delivery show 6b1f0a0e-7c5d-5e2a-8b1f-0f3a5d7c9e11"],
    ),
    (
        "delivery retry",
        &["posthaste delivery retry 6b1f0a0e-7c5d-5e2a-8b1f-0f3a5d7c9e11"],
    ),
    (
        "delivery cancel",
        &["posthaste delivery cancel 6b1f0a0e-7c5d-5e2a-8b1f-0f3a5d7c9e11"],
    ),
    ("replay list", &["posthaste replay list"]),
    (
        "replay show",
        &["posthaste replay show 0192f0c4-7f3e-7cc1-9f5a-2f1f2d3c4b5a"],
    ),
    (
        "replay cancel",
        &["posthaste replay cancel 0192f0c4-7f3e-7cc1-9f5a-2f1f2d3c4b5a"],
    ),
    (
        "dead",
        &["posthaste dead list", "posthaste dead redrive --all"],
    ),
    ("dead list", &["posthaste dead list --limit 10"]),
    ("dead show", &["posthaste dead show order-17"]),
    ("dead redrives list", &["posthaste dead redrives list"]),
    (
        "dead redrives show",
        &["posthaste dead redrives show 0192f0c4-7f3e-7cc1-9f5a-2f1f2d3c4b5a"],
    ),
    (
        "dead redrives cancel",
        &["posthaste dead redrives cancel 0192f0c4-7f3e-7cc1-9f5a-2f1f2d3c4b5a"],
    ),
    (
        "event",
        &["posthaste event tail", "posthaste event list --since 24h"],
    ),
    (
        "key create",
        &["posthaste key create --name billing --scope enqueue --tenant acme"],
    ),
    (
        "key rotate-master",
        &["posthaste key rotate-master --database-url postgres://db/posthaste"],
    ),
    ("key list", &["posthaste key list"]),
    (
        "key revoke",
        &["posthaste key revoke key_0192f0c4b7e87d3f8a1bd2c3e4f50617"],
    ),
];

/// The command with examples in the help of all of its subcommands.
pub(crate) fn put_into(command: Command) -> Command {
    EXAMPLES.iter().fold(command, |command, (path, lines)| {
        let names: Vec<&str> = path.split(' ').collect();
        at(command, &names, lines)
    })
}

fn at(command: Command, names: &[&str], lines: &[&str]) -> Command {
    match names.split_first() {
        Some((name, rest)) => command.mut_subcommand(*name, |inner| at(inner, rest, lines)),
        None => {
            let title = if lines.len() == 1 {
                "Example"
            } else {
                "Examples"
            };
            command.after_help(format!("{title}:\n  {}", lines.join("\n  ")))
        }
    }
}

#[cfg(test)]
pub(crate) fn lines() -> impl Iterator<Item = &'static str> {
    EXAMPLES.iter().flat_map(|(_, lines)| lines.iter().copied())
}
