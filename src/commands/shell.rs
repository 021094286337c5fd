//! `posthaste completions` and `posthaste man`: made from the command tree, for packages and for
//! shells.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, Args, Command, ValueHint};
use clap_mangen::roff::{Roff, roman};

use crate::failure::{Done, Failure};

/// Print a completion script for a shell
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell that the script is for
    shell: clap_complete::Shell,
}

/// Print the manual page, or write a page for each command
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write posthaste.1, posthaste-send.1 and so on into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the completion script for a shell.
pub(crate) fn completions(args: &CompletionsArgs, command: Command) -> Done {
    let mut script = Vec::new();
    let mut command = with_hints(command);
    clap_complete::generate(args.shell, &mut command, "posthaste", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// The command, each of whose flags says whether its value is a file, from the name of the value.
/// What says nothing is completed with names of files, whatever it is.
fn with_hints(command: Command) -> Command {
    let hint = |argument: Arg| {
        if !argument.get_action().takes_values() || argument.get_value_hint() != ValueHint::Unknown
        {
            return argument;
        }
        let name = argument.get_value_names().and_then(<[_]>::first);
        let hint = match name.map(AsRef::as_ref) {
            Some("FILE") => ValueHint::FilePath,
            Some("DIR") => ValueHint::DirPath,
            Some("URL") => ValueHint::Url,
            _ => ValueHint::Other,
        };
        argument.value_hint(hint)
    };
    command.mut_args(hint).mut_subcommands(with_hints)
}

/// Prints or writes the pages.
pub(crate) fn man(args: &ManArgs, command: Command) -> Done {
    // Built, so that each subcommand knows its whole name.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    match &args.dir {
        None => io::stdout().lock().write_all(&page(&command)?)?,
        Some(dir) => {
            let failed = |error| {
                Failure::new(format!(
                    "manual pages cannot be written to {}: {error}",
                    dir.display()
                ))
            };
            std::fs::create_dir_all(dir)
                .and_then(|()| write_pages(dir, &command))
                .map_err(failed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_pages(dir: &Path, command: &Command) -> io::Result<()> {
    std::fs::write(dir.join(format!("{}.1", name(command))), page(command)?)?;
    command
        .get_subcommands()
        .try_for_each(|inner| write_pages(dir, inner))
}

/// `posthaste-endpoint-list`
fn name(command: &Command) -> &str {
    command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
}

/// The page of one command, section by section: what clap_mangen makes of a whole page fills the
/// examples into paragraphs, and names no program in the footer of a subcommand.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").to_owned();
    let man = clap_mangen::Man::new(command.clone().override_usage(usage));
    // The title by hand: with no date, clap_mangen leaves its place out, and the version becomes
    // the date.
    let mut page = format!(
        ".TH \"{}\" \"1\" \"\" \"Posthaste {}\" \"Posthaste Manual\"\n",
        name(command).to_uppercase(),
        env!("CARGO_PKG_VERSION")
    )
    .into_bytes();
    // Words keep their hyphens and lines their ends: flags and ids are copied from here.
    page.extend_from_slice(b".nh\n.ad l\n");
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(examples) = command.get_after_help() {
        page.extend_from_slice(examples_section(&examples.to_string()).as_bytes());
    }
    Ok(page)
}

/// The text at the end of a help: its indented lines stay lines, the others are paragraphs.
fn examples_section(text: &str) -> String {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.is_empty() && !matches!(*line, "Example:" | "Examples:"))
        .collect();
    for part in lines.chunk_by(|one, other| one.starts_with(' ') == other.starts_with(' ')) {
        let is_typed = part[0].starts_with(' ');
        let (begin, end) = if is_typed { ("nf", "fi") } else { ("PP", "PP") };
        roff.control(begin, []);
        for line in part {
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        roff.control(end, []);
    }
    roff.render()
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    fn command() -> Command {
        Command::new("ph").subcommand(
            Command::new("go")
                .about("Goes")
                .arg(Arg::new("file").long("file").value_name("FILE"))
                .arg(Arg::new("tenant").long("tenant"))
                .arg(Arg::new("how").long("how").value_parser(["fast", "slow"]))
                .after_help("Examples:\n  ph go --how fast\n  ph go 'a.b'   and more\n\nIt ends."),
        )
    }

    #[test]
    fn examples_stay_lines_and_the_footer_names_the_program() {
        let mut command = command();
        command.build();
        let inner = command.find_subcommand("go").unwrap();
        let text = String::from_utf8(page(inner).unwrap()).unwrap();
        assert!(
            text.starts_with(".TH \"PH-GO\" \"1\" \"\" \"Posthaste 0"),
            "{text}"
        );
        let examples = text.split(".SH EXAMPLES").nth(1).unwrap();
        let typed = examples.split(".nf\n").nth(1).unwrap();
        let (typed, rest) = typed.split_once("\n.fi").unwrap();
        assert_eq!(typed.lines().count(), 2, "{text}");
        assert!(typed.starts_with("ph go \\-\\-how fast\n"), "{text}");
        assert!(rest.contains("It ends."), "{text}");
        assert!(
            text.contains(".SH SYNOPSIS\n\\fBph go\\fR [OPTIONS]"),
            "{text}"
        );
    }

    #[test]
    fn only_files_are_completed_with_files() {
        let command = with_hints(command());
        let inner = command.find_subcommand("go").unwrap();
        let hint = |name: &str| {
            let found = inner.get_arguments().find(|one| one.get_id() == name);
            found.unwrap().get_value_hint()
        };
        assert_eq!(hint("file"), ValueHint::FilePath);
        assert_eq!(hint("tenant"), ValueHint::Other);
        let mut script = Vec::new();
        let mut command = command;
        clap_complete::generate(clap_complete::Shell::Bash, &mut command, "ph", &mut script);
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains("compgen -W \"fast slow\""), "{script}");
    }
}
