//! Which server it is, and which forms of templates it knows.
//!
//! Comes in: the answer to `GET /`. Goes out: [`Version`]. Tested below.

use pillion_config::Compat;
use serde_json::Value;

use super::Mode;

/// A server's version, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// OpenSearch, of whatever version.
    pub opensearch: bool,
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
}

/// How a server wants a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Up to 5: `_template`, mappings by type, the pattern as `template`.
    Five,
    /// 6: mappings by type.
    Six,
    /// 7.0 to 7.8, and `type: legacy`: `_template` without types.
    Legacy,
    /// `_index_template`.
    Index,
    /// `_component_template`.
    Component,
}

impl Form {
    /// The path before the name.
    pub(super) fn path(self) -> &'static str {
        match self {
            Form::Five | Form::Six | Form::Legacy => "/_template/",
            Form::Index => "/_index_template/",
            Form::Component => "/_component_template/",
        }
    }
}

impl Version {
    /// Reads a version such as `8.19.14`. `None` when it isn't one.
    pub fn parse(text: &str) -> Option<Version> {
        let mut parts = text.split('.').map(|n| n.parse::<u32>().ok());
        let (major, minor) = (parts.next()??, parts.next().flatten().unwrap_or(0));
        Some(Version { opensearch: false, major, minor })
    }

    /// What a server says of itself by `GET /`.
    pub(super) fn of(answer: &[u8]) -> Option<Version> {
        let root: Value = serde_json::from_slice(answer).ok()?;
        let version = root.get("version")?;
        let opensearch = version.get("distribution").and_then(Value::as_str) == Some("opensearch");
        let number = Version::parse(version.get("number")?.as_str()?)?;
        Some(Version { opensearch, ..number })
    }

    /// What is taken of a server that doesn't say it: that of the dialect.
    pub(super) fn of_dialect(compat: Compat) -> Version {
        let major = match compat {
            Compat::V5 => 5,
            Compat::V7 => 7,
            Compat::V8 => 8,
            Compat::V9 => 9,
        };
        Version { opensearch: false, major, minor: if major == 7 { 17 } else { 6 } }
    }

    pub(super) fn form(self) -> Form {
        match (self.opensearch, self.major, self.minor) {
            (true, ..) => Form::Index,
            (_, ..=5, _) => Form::Five,
            (_, 6, _) => Form::Six,
            (_, 7, ..9) => Form::Legacy,
            _ => Form::Index,
        }
    }

    /// Whether it may know lifecycle policies: from 6.6 on, where they are asked for, else from 7 on.
    pub(super) fn has_ilm(self, mode: Mode) -> bool {
        let since = if mode == Mode::On { (6, 6) } else { (7, 0) };
        !self.opensearch && (self.major, self.minor) >= since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        for (text, form, auto, on) in [
            (r#"{"version":{"number":"5.6.16"}}"#, Form::Five, false, false),
            (r#"{"version":{"number":"6.5.0"}}"#, Form::Six, false, false),
            (r#"{"version":{"number":"6.8.23"}}"#, Form::Six, false, true),
            (r#"{"version":{"number":"7.8.0"}}"#, Form::Legacy, true, true),
            (r#"{"version":{"number":"7.10.2"}}"#, Form::Index, true, true),
            (r#"{"version":{"number":"9.2.0-SNAPSHOT"}}"#, Form::Index, true, true),
            (r#"{"version":{"number":"2.19.1","distribution":"opensearch"}}"#, Form::Index, false, false),
        ] {
            let version = Version::of(text.as_bytes()).unwrap();
            let got = (version.form(), version.has_ilm(Mode::Auto), version.has_ilm(Mode::On));
            assert_eq!(got, (form, auto, on), "{text}");
        }
        for text in ["", "{}", r#"{"version":{"number":7}}"#, r#"{"version":{"number":"x"}}"#] {
            assert_eq!(Version::of(text.as_bytes()), None, "{text}");
        }
    }
}
