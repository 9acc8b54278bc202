//! `vzbuild image`: from specs, or a bundle, to a container image.

mod below;
mod content;
mod flags;
mod summary;

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use bundler::AssembleError;
use bundler::image::base::{self, Content};
use bundler::image::{
    Compression, Destination, Documents, ImageConfig, ImageName, NewImage, NewLayer, Watch,
    WriteError,
};

use crate::cli::build;
use crate::report::{Advice, Status};
use crate::{interrupt, progress};

use super::bundle::latest_time;
use below::Base;
use content::Source;
use summary::Summary;

/// What the history of an image says of the layer that only it has.
const CREATED_BY: &str = "vzbuild image";

/// Closes the specs, or reads the bundle, and writes the image.
///
/// # Errors
/// As `vzbuild bundle`; a destination or a flag that is not of its form; what
/// cannot be written.
pub fn run(args: &build::Image) -> anyhow::Result<ExitCode> {
    write(args, None, &*interrupt::flag()?)?;
    Ok(Status::Done.into())
}

/// Writes the image of `args`, with `carried_over` in the place of what its bundle
/// says.
///
/// # Errors
/// As [`run`].
pub(super) fn write(
    args: &build::Image,
    carried_over: Option<ImageConfig>,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let destination = Destination::parse(&args.output).status(Status::Usage as u8)?;
    let name = args.name.as_deref().map(str::parse).transpose();
    let name: Option<ImageName> = name.status(Status::Usage as u8)?;
    let created = latest_time()?;
    let Source { files, artifacts, execution, not_in_image } = content::open(args, created)?;
    let Content { layer, rootfs } = files.content();
    let of_bundle = || ImageConfig { config: execution, ..ImageConfig::default() };
    let mut config = carried_over.unwrap_or_else(of_bundle);
    flags::apply(args, &mut config.config)?;
    flags::warn(args, &destination, layer, &config.config, &not_in_image);

    let base = Base::open(args, created, stop)?;
    let beyond = base.as_ref().map(|base| base::beyond(files.content(), base.content()));
    let beyond = beyond.transpose()?;
    let above = beyond.as_ref().unwrap_or(layer);
    let above = NewLayer { layer: above, rootfs, created_by: CREATED_BY };
    let documents = files.documents();
    let image = NewImage {
        below: base.as_ref().and_then(Base::image),
        layers: base.iter().filter_map(Base::new_layer).chain([above]).collect(),
        config,
        created,
        compression: compression(args.compression),
        name,
        artifacts,
        documents: documents.as_ref().map(|make| make as &Documents<'_>),
        sync: !args.no_sync,
    };
    let total = image.layers.iter().map(|layer| layer.layer.bytes()).sum();
    let bar = progress::bytes("image", total);
    let watch = Watch { progress: Some(&|bytes| bar.inc(bytes)), stop: Some(stop) };
    let written = bundler::image::write(&destination, &image, watch).map_err(explain)?;
    bar.finish_and_clear();
    let (files, bytes) = (summary::files(layer), layer.bytes());
    let of_base = base.as_ref().map_or(0, |base| summary::files(base.content().layer));
    let only_base = of_base + summary::files(above.layer) - files;
    Summary {
        args,
        destination: &destination,
        image: &image,
        written: &written,
        files,
        only_base,
        bytes,
    }
    .report()
}

fn compression(asked: build::Compression) -> Compression {
    match asked {
        build::Compression::Zstd => Compression::Zstd,
        build::Compression::Gzip => Compression::Gzip,
        build::Compression::None => Compression::None,
    }
}

/// Adds what the user can do about it.
pub(super) fn explain(error: WriteError) -> anyhow::Error {
    let hint = match &error {
        WriteError::Assemble(AssembleError::Interrupted) => {
            return Err::<(), _>(error).status(interrupt::INTERRUPTED).unwrap_err();
        }
        WriteError::Assemble(AssembleError::Vanished(_) | AssembleError::Changed(_)) => {
            "something writes to the files meanwhile (a running service, an upgrade?): stop it or try again"
        }
        WriteError::Name(_) => {
            return Err::<(), _>(error).status(Status::Usage as u8).unwrap_err();
        }
        WriteError::Occupied(_) => "give another directory with -o, or move that one away",
        _ => return error.into(),
    };
    Err::<(), _>(error).hint(hint).unwrap_err()
}
