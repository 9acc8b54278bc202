//! Container images: their configuration, and how they are written.

pub mod base;
pub mod config;
pub mod destination;
pub mod name;
pub mod runtime;
pub mod write;

pub use config::{ConfigError, Execution, History, ImageConfig};
pub use destination::Destination;
pub use name::ImageName;
pub use write::{Artifact, Compression, NewImage, NewLayer, Watch, WriteError, Written, write};
