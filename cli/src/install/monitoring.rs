//! Dashboards for Grafana, and what the Prometheus Operator takes: asked for by flags, and kept like other settings.

use super::prune::is_applied_by_us;
use crate::{
    cluster::{Cluster, Failure},
    kinds::{PROMETHEUS_OPERATOR, api},
};
use anyhow::{Result, bail};
use clap::Args;
use culvert_deploy::Monitoring;

#[derive(Args, Clone, Copy, Debug)]
pub(super) struct MonitoringFlags {
    /// Install dashboards, as ConfigMaps that the sidecar of Grafana's chart looks for
    #[arg(long, env = "CULVERT_DASHBOARDS", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    dashboards: Option<bool>,
    /// Install PodMonitors and alerts for the Prometheus Operator, which must be there
    #[arg(long, env = "CULVERT_PROMETHEUS_OPERATOR", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    prometheus_operator: Option<bool>,
}

impl MonitoringFlags {
    /// Lays the flags over what is installed. What was kept is added, for people.
    pub(super) fn merged(self, before: Monitoring, kept: &mut Vec<String>) -> Monitoring {
        let mut or_kept = |given: Option<bool>, was: bool, name: &str| {
            if given.is_none() && was {
                kept.push(name.to_owned());
            }
            given.unwrap_or(was)
        };
        Monitoring {
            dashboards: or_kept(self.dashboards, before.dashboards, "dashboards"),
            operator: or_kept(self.prometheus_operator, before.operator, "prometheus-operator"),
        }
    }
}

/// What this command installed of it. What came otherwise is left to whoever brought it.
pub(super) async fn installed(cluster: &Cluster) -> Result<Monitoring, Failure> {
    Ok(Monitoring {
        dashboards: is_there(cluster, ("", "v1", "ConfigMap"), "culvert-dashboard-traffic").await?,
        operator: is_there(cluster, PROMETHEUS_OPERATOR[0], "culvert-node").await?,
    })
}

async fn is_there(cluster: &Cluster, kind: (&str, &str, &str), name: &str) -> Result<bool, Failure> {
    match api(cluster, kind).get_metadata_opt(name).await {
        Ok(found) => Ok(found.is_some_and(|object| is_applied_by_us(&object))),
        // A cluster need not know the kind, and who has no right to it has installed nothing of it.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(false),
        Err(error) => Err(Failure::of(format!("looking for {} {name}", kind.2), error)),
    }
}

/// Fails where the operator's kinds are wanted and are not there: before anything is applied.
pub(super) async fn must_be_possible(cluster: &Cluster, wanted: Monitoring) -> Result<()> {
    if !wanted.operator {
        return Ok(());
    }
    let definitions = api(cluster, ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"));
    for plural in ["podmonitors", "prometheusrules"] {
        let name = format!("{plural}.monitoring.coreos.com");
        let there = definitions.get_metadata_opt(&name).await;
        let there = there.map_err(|error| Failure::of(format!("reading the kind {name}"), error))?;
        if there.is_none() {
            bail!(
                "this cluster has no {name}\n  remedy: install the Prometheus Operator first, or leave its objects out \
                 (--prometheus-operator=false)"
            );
        }
    }
    Ok(())
}
