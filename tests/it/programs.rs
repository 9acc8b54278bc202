//! Real programs of Debian: traced, bundled and run, they do what they do outside.

mod check;
mod commands;
mod servers;
