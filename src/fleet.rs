//! The fleet: which pods run on which nodes, and how they get there.
//!
//! Reading, planning and comparing are pure; what acts is named so.

pub mod deployment;
pub mod fields;
pub mod groups;
pub mod pod;
pub mod preflight;
pub mod quantity;
pub mod yaml;
