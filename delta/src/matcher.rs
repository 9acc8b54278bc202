//! Finding what of the new bytes is in the old ones.
