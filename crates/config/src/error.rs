//! What is wrong with a configuration, told so that it can be repaired: where, what, and the remedy.
//!
//! Always holds: no secret's value is in what is shown; see [`crate::secrets`].
//! Tested here and, message by message, in `tests/messages.rs`.

use std::fmt;

use crate::source::At;

/// Something wrong, or worth knowing, in a configuration: the place, the reason and the remedy.
///
/// `Display` prints all of it, over several lines; the process that shows it ends with exit code 2.
#[derive(Clone)]
pub struct Error(Box<Inner>);

/// The same thing said as a warning or a note: nothing is refused.
pub type Diagnostic = Error;

#[derive(Clone)]
struct Inner {
    at: Option<At>,
    key: String,
    reason: String,
    remedy: String,
}

impl Error {
    /// An error that has no place in a text, such as a missing file. An empty `remedy` isn't shown.
    pub fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error(Box::new(Inner { at: None, key: String::new(), reason: reason.into(), remedy: remedy.into() }))
    }

    pub(crate) fn at(at: &At, key: &str, reason: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            at: Some(at.clone()),
            key: key.to_owned(),
            reason: reason.into(),
            remedy: remedy.into(),
        }))
    }

    /// The file (or flag) that the value stands in, as the user named it.
    pub fn file(&self) -> Option<&str> {
        self.0.at.as_ref().map(|at| at.source.name.as_str())
    }

    /// Line, from 1.
    pub fn line(&self) -> Option<u32> {
        self.0.at.as_ref().map(|at| at.line)
    }

    /// Column, from 1, in characters.
    pub fn column(&self) -> Option<u32> {
        self.0.at.as_ref().map(|at| at.column)
    }

    /// The option's whole name, such as `filebeat.inputs.0.close.inactive`; empty when it isn't about one.
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// What is wrong.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// What to do about it; may be empty.
    pub fn remedy(&self) -> &str {
        &self.0.remedy
    }

    /// The same about the option by another name: `from` at its begin is `to`.
    #[must_use]
    pub fn renamed(mut self, from: &str, to: &str) -> Error {
        if let Some(rest) = self.0.key.strip_prefix(from).filter(|rest| rest.is_empty() || rest.starts_with('.')) {
            self.0.key = format!("{to}{rest}");
        }
        self
    }

    /// Everything on one line, for a log: place, option, reason, remedy, without the text's line.
    pub fn one_line(&self) -> String {
        let mut out = self.head();
        if !self.0.remedy.is_empty() {
            out.push_str("; ");
            out.push_str(&self.0.remedy.replace('\n', " "));
        }
        out
    }

    fn head(&self) -> String {
        let mut out = String::new();
        if let Some(at) = &self.0.at {
            out.push_str(&at.to_string());
            out.push_str(": ");
        }
        if !self.0.key.is_empty() {
            out.push_str(&self.0.key);
            out.push_str(": ");
        }
        out.push_str(&self.0.reason);
        out
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head())?;
        if let Some(at) = &self.0.at {
            let (line, column, width) = at.snippet();
            let number = at.line.to_string();
            let blank = " ".repeat(number.len());
            write!(f, "\n {number} | {line}\n {blank} | {}{}", " ".repeat(column), "^".repeat(width))?;
        }
        if !self.0.remedy.is_empty() {
            write!(f, "\nremedy: {}", self.0.remedy)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}
