//! What a command ends with when it does not succeed: a code for programs, a sentence for people, an exit status for
//! shells. The same three cross the control socket, so that a command fails alike with and without a running peer.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// Kinds of failure, each with its exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// Anything that has no code of its own.
    Failed,
    /// Malformed input: an argument, a path, a value, the configuration, an invitation. Nothing has changed.
    Invalid,
    /// Nothing is there: no document, no space, no store.
    NotFound,
    /// This device may not do that.
    Denied,
    /// The store cannot be opened or written: in use, full, read-only, of a newer format.
    Store,
    /// The store is damaged.
    Damaged,
    /// It did not happen in time, or no peer could be reached.
    Timeout,
    /// It was sent and no answer came: it was done, or it was not.
    Unknown,
    /// What is there stands against it: another version, something that exists, has children or is taken.
    Conflict,
    /// Stopped by a signal.
    Interrupted,
    /// A program that a command ran ended with this status, or was not run; whatever was to be said is said.
    Program(u8),
    /// Whoever read the output has read enough (`foreshore list | head`). Not worth a word.
    ReaderGone,
}

/// The exit statuses, for `--help` and the documentation.
pub const EXIT_HELP: &str = "Exit status:
  0    done
  1    failed for a reason that has no status of its own
  2    malformed input: arguments, a path, a value, the configuration, an invitation
  3    nothing is there: no such document, space or store
  4    this device may not do that
  5    the store cannot be opened or written: in use, full, read-only, of a newer format
  6    the store is damaged
  7    not in time, or no peer could be reached, or no majority of the voters
  8    the outcome is unknown: it was done, or it was not
  9    what is there stands against it: another version, a node that exists or has children, a grant that is another's
  130  stopped by a signal";

impl Code {
    /// The exit status of the process.
    pub const fn exit_status(self) -> u8 {
        match self {
            Code::Program(status) => status,
            Code::ReaderGone => 0,
            Code::Failed => 1,
            Code::Invalid => 2,
            Code::NotFound => 3,
            Code::Denied => 4,
            Code::Store => 5,
            Code::Damaged => 6,
            Code::Timeout => 7,
            Code::Unknown => 8,
            Code::Conflict => 9,
            Code::Interrupted => 130,
        }
    }
}

/// Why a command did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its kind.
    pub code: Code,
    /// What is wrong, as a sentence without a full stop.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// A finer word than its kind, for programs that have to tell: `no_quorum`, `not_yet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
}

impl Failure {
    /// A failure of a kind.
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), hint: None, reason: None }
    }

    /// Malformed input: which part, and what is wrong with it.
    pub fn invalid(what: &str, why: impl fmt::Display) -> Self {
        Self::new(Code::Invalid, format_args!("{what}: {why}"))
    }

    /// Adds a finer word than its kind.
    pub fn reason(mut self, reason: &'static str) -> Self {
        self.reason = Some(Cow::Borrowed(reason));
        self
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::new(Code::Invalid, error).hint("`foreshore config` prints what is set, and where")
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::new(Code::Failed, error)
    }
}
