//! CNI's error object: the only thing that a plug-in says to people.

use serde::Serialize;

/// The codes that this plug-in uses. Those below 100 are the specification's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The configuration's `cniVersion` is none that the plug-in speaks.
    IncompatibleVersion,
    /// A variable of the environment is missing or makes no sense.
    InvalidEnvironment,
    /// Standard input could not be read.
    Io,
    /// The configuration is not JSON.
    Undecodable,
    /// The configuration lacks something, or the plug-in stands at a place where it cannot work.
    InvalidConfiguration,
    /// The same call will succeed later: the agent does not answer now.
    TryAgainLater,
    /// What the agent answered; its codes begin at 100.
    Agent(u32),
}

impl Code {
    /// As on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Undecodable => 6,
            Self::InvalidConfiguration => 7,
            Self::TryAgainLater => 11,
            Self::Agent(code) => code.max(100),
        }
    }
}

/// Why a command failed. The message names what went wrong, whom it hits and what helps, since the kubelet shows it as the
/// pod's event and nothing else is logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CniError {
    /// The `cniVersion` that the caller speaks.
    pub cni_version: String,
    /// What kind of failure.
    pub code: Code,
    /// What happened.
    pub message: String,
}

impl CniError {
    /// The object that goes to standard output.
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Object<'a> {
            cni_version: &'a str,
            code: u32,
            msg: &'a str,
        }
        let object = Object {
            cni_version: &self.cni_version,
            code: self.code.number(),
            msg: &self.message,
        };
        // Three plain fields: serialising them cannot fail.
        serde_json::to_string(&object).unwrap_or_default()
    }
}
