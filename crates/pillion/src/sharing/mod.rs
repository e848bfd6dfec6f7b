//! Several Pillions share the files of one file system.
//!
//! | file | subject |
//! |---|---|
//! | [`settings`] | what the configuration says of it (`pillion.shards`) |
//! | `start.rs` | from the settings to a replica's seat, board and driver |
//! | `drive.rs` | one replica's part: orders carried out, reports given |
//! | `ours.rs` | which files are read here |
//! | `adopt.rs` | taking over cursors on the shared file system |
//! | `divided.rs` | who divides the files otherwise |
//! | `fenced.rs` | what outputs may send |
//! | `rooted.rs` | no sign of life while the shared root doesn't answer |
//! | `seats.rs` | what dead sidecars left beside their logs |
//! | `leave.rs` | how a run ends that shares files |
//! | `tidy.rs` | what is forgotten |
//! | [`blocking`] | how a board of files is asked |

mod adopt;
pub mod blocking;
mod divided;
mod drive;
mod fenced;
mod leave;
mod ours;
mod rooted;
mod seats;
pub mod settings;
mod start;
mod tidy;

pub(crate) use drive::Stand;
pub(crate) use fenced::Fenced;
pub(crate) use leave::Shared;
pub(crate) use ours::Ours;
pub(crate) use start::{Replica, check, check_board};
