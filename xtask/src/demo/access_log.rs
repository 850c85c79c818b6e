//! What the proxies say of the connections that they carried: their access logs, JSON, one line a connection.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
};

/// A connection as one of its two proxies saw it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Connection {
    #[serde(skip)]
    pub(super) direction: String,
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) service: String,
    pub(super) source_workload: String,
    pub(super) destination_workload: String,
    pub(super) source_address: String,
    pub(super) destination_address: String,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) encrypted: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) error: String,
}

/// The log files of both nodes' proxies, read from where they ended at some time.
pub(super) struct AccessLogs {
    files: Vec<(PathBuf, u64)>,
}

impl AccessLogs {
    /// What these files get from now on.
    pub(super) fn from_now(files: Vec<PathBuf>) -> Result<Self> {
        let with_length = |path: PathBuf| {
            let length = path.metadata().with_context(|| path.display().to_string())?.len();
            Ok((path, length))
        };
        Ok(Self {
            files: files.into_iter().map(with_length).collect::<Result<_>>()?,
        })
    }

    /// What these files have had since they were made.
    pub(super) fn from_start(files: Vec<PathBuf>) -> Self {
        Self {
            files: files.into_iter().map(|path| (path, 0)).collect(),
        }
    }

    /// The connections that have ended since.
    pub(super) fn read(&self) -> Result<Vec<Connection>> {
        let mut connections = Vec::new();
        for (path, from) in &self.files {
            let mut file = File::open(path).with_context(|| path.display().to_string())?;
            file.seek(SeekFrom::Start(*from))?;
            let mut text = String::new();
            file.read_to_string(&mut text)
                .with_context(|| path.display().to_string())?;
            // The last line may be half written; it will be whole at the next look.
            connections.extend(text.lines().filter_map(|line| parse(&serde_json::from_str(line).ok()?)));
        }
        Ok(connections)
    }
}

fn parse(line: &Value) -> Option<Connection> {
    if line["target"] != "access" {
        return None;
    }
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| line[key].as_u64().unwrap_or_default();
    Some(Connection {
        direction: text("direction"),
        source: text("src.identity"),
        destination: text("dst.identity"),
        service: text("dst.service"),
        source_workload: text("src.workload"),
        destination_workload: text("dst.workload"),
        source_address: text("src.addr"),
        destination_address: text("dst.addr"),
        bytes_sent: number("bytes_sent"),
        bytes_received: number("bytes_recv"),
        encrypted: line["encrypted"] == true || line["encrypted"] == "true",
        error: text("error"),
    })
}

#[cfg(test)]
mod tests {
    use super::parse;
    use serde_json::json;

    #[test]
    fn only_access_lines_count() {
        assert!(parse(&json!({ "target": "culvert_ztunnel", "direction": "outbound" })).is_none());
        let line = json!({ "target": "access", "direction": "outbound", "src.identity": "a", "encrypted": true });
        let connection = parse(&line).unwrap();
        assert!(connection.encrypted);
        assert_eq!((connection.source.as_str(), connection.destination.as_str()), ("a", ""));
    }
}
