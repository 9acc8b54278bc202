//! `vzpush pull`: a node's current revision back as a bundle.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::json;

use super::{receiver, ssh, targets};
use crate::cli::push::SshArgs;
use crate::push::outcome::{bytes, short};
use crate::push::protocol::{Hello, Reply, Task, VERSION};
use crate::push::receiver::pull;
use crate::push::sender::answer;
use crate::report::{self, Status};

pub(super) fn run(
    text: &str,
    name: &str,
    output: Option<&Path>,
    args: &SshArgs,
) -> anyhow::Result<ExitCode> {
    let node = targets::one(text)?;
    let output = output.map_or_else(|| PathBuf::from(name), Path::to_owned);
    let task = Task::Pull { name: name.to_owned() };
    let hello = Hello { version: VERSION, task };
    let mut session = ssh(args).connect(&node, &receiver("receive")?, &hello, false, &|_, _| ())?;
    let Reply::Listing { target, bytes: packed, listing } = answer(&mut session.link)? else {
        bail!("the node answered something else");
    };
    let manifest = pull(&mut session.link, (packed, listing), &target, &output)
        .with_context(|| format!("cannot pull `{name}` into `{}`", output.display()))?;
    session.end();
    let size = manifest.size();
    if args.json {
        let value = json!([{ "name": name, "revision": target, "size": size, "path": output }]);
        report::data(format!("{value:#}\n").as_bytes())?;
    } else {
        let line = format!("{}: {}, {}", output.display(), short(&target), bytes(size));
        report::say("vzpush", line);
    }
    Ok(Status::Done.into())
}
