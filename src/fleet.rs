//! The fleet: which pods run on which nodes, and how they get there.
//!
//! Reading, planning and comparing are pure; what acts is named so.

pub mod config;
pub mod deployment;
pub mod fields;
pub mod groups;
pub mod kubernetes;
pub mod liveness;
pub mod missing;
pub mod network;
pub mod newnode;
pub mod obstacle;
pub mod on_node;
pub mod plan;
pub mod playbook;
pub mod pod;
pub mod preflight;
pub mod quadlet;
pub mod quantity;
pub mod render;
pub mod revision;
pub mod root_directory;
pub mod secret;
pub mod shell;
pub mod state;
pub mod unit;
pub mod yaml;
