//! `culvert waypoint`: waypoints are Gateways, and whoever would rather not write them by hand makes, lists and deletes them here.
//!
//! `flags` is the command line, `gateway` the object and what its status says, `asking` who asks for a waypoint by label.

mod asking;
mod flags;
mod gateway;

use crate::{
    cluster::{Cluster, Failure, names},
    print::{Answer, Section},
};
use anyhow::{Context as _, Result, bail};
use asking::Label;
pub(crate) use flags::WaypointCommand;
use flags::{Apply, Delete, List, Which};
use gateway::Gateway;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    runtime::wait,
};
use serde_json::{Value, json};
use std::time::Duration;

const HEADER: &[&str] = &["NAMESPACE", "NAME", "CLASS", "ACCEPTED", "PROGRAMMED", "ADDRESS"];

/// Does what was asked.
pub(crate) async fn run(cluster: &Cluster, command: &WaypointCommand) -> Result<Answer> {
    match command {
        WaypointCommand::Apply(flags) => apply(cluster, flags).await,
        WaypointCommand::List(flags) => show_all(cluster, flags).await,
        WaypointCommand::Status(which) => status(cluster, which).await,
        WaypointCommand::Delete(flags) => delete(cluster, flags).await,
    }
}

async fn apply(cluster: &Cluster, flags: &Apply) -> Result<Answer> {
    let (name, namespace) = (&flags.which.name, namespace(cluster, flags.which.namespace.as_deref()));
    let object = gateway::object(name, &namespace, flags.class, flags.serves);
    let params = PatchParams::apply(names::MANAGER).force();
    let applied = gateways(cluster, Some(&namespace))
        .patch(name, &params, &Patch::Apply(&object))
        .await;
    applied.map_err(|error| gateway::failure(format!("applying Gateway {namespace}/{name}"), error))?;
    if flags.enroll_namespace {
        let patch = Patch::Merge(json!({ "metadata": { "labels": { asking::LABEL: name } } }));
        let labelled = cluster
            .all::<Namespace>()
            .patch(&namespace, &PatchParams::default(), &patch)
            .await;
        labelled.map_err(|error| Failure::of(format!("labelling namespace {namespace}"), error))?;
    }
    if flags.wait {
        wait_programmed(cluster, &namespace, name, flags.timeout).await?;
    }
    one(cluster, &namespace, name, !flags.wait).await
}

/// Waits until the waypoint serves.
async fn wait_programmed(cluster: &Cluster, namespace: &str, name: &str, timeout: Duration) -> Result<()> {
    let api = gateways(cluster, Some(namespace));
    let serves = |object: Option<&DynamicObject>| object.is_some_and(|object| Gateway::of(object).is_programmed());
    let waited = tokio::time::timeout(timeout, wait::await_condition(api.clone(), name, serves)).await;
    if let Ok(waited) = waited {
        return waited
            .map(drop)
            .with_context(|| format!("waiting for Gateway {namespace}/{name}"));
    }
    let object = api
        .get_opt(name)
        .await
        .map_err(|error| gateway::failure("asking how far it is", error))?;
    let why = object.map_or_else(|| "it is gone".to_owned(), |object| Gateway::of(&object).why_not());
    bail!(
        "Gateway {namespace}/{name} does not serve after {}: {why}",
        humantime::format_duration(timeout)
    )
}

async fn status(cluster: &Cluster, which: &Which) -> Result<Answer> {
    let namespace = namespace(cluster, which.namespace.as_deref());
    one(cluster, &namespace, &which.name, false).await
}

/// How one waypoint stands. It is well if it serves, or if that is not asked for yet.
async fn one(cluster: &Cluster, namespace: &str, name: &str, may_wait: bool) -> Result<Answer> {
    let found = gateways(cluster, Some(namespace)).get_opt(name).await;
    let found = found.map_err(|error| gateway::failure(format!("reading Gateway {namespace}/{name}"), error))?;
    let Some(object) = found else {
        bail!(
            "there is no Gateway {namespace}/{name}\n  remedy: `culvert waypoint apply {name} --namespace {namespace}`"
        );
    };
    let gateway = Gateway::of(&object);
    let labels = asking::all(cluster, namespace, name).await?;
    let mut sections = vec![table(std::slice::from_ref(&gateway))];
    if !gateway.is_programmed() {
        sections.push(Section::words(format!(
            "it does not serve yet: {}\n",
            gateway.why_not()
        )));
    }
    if let Some(refused) = gateway.refused() {
        sections.push(Section::words(format!("not all of it is in force: {refused}\n")));
    }
    sections.push(asking::section(&labels));
    Ok(Answer {
        json: json!({ "waypoint": gateway.json(), "asked-for-by": labels.iter().map(Label::json).collect::<Vec<_>>() }),
        sections,
        is_well: may_wait || gateway.is_programmed(),
    })
}

async fn show_all(cluster: &Cluster, flags: &List) -> Result<Answer> {
    let api = gateways(cluster, flags.namespace.as_deref());
    let objects = match api.list(&ListParams::default()).await {
        Ok(objects) => objects.items,
        Err(error) => return Err(gateway::failure("listing Gateways", error).into()),
    };
    let mut found: Vec<Gateway> = objects.iter().map(Gateway::of).filter(Gateway::is_waypoint).collect();
    found.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(Answer {
        json: json!({ "waypoints": found.iter().map(Gateway::json).collect::<Vec<Value>>() }),
        is_well: found.iter().all(Gateway::is_programmed),
        sections: vec![table(&found)],
    })
}

async fn delete(cluster: &Cluster, flags: &Delete) -> Result<Answer> {
    let namespace = namespace(cluster, flags.namespace.as_deref());
    let api = gateways(cluster, Some(&namespace));
    let mut left = Vec::new();
    for name in &flags.names {
        let found = api
            .get_opt(name)
            .await
            .map_err(|error| gateway::failure("looking for it", error))?;
        let Some(object) = found else {
            bail!("there is no Gateway {namespace}/{name}");
        };
        let gateway = Gateway::of(&object);
        if !gateway.is_waypoint() {
            bail!(
                "Gateway {namespace}/{name} is of class {}, and no waypoint of this mesh",
                gateway.class
            );
        }
        let deleted = api.delete(name, &DeleteParams::default()).await;
        deleted.map_err(|error| gateway::failure(format!("deleting Gateway {namespace}/{name}"), error))?;
        left.extend(asking::all(cluster, &namespace, name).await?);
    }
    let mut sections = vec![Section::words(format!("deleted: {}\n", flags.names.join(", ")))];
    if !left.is_empty() {
        sections.push(Section::words(
            "still asked for: what a label sends to a waypoint that is not there is refused, not let past it\n",
        ));
        sections.push(asking::section(&left));
    }
    Ok(Answer {
        json: json!({ "deleted": flags.names, "still-asked-for-by": left.iter().map(Label::json).collect::<Vec<_>>() }),
        sections,
        is_well: true,
    })
}

fn table(found: &[Gateway]) -> Section {
    Section {
        title: "",
        header: HEADER,
        rows: found.iter().map(Gateway::row).collect(),
        when_empty: "there is no waypoint; `culvert waypoint apply` makes one\n".to_owned(),
    }
}

fn gateways(cluster: &Cluster, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, &gateway::resource()),
        None => Api::all_with(cluster.client.clone(), &gateway::resource()),
    }
}

/// The namespace that is meant where none is named: the kubeconfig's.
fn namespace(cluster: &Cluster, named: Option<&str>) -> String {
    named.unwrap_or_else(|| cluster.client.default_namespace()).to_owned()
}
