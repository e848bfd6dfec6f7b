//! What the Kubernetes API server said instead of yes. Tested in `client/tests.rs`.

use std::fmt;

use hyper::StatusCode;
use pillion_output::Problem;
use serde_json::Value;

/// The longest message of a server that is repeated, in bytes.
const MESSAGE_LIMIT: usize = 512;

/// Why a request to the API server has no result.
#[derive(Clone, Debug)]
pub enum Error {
    /// There is no answer, or none that can be read; whether the request was received isn't known.
    Unreachable(Problem),
    /// The answer has more than this many bytes: it wasn't read.
    TooLong(usize),
    /// The server refused.
    Refused {
        /// HTTP's status, 400 to 599; the code of the `Status` object of a watch.
        code: u16,
        /// `AlreadyExists`, `Conflict`, `Expired`, …; empty when the server doesn't say it.
        reason: String,
        /// Its words, at most 512 bytes.
        message: String,
    },
}

impl Error {
    /// What a `Status` object, or any other body, says.
    pub(crate) fn refused(code: u16, body: &Value) -> Error {
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut message = text("message");
        message.truncate(message.floor_char_boundary(MESSAGE_LIMIT));
        Error::Refused { code, reason: text("reason"), message }
    }

    fn code(&self) -> u16 {
        match self {
            Error::Unreachable(_) | Error::TooLong(_) => 0,
            Error::Refused { code, .. } => *code,
        }
    }

    /// There is no such object.
    pub fn is_not_found(&self) -> bool {
        self.code() == StatusCode::NOT_FOUND.as_u16()
    }

    /// Somebody else was faster: the object exists already, has another `resourceVersion`, or a `test` of a JSON Patch
    /// failed. Read it again.
    pub fn is_conflict(&self) -> bool {
        [StatusCode::CONFLICT.as_u16(), StatusCode::UNPROCESSABLE_ENTITY.as_u16()].contains(&self.code())
    }

    /// The `resourceVersion` or the `continue` token is too old: list again.
    pub fn is_expired(&self) -> bool {
        self.code() == StatusCode::GONE.as_u16()
    }

    /// The service account may not do this.
    pub fn is_forbidden(&self) -> bool {
        [StatusCode::FORBIDDEN.as_u16(), StatusCode::UNAUTHORIZED.as_u16()].contains(&self.code())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreachable(problem) => problem.fmt(f),
            Error::TooLong(limit) => write!(f, "the API server's answer is longer than {limit} bytes"),
            Error::Refused { code, reason, message } => write!(f, "the API server says {code} {reason}: {message}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Error {
        Error::Unreachable(problem)
    }
}
