//! Bulk in `Data` frames: listings, and the bytes of a delta.

use anyhow::{Context, bail};
use delta::Manifest;

use crate::push::frame::Type;
use crate::push::link::{Link, LinkError};
use crate::push::pieces;
use crate::push::protocol::MAX_LISTING;
use crate::push::store::parse_id;

/// Receives exactly `len` bytes of `Data` frames.
///
/// # Errors
/// When something else comes, or `take` fails.
pub(crate) fn receive_data(
    link: &mut Link,
    len: u64,
    mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut left = len;
    while left > 0 {
        let frame = link.receive()?;
        if frame.kind != Type::Data {
            return Err(LinkError::Unexpected(frame.kind).into());
        }
        left = left
            .checked_sub(frame.payload.len() as u64)
            .context("more data came than was announced")?;
        take(&frame.payload)?;
    }
    Ok(())
}

/// Receives the listing of the tree with the digest `target`.
///
/// # Errors
/// When it is too long, damaged, or another one's.
pub(crate) fn receive_listing(
    link: &mut Link,
    (bytes, len): (u64, u64),
    target: &str,
) -> anyhow::Result<Manifest> {
    if len > MAX_LISTING || bytes > MAX_LISTING {
        bail!("a listing of {len} bytes is over the limit of {MAX_LISTING}");
    }
    let mut packed = Vec::new();
    receive_data(link, bytes, |data| {
        packed.extend_from_slice(data);
        Ok(())
    })?;
    let listing = pieces::decompress(&packed, len).context("cannot decompress the listing")?;
    if Some(delta::Digest::of(&listing)) != parse_id(target) {
        bail!("the listing is not that of {target}");
    }
    Manifest::from_bytes(&listing).context("cannot read the listing")
}
