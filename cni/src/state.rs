//! What the agent leaves on disk, for the plug-in to decide by while the agent does not answer.
//!
//! The file outlives reboots: a node that comes up starts pods before its agent is up. It names the namespaces that are
//! enrolled on this cluster. Labels of single pods are not in it; pods that opt in by a label of their own in a namespace
//! that is not enrolled start without waiting when the agent is away, and are adopted when it is back.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

/// The version of the file's form.
const VERSION: u32 = 1;

/// The longest file, in bytes: some 65,000 namespaces with names at their limit.
const MAX_STATE: usize = 4 << 20;

/// The names of enrolled namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// By name.
    pub namespaces: BTreeSet<String>,
}

/// The file is there and cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is too long.
    #[error("is longer than {MAX_STATE} bytes")]
    TooLong,
    /// It does not parse.
    #[error("does not parse: {0}")]
    Json(#[from] serde_json::Error),
    /// Another version of Culvert wrote it.
    #[error("has version {0}, and this is a culvert-cni for version {VERSION}")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    namespaces: BTreeSet<String>,
}

impl State {
    /// Reads the file. None when there is none: no agent has ever run here, or it has been uninstalled.
    ///
    /// # Errors
    /// It is there and cannot be used.
    pub fn load(path: &Path) -> Result<Option<Self>, StateError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        file.take(MAX_STATE as u64 + 1).read_to_end(&mut bytes)?;
        Self::parse(&bytes).map(Some)
    }

    /// Reads the file's content.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn parse(bytes: &[u8]) -> Result<Self, StateError> {
        if bytes.len() > MAX_STATE {
            return Err(StateError::TooLong);
        }
        let document: Document = serde_json::from_slice(bytes)?;
        match document.version {
            VERSION => Ok(Self {
                namespaces: document.namespaces,
            }),
            other => Err(StateError::Version(other)),
        }
    }

    /// The file's content.
    pub fn json(&self) -> String {
        let document = Document {
            version: VERSION,
            namespaces: self.namespaces.clone(),
        };
        // A number and strings: serialising them cannot fail.
        serde_json::to_string(&document).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let state = State {
            namespaces: ["shop".to_owned(), "n".repeat(63)].into(),
        };
        assert_eq!(State::parse(state.json().as_bytes()).expect("read"), state);
        assert!(
            State::load(Path::new("/nowhere/at/all"))
                .expect("no file is no error")
                .is_none()
        );
    }

    #[test]
    fn a_damaged_file_is_no_empty_file() {
        for text in [
            "",
            "{}",
            "{\"version\":1}",
            "{\"version\":1,\"namespaces\":[7]}",
            "\0\0\0",
        ] {
            assert!(
                matches!(State::parse(text.as_bytes()), Err(StateError::Json(_))),
                "{text:?}"
            );
        }
        let newer = b"{\"version\":2,\"namespaces\":[]}";
        assert!(matches!(State::parse(newer), Err(StateError::Version(2))));
    }
}
