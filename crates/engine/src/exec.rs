//! `pillion exec -- CMD`: the command is run as a child, what it prints goes on to our own standard output and error,
//! and on the way into a bounded spool, which is read like any other log.
//!
//! [`spool`] keeps what is printed until it is delivered; [`child`] runs the command.

pub mod child;
pub mod spool;
