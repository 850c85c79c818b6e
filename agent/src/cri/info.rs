//! What container runtimes tell about a sandbox beyond the protocol: the map `info` of a verbose `PodSandboxStatus`, whose
//! values are JSON of each runtime's own making.
//!
//! | runtime | where the network namespace is |
//! |---|---|
//! | containerd 1.x, 2.x, k3s | key `info`: `runtimeSpec.linux.namespaces`, and `pid` of the pause process |
//! | CRI-O | the same; `pid` is 0 where no pause process runs |
//! | cri-dockerd | tells nothing: `/proc` is searched |

use std::path::PathBuf;

use serde_json::Value;

/// What could be read; nothing where the JSON is of an unknown kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// The network namespace by name, as the node sees it.
    pub netns: Option<PathBuf>,
    /// A process inside, by the node's numbers.
    pub pid: Option<u32>,
}

/// Reads one value of the map.
///
/// # Errors
/// It is not JSON.
pub fn parse(json: &str) -> Result<Info, serde_json::Error> {
    let info: Value = serde_json::from_str(json)?;
    let namespaces = info.pointer("/runtimeSpec/linux/namespaces").and_then(Value::as_array);
    let network = namespaces
        .into_iter()
        .flatten()
        .find(|namespace| namespace.get("type").and_then(Value::as_str) == Some("network"));
    let path = network.and_then(|network| network.get("path")).and_then(Value::as_str);
    let is_closed = info.get("netNamespaceClosed").and_then(Value::as_bool) == Some(true);
    let pid = info
        .get("pid")
        .and_then(Value::as_u64)
        .and_then(|pid| u32::try_from(pid).ok());
    Ok(Info {
        netns: path
            .filter(|path| path.starts_with('/') && !is_closed)
            .map(PathBuf::from),
        pid: pid.filter(|pid| *pid != 0),
    })
}

#[cfg(test)]
mod tests;
