//! `posthaste completions` and `posthaste man`: made from the command tree, for packages and for
//! shells.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};

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
pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "posthaste", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints or writes the pages.
pub(crate) fn man(args: &ManArgs, command: Command) -> Done {
    match &args.dir {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            io::stdout().lock().write_all(&page)?;
        }
        Some(dir) => write_pages(dir, command)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn write_pages(dir: &Path, command: Command) -> Result<(), Failure> {
    let failed = |error| {
        Failure::new(format!(
            "manual pages cannot be written to {}: {error}",
            dir.display()
        ))
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(command.disable_help_subcommand(true), dir).map_err(failed)
}
