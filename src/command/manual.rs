//! `vzbuild manual DIR`: man pages and shell completions, laid out as in /usr/share.

mod fleet_page;
mod spec_page;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::{Shell, generate_to};

use crate::cli;
use crate::report::Status;

/// Where each shell looks for completions below /usr/share.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions"),
    (Shell::Zsh, "zsh/site-functions"),
    (Shell::Fish, "fish/vendor_completions.d"),
];

/// Writes everything below `args.dir`; files that are there are replaced.
///
/// # Errors
/// When a file cannot be written.
pub fn run(args: &cli::build::Manual) -> anyhow::Result<ExitCode> {
    let tools = [
        cli::strace::Args::command(),
        cli::build::Args::command(),
        cli::push::Args::command(),
        cli::master::Args::command(),
    ];
    for tool in tools {
        write_pages(&args.dir.join("man/man1"), tool.clone())?;
        for (shell, dir) in COMPLETIONS {
            write_completion(&args.dir.join(dir), shell, tool.clone())?;
        }
    }
    make_dir(&args.dir.join("man/man5"))?;
    for (name, text) in [("vz-spec", spec_page::render()), ("vz-fleet", fleet_page::render())] {
        let page = args.dir.join("man/man5").join(format!("{name}.5"));
        fs::write(&page, text).with_context(|| format!("cannot write `{}`", page.display()))?;
    }
    Ok(Status::Done.into())
}

/// One page for the tool, and one for each of its verbs that are not hidden.
fn write_pages(dir: &Path, tool: clap::Command) -> anyhow::Result<()> {
    make_dir(dir)?;
    clap_mangen::generate_to(tool, dir)
        .with_context(|| format!("cannot write man pages into `{}`", dir.display()))
}

fn write_completion(dir: &Path, shell: Shell, mut tool: clap::Command) -> anyhow::Result<()> {
    make_dir(dir)?;
    let name = tool.get_name().to_owned();
    let path = generate_to(shell, &mut tool, &name, dir)
        .with_context(|| format!("cannot write completions into `{}`", dir.display()))?;
    if shell == Shell::Bash {
        // bash-completion looks for a file named as the command is, without an ending.
        fs::rename(&path, dir.join(&name))
            .with_context(|| format!("cannot rename `{}`", path.display()))?;
    }
    Ok(())
}

fn make_dir(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()))
}
