//! `vzpush`: from the command line to a push or a verb.

pub(super) mod deploy;
mod node;
mod pull;
pub(super) mod receive;
mod source;
pub(super) mod targets;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::push::{Args, SshArgs, Verb};
use crate::push::protocol::Task;
use crate::push::ssh::{self, Receiver, Ssh};

/// Does what the command line asks for.
///
/// # Errors
/// As the verb's own pipeline.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        None => deploy::run(&args.push, &args.ssh),
        Some(Verb::Receive { hello }) => receive::run(hello, &args.ssh),
        Some(Verb::Ls(one)) => node::run(&one.node, &Task::Ls, &args.ssh),
        Some(Verb::Gc(one)) => node::run(&one.node, &Task::Gc, &args.ssh),
        Some(Verb::Verify { node, name }) => {
            node::run(node, &Task::Verify { name: name.clone() }, &args.ssh)
        }
        Some(Verb::Rollback(one)) => {
            node::run(&one.node, &Task::Rollback { name: one.name.clone() }, &args.ssh)
        }
        Some(Verb::Pull { node, name, output }) => {
            pull::run(node, name, output.as_deref(), &args.ssh)
        }
    }
}

/// How ssh is called, by the command line and the environment.
pub(super) fn ssh(args: &SshArgs) -> Ssh {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    Ssh {
        config: args.config.clone(),
        options: args.options.clone(),
        control: ssh::control_dir(runtime.as_deref().filter(|dir| dir.is_absolute())),
        connect_timeout: args.connect_timeout,
        store: args.store.clone(),
        silence: args.silence,
    }
}

/// This very program, to run on nodes with `verb`.
pub(super) fn receiver(verb: &'static str) -> anyhow::Result<Receiver> {
    let program = std::fs::read("/proc/self/exe").context("cannot read this program")?;
    Ok(Receiver::new(program, verb))
}
