//! Container images: their configuration (OCI image-spec, `config.md`).

pub mod config;
pub mod runtime;

pub use config::{ConfigError, Execution, History, ImageConfig};
