//! What plug-in and agent say to each other over the agent's unix socket: lines of JSON.
//!
//! ```text
//! plug-in                                        agent
//!    │ {"version":1,"command":"ADD",...}           │
//!    ├────────────────────────────────────────────>│
//!    │ {"version":1,"answer":"heard"}              │  at once: it is alive, and works on it
//!    │<────────────────────────────────────────────┤
//!    │ {"version":1,"answer":"ok"}                 │  when the pod is captured, or shall not be
//!    │<────────────────────────────────────────────┤
//! ```
//! Without the first answer a plug-in could not tell an agent that hangs from one that is busy with the pod, and every
//! pod of the node would wait for the one that hangs.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The version that is spoken. An agent that meets a newer one says [`Answer::Unsupported`].
pub const VERSION: u32 = 1;

/// The longest line, in bytes, with its end.
pub const MAX_LINE: usize = 64 * 1024;

/// What a plug-in asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// What happens to the pod.
    pub command: Command,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// Its UID, where the runtime tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Its network namespace; none when a DEL comes after it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
    /// The sandbox.
    pub container_id: String,
    /// The addresses that the plug-ins before gave it.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
}

/// What happens to the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Command {
    /// It is about to start.
    Add,
    /// Its sandbox goes.
    Del,
}

/// What an agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub enum Answer {
    /// The request has arrived; another answer follows.
    Heard,
    /// The pod may start.
    Ok,
    /// The pod must not start now.
    Error {
        /// Which kind; see [`Failure`].
        code: u32,
        /// What, whom and the remedy.
        message: String,
    },
    /// The request's version is not known to the agent.
    Unsupported,
}

/// The agent's codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Failure {
    /// The pod cannot be captured as it is.
    Refused = 100,
    /// The API server does not know the pod.
    UnknownPod = 101,
    /// The API server does not answer, so nobody knows whether the pod is enrolled.
    Undecided = 102,
    /// It was not captured in time.
    Late = 103,
    /// The request is not understood.
    BadRequest = 104,
}

impl Answer {
    /// A failure.
    pub fn error(failure: Failure, message: impl Into<String>) -> Self {
        Self::Error {
            code: failure as u32,
            message: message.into(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    answer: T,
}

/// What a line may hold instead of a message.
#[derive(Debug, thiserror::Error)]
#[error("not understood: {0}")]
pub struct Unintelligible(#[from] serde_json::Error);

/// A request that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// Its version is another one.
    #[error("version {0} of the plug-in's protocol is not known here")]
    Version(u32),
    /// It is no request.
    #[error(transparent)]
    Unintelligible(#[from] Unintelligible),
}

impl Request {
    /// As a line, with its end.
    pub fn line(&self) -> String {
        // Strings, numbers and paths that came as text: serialising them cannot fail.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// From a line. The version is looked at first, since all else may mean something else in another.
    ///
    /// # Errors
    /// See [`BadRequest`].
    pub fn parse(line: &[u8]) -> Result<Self, BadRequest> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(line).map_err(Unintelligible)?;
        if version != VERSION {
            return Err(BadRequest::Version(version));
        }
        Ok(serde_json::from_slice(line).map_err(Unintelligible)?)
    }
}

impl Answer {
    /// As a line, with its end.
    pub fn line(&self) -> String {
        let versioned = Versioned {
            version: VERSION,
            answer: self,
        };
        // As above.
        serde_json::to_string(&versioned).unwrap_or_default() + "\n"
    }

    /// From a line.
    ///
    /// # Errors
    /// It is no answer.
    pub fn parse(line: &[u8]) -> Result<Self, Unintelligible> {
        Ok(serde_json::from_slice::<Versioned<Self>>(line)?.answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_what_the_documentation_shows() {
        let request = Request {
            version: VERSION,
            command: Command::Add,
            namespace: "shop".into(),
            name: "a".into(),
            uid: Some("u".into()),
            netns: Some("/var/run/netns/cni-1".into()),
            container_id: "c".into(),
            addresses: vec!["198.19.1.7".parse().expect("address")],
        };
        let line = r#"{"version":1,"command":"ADD","namespace":"shop","name":"a","uid":"u","netns":"/var/run/netns/cni-1","containerId":"c","addresses":["198.19.1.7"]}"#;
        assert_eq!(request.line(), format!("{line}\n"));
        assert_eq!(Request::parse(line.as_bytes()).expect("request"), request);
        assert_eq!(Answer::Heard.line(), "{\"version\":1,\"answer\":\"heard\"}\n");
        let error = Answer::error(Failure::Late, "why");
        assert_eq!(
            error.line(),
            "{\"version\":1,\"answer\":\"error\",\"code\":103,\"message\":\"why\"}\n"
        );
        for answer in [Answer::Heard, Answer::Ok, Answer::Unsupported, error] {
            assert_eq!(Answer::parse(answer.line().as_bytes()).expect("answer"), answer);
        }
    }

    #[test]
    fn another_version_is_told_apart_from_nonsense() {
        assert!(matches!(
            Request::parse(b"{\"version\":2,\"question\":1}"),
            Err(BadRequest::Version(2))
        ));
        for nonsense in ["", "[]", "{\"version\":1}", "{\"version\":\"1\"}"] {
            assert!(
                matches!(Request::parse(nonsense.as_bytes()), Err(BadRequest::Unintelligible(_))),
                "{nonsense}"
            );
        }
    }
}
