//! Dialects: whose words and defaults a configuration means.

/// The Filebeat that a configuration was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compat {
    /// 5.x, and what 6.x shares with it: prospectors.
    V5,
    /// 7.x.
    V7,
    /// 8.x: what is taken when nothing tells.
    V8,
    /// 9.x.
    V9,
}

impl Compat {
    /// `5.6`, `7`, `8` or `9`, as in `pillion.compat`.
    pub fn name(self) -> &'static str {
        match self {
            Compat::V5 => "5.6",
            Compat::V7 => "7",
            Compat::V8 => "8",
            Compat::V9 => "9",
        }
    }

    /// The version that events carry when `pillion.agent_version` isn't set: the last of that line that was compared
    /// with.
    pub fn agent_version(self) -> &'static str {
        match self {
            Compat::V5 => "5.6.16",
            Compat::V7 => "7.17.29",
            Compat::V8 => "8.19.14",
            Compat::V9 => "9.6.0",
        }
    }
}
