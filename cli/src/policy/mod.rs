//! `culvert policy test`: whom would policies refuse that are not applied yet?
//!
//! The nodes' proxies know which connections there are (`traffic`), a controller what the policies would mean to them (its
//! page `/policy-test`), and here is who asks whom, and what people see.

mod traffic;

use crate::{
    cluster::Cluster,
    controller, files,
    filter::Filter,
    local::{cells::text, servers::Servers},
    print::{Answer, Section},
    status::proxies::{self, Who},
};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use culvert_resources::files::File;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use traffic::Traffic;

/// The proxies' pages with what they carry and have carried.
const PAGES: [&str; 2] = ["/connections", "/recent"];
/// The controller's page.
const TEST: &str = "/policy-test";

/// What there is to do with policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Whom would these policies refuse, of those that are connected now or were within the last hour? Nothing is applied. Exit
    /// code 0: nobody, 1: somebody, or what is tried is not known for all of it
    Test(TestFlags),
}

/// What is to be tried.
#[derive(Args, Clone, Debug)]
pub(crate) struct TestFlags {
    /// A file with policies, as `kubectl apply -f` takes it; `-` is standard input. May be given several times
    #[arg(long = "filename", short = 'f', value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// What the controller says.
#[derive(Debug, Deserialize)]
struct Verdicts {
    objects: Vec<String>,
    passed_over: Vec<String>,
    /// What waypoints decide by; a controller from before this was told says nothing of it.
    #[serde(default)]
    for_waypoints: Vec<String>,
    findings: Vec<String>,
    connections: Vec<Fate>,
}

/// What holds for one kind of connection.
#[derive(Debug, Deserialize)]
struct Fate {
    now: Option<Verdict>,
    then: Option<Verdict>,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    allowed: bool,
    #[serde(default)]
    by: Vec<String>,
    #[serde(default)]
    rule: Option<usize>,
    #[serde(default)]
    why: String,
}

/// Asks all proxies of a cluster, and one of its controllers.
pub(crate) async fn test(cluster: &Cluster, flags: &TestFlags) -> Result<Answer> {
    let files = files::read(&flags.files)?;
    let replies = proxies::ask(cluster, &Filter::default(), Who::AlsoDraining, &PAGES).await?;
    let (mut pages, mut silent) = (Vec::new(), Vec::new());
    for (title, reply) in replies {
        match reply {
            Ok(page) => pages.push(page),
            Err(error) => silent.push(vec![title, error.to_string()]),
        }
    }
    let traffic = traffic::of(&pages);
    let question = question(files, &traffic).to_string();
    let said = controller::ask(cluster, TEST, &question).await?;
    shown(&traffic, &said, silent)
}

/// Asks the proxy and the controller of this machine.
pub(crate) fn test_locally(servers: &Servers, flags: &TestFlags) -> Result<Answer> {
    let files = files::read(&flags.files)?;
    let mut pages = Vec::new();
    for path in PAGES {
        let page = servers.ztunnel.get(path)?;
        pages.push(serde_json::from_str(&page).with_context(|| format!("{}{path} is not JSON", servers.ztunnel))?);
    }
    let traffic = traffic::of(&pages);
    let said = servers
        .controller()
        .post(TEST, &question(files, &traffic).to_string())?;
    shown(&traffic, &said, Vec::new())
}

fn question(files: Vec<File>, traffic: &[Traffic]) -> Value {
    let asked = traffic.iter().map(Traffic::asked);
    json!({ "files": files, "connections": asked.collect::<Vec<_>>() })
}

fn shown(traffic: &[Traffic], said: &str, silent: Vec<Vec<String>>) -> Result<Answer> {
    let verdicts: Verdicts =
        serde_json::from_str(said).context("the controller answered what is not understood here")?;
    let fates = traffic.iter().zip(&verdicts.connections);
    let (mut rows, mut refused, mut unknown, mut already) = (Vec::new(), Vec::new(), 0, 0);
    for (traffic, fate) in fates {
        match (&fate.now, &fate.then) {
            (_, None) => unknown += 1,
            (Some(now), Some(then)) if !now.allowed && !then.allowed => already += 1,
            (_, Some(then)) if !then.allowed => {
                rows.push(row(traffic, then));
                refused.push(json!({
                    "traffic": traffic, "by": then.by, "rule": then.rule, "why": then.why,
                }));
            }
            _ => {}
        }
    }
    let is_well = rows.is_empty() && silent.is_empty() && verdicts.for_waypoints.is_empty();
    let json = json!({
        "tried": verdicts.objects,
        "passed_over": verdicts.passed_over,
        "for_waypoints": verdicts.for_waypoints,
        "findings": verdicts.findings,
        "looked_at": traffic.len(),
        "refused": refused,
        "refused_already": already,
        "unknown": unknown,
        "did_not_answer": silent,
    });
    let tried = format!(
        "{} looked at, of the connections that are open or ended within the last hour, each kind once{}",
        traffic.len(),
        if already > 0 {
            format!("; {already} are refused already")
        } else {
            String::new()
        }
    );
    let mut sections = vec![
        Section::words(format!("Tried: {}\n{tried}", verdicts.objects.join(", "))),
        Section {
            title: "Would be refused",
            header: &["from", "identity", "to", "port", "open", "ended", "last", "by", "why"],
            rows,
            when_empty: "none".to_owned(),
        },
    ];
    let mut add = |title, header, rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            sections.push(Section {
                title,
                header,
                rows,
                when_empty: String::new(),
            });
        }
    };
    let lines = |texts: &[String]| texts.iter().map(|text| vec![text.clone()]).collect();
    add(
        "Not enforced as it is written",
        &["what happens instead"],
        lines(&verdicts.findings),
    );
    add(
        "Not judged: waypoints decide by it, about each request",
        &["object"],
        lines(&verdicts.for_waypoints),
    );
    add(
        "Not looked at, since it has no say in who may connect",
        &["object"],
        lines(&verdicts.passed_over),
    );
    add(
        "Did not answer: what these nodes carry is not in the table",
        &["node", "why"],
        silent,
    );
    Ok(Answer {
        json,
        sections,
        is_well,
    })
}

fn row(traffic: &Traffic, then: &Verdict) -> Vec<String> {
    let mut row = traffic.cells();
    let rule = then.rule.map(|rule| format!(" rule {rule}")).unwrap_or_default();
    row.push(format!("{}{rule}", then.by.join(", ")));
    row.push(text(&Value::from(then.why.as_str())));
    row
}

#[cfg(test)]
mod tests {
    use super::{question, shown, traffic};
    use serde_json::json;

    #[test]
    fn only_who_is_let_in_now_and_would_not_be_then_is_shown_with_what_would_refuse_it() {
        let open = json!({ "connections": [
            { "direction": "inbound", "source": "198.18.0.1:4000", "source_workload": "shop/web", "destination": "198.18.0.2:80",
              "destination_workload": "shop/cart", "source_identity": "spiffe://a/ns/shop/sa/web" },
            { "direction": "inbound", "source": "198.18.0.3:4000", "destination": "198.18.0.2:80", "destination_workload": "shop/cart" },
            { "direction": "inbound", "source": "198.18.0.4:4000", "destination": "198.18.0.2:80", "destination_workload": "shop/cart" },
            { "direction": "outbound", "source": "198.18.0.2:4000", "destination": "198.18.0.9:80", "source_workload": "shop/cart" },
        ] });
        let traffic = traffic::of(&[open]);
        assert_eq!(
            question(Vec::new(), &traffic)["connections"].as_array().unwrap().len(),
            3
        );
        let allowed = json!({ "allowed": true });
        let refused =
            json!({ "allowed": false, "by": ["AuthorizationPolicy shop/a"], "rule": 2, "why": "it denies this" });
        let said = json!({
            "objects": ["AuthorizationPolicy shop/a"], "passed_over": [], "findings": ["AuthorizationPolicy shop/a: x"],
            "connections": [
                { "now": allowed, "then": refused }, { "now": refused, "then": refused }, { "now": null, "then": null },
            ],
        });
        let answer = shown(&traffic, &said.to_string(), Vec::new()).unwrap();
        assert!(!answer.is_well);
        let table = &answer.sections[1].rows;
        assert_eq!(table.len(), 1, "{table:?}");
        for word in [
            "shop/web",
            "spiffe://a/ns/shop/sa/web",
            "shop/cart",
            "80",
            "AuthorizationPolicy shop/a rule 2",
        ] {
            assert!(table[0].iter().any(|cell| cell.contains(word)), "{word}: {table:?}");
        }
        assert_eq!(
            (&answer.json["refused_already"], &answer.json["unknown"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(answer.sections[2].title, "Not enforced as it is written");
    }

    #[test]
    fn what_waypoints_decide_by_is_not_taken_for_something_that_refuses_nobody() {
        let policy = "AuthorizationPolicy shop/paths";
        let said = json!({ "objects": [policy], "passed_over": [], "for_waypoints": [policy], "findings": [], "connections": [] });
        let answer = shown(&[], &said.to_string(), Vec::new()).unwrap();
        assert!(!answer.is_well);
        assert_eq!(answer.sections[2].rows, [[policy]]);
        assert_eq!(answer.json["for_waypoints"], json!([policy]));
    }

    #[test]
    fn a_node_that_did_not_answer_is_not_taken_for_one_without_connections() {
        let said = json!({ "objects": [], "passed_over": [], "findings": [], "connections": [] });
        let silent = vec![vec!["n1".to_owned(), "no answer".to_owned()]];
        assert!(!shown(&[], &said.to_string(), silent).unwrap().is_well);
        assert!(shown(&[], &said.to_string(), Vec::new()).unwrap().is_well);
    }
}
