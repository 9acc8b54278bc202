//! Running bundles: by runc or crun, or by this program itself.

pub mod around;
pub mod embedded;
pub mod identity;
pub mod mounts;
pub mod oci;
pub mod seccomp;
pub mod state;
pub mod supervise;
