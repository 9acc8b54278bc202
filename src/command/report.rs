//! `vzbuild report`: a page about a bundle or image, made of its evidence.

mod changes;
mod html;
mod model;
mod page;
mod policy;
mod rights;
mod tables;
mod treemap;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::build;
use crate::interrupt;
use crate::report::{self, Status};

use model::Model;

/// Writes the page, or prints what it says as JSON.
///
/// # Errors
/// What has no evidence, what cannot be read or written.
pub fn run(args: &build::Report) -> anyhow::Result<ExitCode> {
    let stop = interrupt::flag()?;
    let mut model = Model::read(args.bundle.as_os_str(), &stop)?;
    if let Some(old) = &args.against {
        model.changes = Some(changes::between(&Model::read(old.as_os_str(), &stop)?, &model));
    }
    if args.json {
        report::json(&model)?;
        return Ok(Status::Done.into());
    }
    let page = page::write(&model);
    if args.output == Path::new("-") {
        report::data(page.as_bytes())?;
        return Ok(Status::Done.into());
    }
    let shown = args.output.display();
    std::fs::write(&args.output, page).with_context(|| format!("cannot write `{shown}`"))?;
    report::say("vzbuild", format_args!("{shown}: {}", model.summary()));
    Ok(Status::Done.into())
}
