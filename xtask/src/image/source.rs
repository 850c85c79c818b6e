//! Which source the images are made from, and when that was: the only clock that they know.

use crate::shell;
use anyhow::{Context, Result};
use std::env;

/// The repository's state, as labels and documents tell it.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The workspace's version, which is also the images' tag.
    pub(super) version: String,
    /// The commit, with `-modified` behind it when files differ from it.
    pub(super) revision: String,
    /// Where the source is.
    pub(super) url: String,
    /// Seconds since 1970: `SOURCE_DATE_EPOCH`, or else the time of the commit.
    date: i64,
}

impl Source {
    /// Asks git, where there is one.
    pub(super) fn find() -> Result<Self> {
        let git = |args: &[&str]| shell::output(shell::command("git").args(args)).ok();
        let commit = git(&["rev-parse", "HEAD"]).map(|text| text.trim().to_owned());
        let modified = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
        let revision = match commit {
            Some(commit) if modified => format!("{commit}-modified"),
            Some(commit) => commit,
            None => "unknown".to_owned(),
        };
        let date = match env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => text
                .parse()
                .with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}, not a number of seconds"))?,
            Err(_) => git(&["show", "--no-patch", "--format=%ct", "HEAD"])
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or_default(),
        };
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision,
            url: env!("CARGO_PKG_REPOSITORY").to_owned(),
            date,
        })
    }

    /// `culvert.dev/NAME:VERSION`.
    pub(super) fn reference(&self, name: &str) -> String {
        format!("culvert.dev/{name}:{}", self.version)
    }

    /// The date as RFC 3339 has it.
    pub(super) fn created(&self) -> String {
        let date = time::OffsetDateTime::from_unix_timestamp(self.date).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        let (hour, minute, second) = date.to_hms();
        format!(
            "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z",
            date.year(),
            u8::from(date.month()),
            date.day()
        )
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        Self {
            version: "1.2.3".to_owned(),
            revision: "0123abc".to_owned(),
            url: "https://culvert.dev".to_owned(),
            date: 1_700_000_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_rfc_3339() {
        let source = Source::for_tests();
        assert_eq!(source.created(), "2023-11-14T22:13:20Z");
        assert_eq!(Source { date: 0, ..source }.created(), "1970-01-01T00:00:00Z");
    }
}
