//! `vzmaster`: one file a verb.

mod absent;
mod control;
mod copying;
mod deploy;
mod directory;
mod exec;
mod export;
mod gather;
mod interruption;
mod logs;
mod missing;
mod mount_points;
mod newnode;
mod node;
mod plan;
mod playbook;
mod preflight;
mod ps;
mod push;
mod retire;
mod rollback;
mod secrets;
mod session;
mod validate;

use std::process::ExitCode;

use crate::cli::master::{Args, Plan, Verb};
use crate::command::push::receive;
use crate::fleet::state::Control;

/// Does what the command line asks for.
///
/// # Errors
/// As the verb's own pipeline.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Validate => validate::run(args),
        Verb::Preflight(preflight) => preflight::run(args, preflight),
        Verb::Newnode(newnode) => newnode::run(args, newnode),
        Verb::Plan(plan) => plan::plan(args, plan),
        Verb::Diff(diff) => plan::diff(args, &Plan::from(diff)),
        Verb::Push(push) => push::run(args, push),
        Verb::Deploy(deploy) => deploy::run(args, deploy),
        Verb::Playbook(playbook) => playbook::run(args, playbook),
        Verb::Export(export) => export::run(args, export),
        Verb::Retire(retire) => retire::run(args, retire),
        Verb::Ps(select) => ps::run(args, select),
        Verb::Logs(logs) => logs::run(args, logs),
        Verb::Exec(exec) => exec::run(args, exec),
        Verb::Start(pod) => control::run(args, pod, Control::Start),
        Verb::Stop(pod) => control::run(args, pod, Control::Stop),
        Verb::Kill(pod) => control::run(args, pod, Control::Kill),
        Verb::Restart(pod) => control::run(args, pod, Control::Restart),
        Verb::Rollback(rollback) => rollback::run(args, rollback),
        Verb::History(pod) => rollback::history(args, pod),
        Verb::Receive(greeted) => receive::run(&greeted.hello, &args.ssh),
        Verb::Node(greeted) => node::run(&greeted.hello, &args.ssh),
        Verb::Guard(guard) => node::guard(&guard.pod, &args.ssh),
    }
}
