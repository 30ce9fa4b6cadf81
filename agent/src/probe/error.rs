//! Why the programs cannot run.

use std::borrow::Cow;

use thiserror::Error;

/// Why nothing is attached.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The binary was built without the kernel programs.
    #[error("this binary was built without the kernel programs: build it with `cargo xtask build`")]
    NoObject,
    /// The object, a map or the ring could not be made.
    #[error("{what}: {why}")]
    Load {
        /// What was being done.
        what: Cow<'static, str>,
        /// The error, with all its causes.
        why: String,
    },
}

/// Wraps an error of aya's with what was being done.
pub(super) fn wrap<E: std::error::Error>(what: &'static str) -> impl FnOnce(E) -> ProbeError {
    move |why| ProbeError::Load { what: what.into(), why: chain(why) }
}

/// An error and its causes in one line (the verifier's log, the longest of them, last).
pub(super) fn chain<E: std::error::Error>(error: E) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(why) = cause {
        text = format!("{text}: {why}");
        cause = why.source();
    }
    text
}
