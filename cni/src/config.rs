//! The network configuration on standard input.

use std::{net::IpAddr, path::PathBuf, str, time::Duration};

use serde::Deserialize;

use crate::{agent::Limits, span::Json};

/// The longest configuration, in bytes, with the previous result in it.
pub const MAX_CONFIG: usize = 1 << 20;

/// The plug-in's `type`, which is also its file name.
pub const PLUGIN_TYPE: &str = "culvert-cni";

/// Where the agent listens, unless the configuration says otherwise.
pub const AGENT_SOCKET: &str = "/run/culvert/cni.sock";

/// Where the agent leaves what it knows, unless the configuration says otherwise.
pub const STATE_FILE: &str = "/var/lib/culvert/cni-state.json";

/// Where the kubelet keeps the logs of pods, unless the configuration says otherwise.
pub const POD_LOGS: &str = "/var/log/pods";

/// The namespace of the mesh's own pods, which never wait for the mesh.
pub const SYSTEM_NAMESPACE: &str = "culvert-system";

/// How long the agent may take for a pod: a little longer than it allows itself.
const TIMEOUT_MS: u64 = 10_000;

/// How long an agent that works takes to say that it has the request, on a busy node.
const HEARD_MS: u64 = 500;

/// The versions of the specification whose configurations are understood.
pub const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// What the plug-in reads of its configuration. Keys that it does not know, such as `runtimeConfig`, are left alone.
#[derive(Clone, Debug)]
pub struct Config<'a> {
    /// The version of the specification; the oldest where none is named.
    pub cni_version: String,
    /// The previous plug-in's result, as it is written.
    pub previous: Option<Json<'a>>,
    /// Where to ask.
    pub agent_socket: PathBuf,
    /// What to consult when nobody answers.
    pub state_file: PathBuf,
    /// How long to wait for the agent.
    pub limits: Limits,
    /// Whose pods never wait.
    pub system_namespace: String,
    /// Where the kubelet keeps the logs of pods.
    pub pod_logs: PathBuf,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No JSON, or longer than [`MAX_CONFIG`].
    #[error("the network configuration on standard input does not decode: {0}")]
    Undecodable(String),
    /// A key of ours has a value that makes no sense.
    #[error("the network configuration of culvert-cni is wrong: {0}")]
    Wrong(String),
    /// Another specification.
    #[error("cniVersion {0:?} is not known to culvert-cni (known: 0.1.0 to 1.1.0)")]
    Version(String),
}

/// The keys of ours, and the version.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    #[serde(default)]
    cni_version: Option<String>,
    #[serde(default)]
    agent_socket: Option<PathBuf>,
    #[serde(default)]
    state_file: Option<PathBuf>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    heard_ms: Option<u64>,
    #[serde(default)]
    system_namespace: Option<String>,
    #[serde(default)]
    pod_logs: Option<PathBuf>,
}

impl<'a> Config<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(input: &'a [u8]) -> Result<Self, ConfigError> {
        if input.len() > MAX_CONFIG {
            return Err(ConfigError::Undecodable(format!(
                "it is longer than {MAX_CONFIG} bytes"
            )));
        }
        let text = str::from_utf8(input).map_err(|error| ConfigError::Undecodable(error.to_string()))?;
        let json = Json::parse(text).map_err(|error| ConfigError::Undecodable(error.to_string()))?;
        if !json.text().starts_with('{') {
            return Err(ConfigError::Wrong("it is no object".to_owned()));
        }
        let keys: Keys = serde_json::from_str(text).map_err(|error| ConfigError::Wrong(error.to_string()))?;
        let cni_version = keys.cni_version.unwrap_or_else(|| VERSIONS[0].to_owned());
        if !VERSIONS.contains(&cni_version.as_str()) {
            return Err(ConfigError::Version(cni_version));
        }
        Ok(Self {
            cni_version,
            previous: json.member("prevResult").filter(|result| result.text() != "null"),
            agent_socket: keys.agent_socket.unwrap_or_else(|| AGENT_SOCKET.into()),
            state_file: keys.state_file.unwrap_or_else(|| STATE_FILE.into()),
            limits: Limits {
                heard: Duration::from_millis(keys.heard_ms.unwrap_or(HEARD_MS)),
                answer: Duration::from_millis(keys.timeout_ms.unwrap_or(TIMEOUT_MS)),
            },
            system_namespace: keys.system_namespace.unwrap_or_else(|| SYSTEM_NAMESPACE.to_owned()),
            pod_logs: keys.pod_logs.unwrap_or_else(|| POD_LOGS.into()),
        })
    }
}

/// The addresses inside the network namespace that a result names, in its order. Those of interfaces on the host's side
/// are not the pod's. What does not read as an address is left out: the agent says what it misses.
pub fn addresses(result: Json<'_>) -> Vec<IpAddr> {
    let interfaces = result.member("interfaces").and_then(Json::elements).unwrap_or_default();
    let is_inside = |ip: Json<'_>| {
        let index: Option<usize> = ip.member("interface").and_then(|index| index.text().parse().ok());
        let Some(interface) = index.and_then(|index| interfaces.get(index)) else {
            return true;
        };
        let sandbox = interface.member("sandbox").and_then(Json::string);
        sandbox.is_some_and(|sandbox| !sandbox.is_empty())
    };
    let ips = result.member("ips").and_then(Json::elements).unwrap_or_default();
    let listed = ips
        .into_iter()
        .filter(|ip| is_inside(*ip))
        .filter_map(|ip| ip.member("address"));
    // Until 0.2.0 a result has one address of each family.
    let single = ["ip4", "ip6"]
        .into_iter()
        .filter_map(|family| result.member(family)?.member("ip"));
    let mut found = Vec::new();
    for address in listed.chain(single).filter_map(Json::string) {
        let address = address.split('/').next().unwrap_or_default();
        if let Ok(address) = address.parse::<IpAddr>()
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTP: &str = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"veth1","mac":"52:aa"},
        {"name":"eth0","mac":"52:bb","sandbox":"/var/run/netns/cni-1"}],
        "ips":[{"interface":1,"address":"198.19.1.7/24","gateway":"198.19.1.1"},{"interface":0,"address":"198.19.1.1/24"},
        {"interface":1,"address":"fd00:c01e:1::7/64"},{"address":"198.19.1.7/32"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}}"#;

    fn config(text: &str) -> Result<Config<'_>, ConfigError> {
        Config::parse(text.as_bytes())
    }

    #[test]
    fn the_pods_addresses_are_those_inside_the_namespace() {
        let found = addresses(Json::parse(PTP).expect("json"));
        let expected = ["198.19.1.7", "fd00:c01e:1::7"].map(|address| address.parse::<IpAddr>().expect("address"));
        assert_eq!(found, expected);
        let old = r#"{"ip4":{"ip":"198.19.1.7/24"},"ip6":{"ip":"fd00:c01e:1::7/64"}}"#;
        assert_eq!(addresses(Json::parse(old).expect("json")), expected);
        for odd in [
            "{}",
            "[]",
            r#"{"ips":[{"address":"x"},7,{"interface":-1}]}"#,
            r#"{"ips":{}}"#,
        ] {
            assert_eq!(
                addresses(Json::parse(odd).expect("json")),
                Vec::<IpAddr>::new(),
                "{odd}"
            );
        }
    }

    #[test]
    fn the_previous_result_keeps_its_text() {
        let text =
            format!(r#"{{"cniVersion":"1.0.0","name":"n","type":"culvert-cni","prevResult":{PTP},"timeoutMs":50}}"#);
        let config = config(&text).expect("valid");
        assert_eq!(config.previous.map(Json::text), Some(PTP));
        assert_eq!(config.limits.answer, Duration::from_millis(50));
        assert_eq!(config.limits.heard, Duration::from_millis(HEARD_MS));
        assert_eq!(config.agent_socket, PathBuf::from(AGENT_SOCKET));
    }

    #[test]
    fn wrong_configurations_say_what_is_wrong() {
        assert!(matches!(config("{"), Err(ConfigError::Undecodable(_))));
        assert!(matches!(Config::parse(&[0xff]), Err(ConfigError::Undecodable(_))));
        assert!(matches!(config("[]"), Err(ConfigError::Wrong(_))));
        assert!(matches!(config(r#"{"timeoutMs":"5"}"#), Err(ConfigError::Wrong(_))));
        assert!(matches!(
            config(r#"{"cniVersion":"2.0.0"}"#),
            Err(ConfigError::Version(_))
        ));
        assert_eq!(config("{}").expect("the oldest version").cni_version, "0.1.0");
    }
}
