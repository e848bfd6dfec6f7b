//! What starts the drain, beside signals: each submodule waits for one kind of end and says so once.

pub mod flag;
pub mod process;
