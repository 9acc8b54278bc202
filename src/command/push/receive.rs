//! `vzpush receive`: the node's end, started by ssh.

use std::io::Read;
use std::process::ExitCode;

use anyhow::Context;
use delta::Digest;

use crate::cli::push::SshArgs;
use crate::push::link::Link;
use crate::push::receiver::{Identity, serve};
use crate::push::ssh;
use crate::push::store::Store;
use crate::report::{self, Status};

pub(in crate::command) fn run(hello: &str, args: &SshArgs) -> anyhow::Result<ExitCode> {
    let input = ssh::greeting(hello)?.chain(std::io::stdin());
    let root = args.store.as_ref().context("--store is needed")?;
    let program = std::fs::File::open("/proc/self/exe").and_then(crate::tree::FileAt::whole);
    let receiver: Digest =
        crate::push::verify::hash(&program.context("cannot read this program")?)?;
    let arch = std::env::consts::ARCH.to_owned();
    let identity = Identity { receiver: receiver.to_string(), arch };
    let silence = args.silence;
    // Whatever hangs, the locks go with the process.
    let hang_up = move || {
        let seconds = silence.as_secs_f64();
        report::abandon("vzpush", format_args!("nothing was heard for {seconds} s"));
    };
    let mut link = Link::start(input, report::output(), silence, hang_up)?;
    serve(&mut link, &Store::new(root.into()), &identity)?;
    Ok(Status::Done.into())
}
