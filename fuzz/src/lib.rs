//! The entry points of the fuzz targets.
#![forbid(unsafe_code)]

pub mod databases;
pub mod deltas;
pub mod entries;
pub mod images;
