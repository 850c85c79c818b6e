//! Which ranges are the cluster's own: of its pods, as its nodes and kubeadm's configuration tell, and of its services.

use crate::cluster::{Cluster, Failure, list};
use ipnet::IpNet;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Node, Service},
    networking::v1::ServiceCIDR,
};
use kube::{Api, api::ListParams};
use std::str::FromStr;

/// A value of `--mesh-cidr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// None at all, whatever the cluster says.
    None,
    /// What the cluster says.
    Auto,
    /// This one.
    Net(IpNet),
}

impl FromStr for Range {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "auto" => Ok(Self::Auto),
            text => Ok(Self::Net(text.parse::<IpNet>()?.trunc())),
        }
    }
}

/// What was found, and how it is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ranges {
    pub(super) cidrs: Vec<IpNet>,
    pub(super) said: String,
}

/// What the flags name.
pub(super) fn given(flags: &[Range]) -> Vec<IpNet> {
    let nets = flags.iter().filter_map(|range| match range {
        Range::None | Range::Auto => None,
        Range::Net(net) => Some(*net),
    });
    IpNet::aggregate(&nets.collect())
}

/// What the cluster says.
pub(super) async fn ranges(cluster: &Cluster) -> Result<Ranges, Failure> {
    let nodes: Vec<Node> = list(
        &cluster.all(),
        &ListParams::default(),
        "listing nodes for the pods' ranges",
    )
    .await?;
    let kubeadm: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "kube-system");
    // Both of these are absent, or out of reach, on many clusters: then the other ways remain.
    let kubeadm = kubeadm.get_opt("kubeadm-config").await.ok().flatten();
    let services = cluster.all::<ServiceCIDR>().list(&ListParams::default()).await;
    let services: Vec<String> = services
        .map(|found| {
            found
                .items
                .into_iter()
                .filter_map(|one| one.spec?.cidrs)
                .flatten()
                .collect()
        })
        .unwrap_or_default();
    let kubernetes: Api<Service> = Api::namespaced(cluster.client.clone(), "default");
    let kubernetes = kubernetes.get_opt("kubernetes").await.ok().flatten();
    Ok(concluded(&nodes, kubeadm.as_ref(), &services, kubernetes.as_ref()))
}

fn concluded(
    nodes: &[Node],
    kubeadm: Option<&ConfigMap>,
    service_cidrs: &[String],
    kubernetes: Option<&Service>,
) -> Ranges {
    let configured = kubeadm
        .and_then(|map| map.data.as_ref()?.get("ClusterConfiguration"))
        .and_then(|text| serde_yaml_ng::from_str::<serde_json::Value>(text).ok());
    let configured = |field: &str| {
        let networking = configured.as_ref().map(|all| &all["networking"][field]);
        nets(
            networking
                .and_then(serde_json::Value::as_str)
                .into_iter()
                .flat_map(|list| list.split(',')),
        )
    };
    let of_nodes = nodes.iter().filter_map(|node| node.spec.as_ref()).flat_map(|spec| {
        let all = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
        all.map(String::as_str)
    });
    let (pods, pods_by) = first_of([
        (configured("podSubnet"), "by kubeadm's configuration"),
        (
            nets(of_nodes),
            "by the nodes' podCIDRs; of nodes added later they may not hold",
        ),
    ]);
    let (services, services_by) = first_of([
        (nets(service_cidrs.iter().map(String::as_str)), "by ServiceCIDR objects"),
        (configured("serviceSubnet"), "by kubeadm's configuration"),
        (
            neighbourhood(kubernetes),
            "guessed from the address of the Service `kubernetes`",
        ),
    ]);
    let mut said = format!(
        "mesh ranges: pods {} ({pods_by}), services {} ({services_by})",
        shown(&pods),
        shown(&services)
    );
    if pods.is_empty() {
        said += "\n  the cluster does not say where its pods are: until the controller has told of an address, it is reached in \
                 plaintext; --mesh-cidr says it";
    }
    let cidrs = IpNet::aggregate(&pods.into_iter().chain(services).collect());
    Ranges { cidrs, said }
}

fn first_of<const N: usize>(ways: [(Vec<IpNet>, &'static str); N]) -> (Vec<IpNet>, &'static str) {
    let found = ways.into_iter().find(|(nets, _)| !nets.is_empty());
    found.unwrap_or((Vec::new(), "nothing tells"))
}

fn nets<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<IpNet> {
    let parsed = texts.into_iter().filter_map(|text| text.trim().parse::<IpNet>().ok());
    IpNet::aggregate(&parsed.map(|net| net.trunc()).collect())
}

/// Around the first Service of all: the smallest range that installers use by default.
fn neighbourhood(kubernetes: Option<&Service>) -> Vec<IpNet> {
    let spec = kubernetes.and_then(|service| service.spec.as_ref());
    let addresses = spec.into_iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    let nets = addresses.filter_map(|text| {
        let address: std::net::IpAddr = text.parse().ok()?;
        let prefix = if address.is_ipv4() { 20 } else { 112 };
        IpNet::new(address, prefix).ok().map(|net| net.trunc())
    });
    nets.collect()
}

fn shown(cidrs: &[IpNet]) -> String {
    match cidrs {
        [] => "none".to_owned(),
        cidrs => cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::{Range, concluded, given};
    use serde_json::{from_value, json};

    #[test]
    fn the_nodes_ranges_are_joined_and_the_services_added() {
        let node = |cidr: &str| from_value(json!({ "spec": { "podCIDR": cidr, "podCIDRs": [cidr] } })).unwrap();
        let ranges = concluded(
            &[node("198.19.2.0/24"), node("198.19.3.0/24")],
            None,
            &["198.18.64.0/18".to_owned()],
            None,
        );
        let texts: Vec<String> = ranges.cidrs.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["198.18.64.0/18", "198.19.2.0/23"]);
        assert!(ranges.said.contains("by ServiceCIDR"), "{}", ranges.said);
    }

    #[test]
    fn kubeadms_configuration_knows_nodes_to_come() {
        let text = "networking:\n  podSubnet: 10.244.0.0/16,fd00:1::/48\n  serviceSubnet: 10.96.0.0/12\n";
        let map = from_value(json!({ "data": { "ClusterConfiguration": text } })).unwrap();
        let node = from_value(json!({ "spec": { "podCIDR": "10.244.1.0/24" } })).unwrap();
        let ranges = concluded(&[node], Some(&map), &[], None);
        assert_eq!(ranges.cidrs.len(), 3);
        assert!(ranges.said.contains("10.244.0.0/16"), "{}", ranges.said);
    }

    #[test]
    fn a_cluster_that_tells_nothing_is_told_so() {
        let kubernetes = from_value(json!({ "spec": { "clusterIPs": ["10.96.0.1"] } })).unwrap();
        let ranges = concluded(&[], None, &[], Some(&kubernetes));
        assert_eq!(ranges.cidrs, ["10.96.0.0/20".parse().unwrap()]);
        assert!(ranges.said.contains("--mesh-cidr"), "{}", ranges.said);
        assert!(concluded(&[], None, &[], None).cidrs.is_empty());
    }

    #[test]
    fn none_is_a_choice() {
        assert!(given(&["none".parse().unwrap()]).is_empty());
        assert_eq!("10.1.2.3/8".parse(), Ok(Range::Net("10.0.0.0/8".parse().unwrap())));
        assert!("10.0.0.0/40".parse::<Range>().is_err());
    }
}
