//! One thing that was looked at, how it stands, and what to do about it: what `check` prints and `status` draws from.

use serde::Serialize;
use std::fmt;

/// How a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Ok,
    /// Not there yet, and on its way: asking again in a moment shows it done.
    Wait,
    /// Works, but not as well as it could, or may not work.
    Warn,
    /// Does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    pub(crate) level: Level,
    /// `cluster`, or a node's name.
    pub(crate) place: String,
    /// What was looked at.
    pub(crate) what: &'static str,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

impl Line {
    pub(crate) fn ok(place: &str, what: &'static str, found: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            place: place.to_owned(),
            what,
            found: found.into(),
            remedy: None,
        }
    }

    pub(crate) fn wait(place: &str, what: &'static str, found: impl Into<String>) -> Self {
        Self {
            level: Level::Wait,
            remedy: Some("ask again in a moment".to_owned()),
            ..Self::ok(place, what, found)
        }
    }

    pub(crate) fn warn(place: &str, what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            level: Level::Warn,
            remedy: Some(remedy.into()),
            ..Self::ok(place, what, found)
        }
    }

    pub(crate) fn fail(place: &str, what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            level: Level::Fail,
            remedy: Some(remedy.into()),
            ..Self::ok(place, what, found)
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            level,
            place,
            what,
            found,
            remedy,
        } = self;
        write!(f, "{level:5} {place}: {what}: {found}")?;
        match remedy {
            Some(remedy) => write!(f, "\n      remedy: {remedy}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Wait => "wait",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}
