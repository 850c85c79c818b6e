//! `culvert log-level`: what a program logs from now on, until it starts again.

use crate::{
    cluster::{Cluster, Failure, Unanswered, list, names},
    http::Server,
    local::servers::Servers,
    print::{Answer, Section},
};
use anyhow::Result;
use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::ListParams};
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
    /// On this node alone [default: all nodes]; of agent and ztunnel
    #[arg(long, env = "CULVERT_NODE", value_name = "NAME")]
    node: Option<String>,
}

/// Programs with pages of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Program {
    Agent,
    Controller,
    Ztunnel,
}

impl Program {
    fn port(self) -> u16 {
        match self {
            Self::Agent => names::ports::AGENT,
            Self::Controller => names::ports::CONTROLLER,
            Self::Ztunnel => names::ports::PROXY_ADMIN,
        }
    }

    /// Which pods it runs in.
    fn part(self) -> &'static str {
        match self {
            Self::Controller => names::CONTROLLER,
            Self::Agent | Self::Ztunnel => names::NODE,
        }
    }
}

/// Asks the program in all of its pods, or in that of one node.
pub(crate) async fn set(cluster: &Cluster, flags: &LogLevelFlags) -> Result<Answer> {
    let part = flags.program.part();
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/name={part}"));
    let pods: Vec<Pod> = list(&cluster.ours(), &ours, "listing our pods").await?;
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let wanted = |pod: &&Pod| flags.node.is_none() || node(pod) == flags.node;
    let path = page(&flags.filter);
    let mut said = BTreeMap::new();
    for pod in pods.iter().filter(wanted) {
        let asked = cluster
            .post_admin_page(&pod.name_any(), flags.program.port(), &path, "")
            .await;
        let asked = asked.and_then(|page| match page.status {
            200 => Ok(page.body),
            _ => Err(Unanswered(page.body)),
        });
        said.insert(pod.name_any(), asked.map_err(|error| error.to_string()));
    }
    if said.is_empty() && flags.node.is_none() {
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
    use super::{page, shown};
    use std::collections::BTreeMap;

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
