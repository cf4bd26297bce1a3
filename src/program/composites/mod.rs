//! Operations that one kernel serves on plain and dual values alike: affine maps, per-channel affine maps with what follows
//! them, and per-channel moments.

mod affine;
mod cat;
mod channels;
mod moments;

pub(super) use affine::affine;
pub(super) use cat::cat;
pub(super) use channels::{Finish, channel_affine};
pub(super) use moments::{Moments, moments};
