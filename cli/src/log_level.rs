//! `culvert log-level`: what a program logs from now on, until it starts again.

use crate::{
    cluster::{Cluster, Failure, Unanswered, list, names},
    http::Server,
    local::servers::Servers,
    print::{Answer, Section},
};
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use culvert_deploy::waypoint::{GATEWAY_CLASS_NAME, GATEWAY_NAME};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;
use std::collections::BTreeMap;

/// Which program, and what.
#[derive(Args, Clone, Debug)]
pub(crate) struct LogLevelFlags {
    /// The program
    #[arg(value_enum)]
    program: Program,
    /// A level, or a filter such as info,culvert_ztunnel=debug. It is kept until the program starts again
    #[arg(value_name = "LEVEL")]
    filter: String,
    /// On this node alone [default: all nodes]
    #[arg(long, env = "CULVERT_NODE", value_name = "NAME")]
    node: Option<String>,
    /// Waypoints of this name alone: that of their Gateway [default: all]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Waypoints of this namespace alone [default: all namespaces]
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
}

impl LogLevelFlags {
    /// Whether waypoints are meant, which are known by name and namespace.
    pub(crate) fn is_of_waypoints(&self) -> bool {
        self.program == Program::Waypoint
    }

    /// Which pods the program runs in.
    fn selector(&self) -> String {
        let ours = |part: &str| format!("app.kubernetes.io/name={part}");
        match self.program {
            Program::Controller => ours(names::CONTROLLER),
            Program::Agent | Program::Ztunnel => ours(names::NODE),
            Program::Waypoint => {
                let class = format!("{GATEWAY_CLASS_NAME}={}", names::WAYPOINT_CLASS);
                match &self.name {
                    None => class,
                    Some(name) => format!("{class},{GATEWAY_NAME}={name}"),
                }
            }
        }
    }

    /// In which namespace; none for all.
    fn namespace(&self) -> Option<&str> {
        match self.program {
            Program::Waypoint => self.namespace.as_deref(),
            Program::Agent | Program::Controller | Program::Ztunnel => Some(names::NAMESPACE),
        }
    }
}

/// Programs with pages of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Program {
    Agent,
    Controller,
    Ztunnel,
    Waypoint,
}

impl Program {
    fn port(self) -> u16 {
        match self {
            Self::Agent => names::ports::AGENT,
            Self::Controller => names::ports::CONTROLLER,
            Self::Ztunnel => names::ports::PROXY_ADMIN,
            Self::Waypoint => names::ports::WAYPOINT_ADMIN,
        }
    }
}

/// Asks the program in all of its pods, or in that of one node.
pub(crate) async fn set(cluster: &Cluster, flags: &LogLevelFlags) -> Result<Answer> {
    let selected = ListParams::default().labels(&flags.selector());
    let api: Api<Pod> = match flags.namespace() {
        None => cluster.all(),
        Some(namespace) => Api::namespaced(cluster.client.clone(), namespace),
    };
    let pods: Vec<Pod> = list(&api, &selected, "listing the pods of the program").await?;
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let wanted = |pod: &&Pod| flags.node.is_none() || node(pod) == flags.node;
    let path = page(&flags.filter);
    let mut said = BTreeMap::new();
    for pod in pods.iter().filter(wanted) {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let asked = cluster
            .post_admin_page_in(&namespace, &name, flags.program.port(), &path, "")
            .await;
        let asked = asked.and_then(|page| match page.status {
            200 => Ok(page.body),
            _ => Err(Unanswered(page.body)),
        });
        let who = match flags.is_of_waypoints() {
            true => format!("{namespace}/{name}"),
            false => name,
        };
        said.insert(who, asked.map_err(|error| error.to_string()));
    }
    if said.is_empty() && flags.node.is_none() && !flags.is_of_waypoints() {
        return Err(Failure::NotInstalled.into());
    }
    Ok(shown(&said))
}

/// Asks the program of this machine.
pub(crate) fn set_locally(servers: &Servers, flags: &LogLevelFlags) -> Result<Answer> {
    let server = match flags.program {
        Program::Agent => servers.agent.clone(),
        Program::Ztunnel => servers.ztunnel.clone(),
        Program::Controller => {
            let controller = servers.controller.clone();
            controller.unwrap_or_else(|| Server::on_this_machine(names::ports::CONTROLLER))
        }
        // On one machine there may be several, each with an address of its own.
        Program::Waypoint => bail!(
            "nobody knows where waypoints of this machine listen\n  remedy: POST {} to the --admin-listen of the one that is meant",
            page(&flags.filter)
        ),
    };
    let said = server.post(&page(&flags.filter), "")?;
    Ok(shown(&BTreeMap::from([(server.to_string(), Ok(said))])))
}

fn page(filter: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    let filter: String = filter.bytes().map(encode).collect();
    format!("/logging?level={filter}")
}

/// What each said: the filter that is in force, or why it did not take it.
fn shown(said: &BTreeMap<String, Result<String, String>>) -> Answer {
    let words = |said: &Result<String, String>| match said {
        Ok(filter) => filter.trim().to_owned(),
        Err(why) => format!("not changed: {}", why.trim()),
    };
    Answer {
        json: said
            .iter()
            .map(|(who, said)| json!({ "who": who, "changed": said.is_ok(), "said": words(said) }))
            .collect(),
        sections: vec![Section {
            title: "",
            header: &["who", "logs"],
            rows: said.iter().map(|(who, said)| vec![who.clone(), words(said)]).collect(),
            when_empty: "none of its pods is there".to_owned(),
        }],
        is_well: !said.is_empty() && said.values().all(Result::is_ok),
    }
}

#[cfg(test)]
mod tests {
    use super::{LogLevelFlags, page, shown};
    use crate::cli::{Cli, Command};
    use std::collections::BTreeMap;

    fn flags(line: &str) -> LogLevelFlags {
        match Cli::read(line.split(' ')).unwrap().command {
            Command::LogLevel(flags) => flags,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn waypoints_are_found_by_their_gateway_in_any_namespace_and_the_other_programs_in_ours() {
        let class = "gateway.networking.k8s.io/gateway-class-name=culvert-waypoint";
        let all = flags("culvert log-level waypoint debug");
        assert_eq!((all.selector().as_str(), all.namespace()), (class, None));
        let one = flags("culvert log-level waypoint debug --name edge -n shop");
        let selector = format!("{class},gateway.networking.k8s.io/gateway-name=edge");
        assert_eq!((one.selector(), one.namespace()), (selector, Some("shop")));
        assert_eq!(one.program.port(), 15000);
        for (program, part) in [("agent", "node"), ("ztunnel", "node"), ("controller", "controller")] {
            let ours = flags(&format!("culvert log-level {program} debug"));
            assert_eq!(ours.selector(), format!("app.kubernetes.io/name=culvert-{part}"));
            assert_eq!(ours.namespace(), Some("culvert-system"));
        }
    }

    #[test]
    fn a_filter_reaches_the_page_whole() {
        assert_eq!(page("debug"), "/logging?level=debug");
        assert_eq!(page("info,a::b=debug"), "/logging?level=info%2Ca%3A%3Ab%3Ddebug");
        assert_eq!(page("a b&c\r\n"), "/logging?level=a%20b%26c%0D%0A", "no second request");
    }

    #[test]
    fn all_is_well_only_if_everybody_took_it() {
        let all = |said: &[(&str, Result<&str, &str>)]| {
            let said = said.iter().map(|(who, said)| {
                let said = said.map(str::to_owned).map_err(str::to_owned);
                ((*who).to_owned(), said)
            });
            shown(&said.collect::<BTreeMap<_, _>>())
        };
        assert!(all(&[("a", Ok("debug\n"))]).is_well);
        let one = all(&[("a", Ok("debug\n")), ("b", Err("no answer"))]);
        assert!(!one.is_well);
        assert_eq!(one.json[1]["said"], "not changed: no answer");
        assert!(!all(&[]).is_well);
    }
}
