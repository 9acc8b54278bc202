//! Bundles onto nodes: a sender here, a receiver there, ssh between them.
//!
//! [`sender`] and [`receiver`] take any pair of streams, so that they meet in
//! memory in tests; [`ssh`] is the one place that knows of ssh. What they say to
//! each other is described in [`protocol`], how it is framed in [`frame`], what a
//! node keeps in [`store`].

pub mod bundle;
pub mod cache;
pub mod contents;
pub mod fanout;
pub mod frame;
pub mod inventory;
pub mod link;
pub mod lock;
pub mod outcome;
pub mod pieces;
pub mod plan;
pub mod protocol;
pub mod receiver;
pub mod sender;
pub mod space;
pub mod ssh;
pub mod staging;
pub mod store;
pub mod sweep;
pub mod target;
pub mod verify;

#[cfg(test)]
mod session_tests;
