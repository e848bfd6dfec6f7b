//! The cells of the table: what the Job writes last, how it ends, and where its lines go.

use crate::sink::Protocol;

/// One cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) target: Protocol,
    pub(super) write: Write,
    pub(super) end: End,
}

/// What the Job writes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// One line at the end of a file that is followed.
    Append,
    /// One line in a file that wasn't there before.
    NewFile,
    /// 300 lines at the end of a file that is followed.
    Burst,
}

/// How the Job and its shipper end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The flag, at once.
    Flag,
    /// The flag, 50 ms after the last line.
    FlagLater,
    /// SIGTERM to the shipper, 0 to 100 ms after the last line.
    Term,
    /// SIGKILL to the shipper, 0 to 100 ms after the last line; then it is started again on the same data.
    Kill,
    /// The usual workaround: a plain shell as process 1 looks for the flag each second, and its end kills the shipper.
    Shell,
}

impl Cell {
    /// The whole table.
    pub(super) fn all() -> Vec<Cell> {
        let mut all = Vec::new();
        for target in [Protocol::Bulk, Protocol::Lumberjack] {
            for end in [End::Flag, End::FlagLater, End::Term, End::Kill, End::Shell] {
                for write in [Write::Append, Write::NewFile, Write::Burst] {
                    all.push(Cell { target, write, end });
                }
            }
        }
        all
    }
}

impl Write {
    /// Its name on the command line and in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Write::Append => "append",
            Write::NewFile => "new-file",
            Write::Burst => "burst",
        }
    }

    /// How many lines it writes.
    pub(super) fn lines(self) -> usize {
        if self == Write::Burst { 300 } else { 1 }
    }
}

impl End {
    /// Its name on the command line and in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            End::Flag => "flag",
            End::FlagLater => "flag-50ms",
            End::Term => "sigterm",
            End::Kill => "sigkill",
            End::Shell => "shell",
        }
    }

    /// Whether only Pillion can end so.
    pub(super) fn needs_pillion(self) -> bool {
        matches!(self, End::Flag | End::FlagLater)
    }
}
