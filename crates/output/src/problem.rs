//! What went wrong on the way to a target, said to the user.

use std::fmt;

/// Why a target can't be reached or used, and what can be done about it. Holds no credentials and no events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What happened, with the host or file it is about.
    pub reason: String,
    /// What the user can do; empty when waiting is all there is to do.
    pub remedy: String,
}

impl Problem {
    /// A problem with a remedy.
    pub fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem { reason: reason.into(), remedy: remedy.into() }
    }

    /// A problem that nobody can do anything about but wait.
    pub fn bare(reason: impl Into<String>) -> Problem {
        Problem { reason: reason.into(), remedy: String::new() }
    }

    /// The same, with what was being done put in front.
    #[must_use]
    pub fn during(mut self, what: impl fmt::Display) -> Problem {
        self.reason = format!("{what}: {}", self.reason);
        self
    }
}

/// A server's text as far as the first place at which it quotes a secret of ours.
pub(crate) fn before<'t>(secret: &str, text: &'t str) -> &'t str {
    let end = if secret.is_empty() { None } else { text.find(secret) };
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if !self.remedy.is_empty() {
            write!(f, ". {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}
