//! The objects of a cluster. Every service has as many pods, whatever there is of them: a change concerns as many in a small
//! cluster as in a large one. One service is used by every node. There is an authorization policy for every five hundred pods: 200 of them and
//! 10,000 services with 100,000 pods.

use serde_json::{Value, json};

/// Pods of a service, where nobody asks for another number.
pub(crate) const PODS_OF_SERVICE: usize = 10;
/// Pods for which there is another policy.
const PODS_OF_POLICY: usize = 500;
/// Pods of the service that every node uses.
pub(crate) const PODS_OF_POPULAR: usize = 10;
/// Pods that a node uses, beside those of the service that every node uses, where their number is to be the same in clusters of all sizes.
pub(crate) const USED_PODS: usize = 100;
/// Namespaces.
const NAMESPACES: usize = 20;
/// Nodes that use a service, beside those of its pods.
pub(crate) const USERS: usize = 5;
/// The address of the service that every node uses.
pub(crate) const POPULAR: &str = "10.200.0.1";

/// A cluster of so many pods and nodes.
#[derive(Clone, Copy)]
pub(crate) struct World {
    pub(crate) pods: usize,
    pub(crate) nodes: usize,
    pub(crate) pods_of_service: usize,
}

/// The name of a node.
pub(crate) fn node_name(node: usize) -> String {
    format!("node-{node:04}")
}

impl World {
    /// How many services there are, beside the one that every node uses.
    pub(crate) fn services(self) -> usize {
        self.pods.div_ceil(self.pods_of_service)
    }

    /// How many policies there are.
    pub(crate) fn policies(self) -> usize {
        self.pods.div_ceil(PODS_OF_POLICY)
    }

    /// The node of a pod.
    pub(crate) fn node_of(self, pod: usize) -> usize {
        pod % self.nodes
    }

    /// The service of a pod.
    pub(crate) fn service_of(self, pod: usize) -> usize {
        pod / self.pods_of_service
    }

    /// The addresses that a node asks for.
    pub(crate) fn asked_by(self, node: usize) -> Vec<String> {
        let own = (0..self.services()).filter(|service| {
            let first = service * USERS % self.nodes;
            (node + self.nodes - first) % self.nodes < USERS
        });
        let addresses = own.map(|service| format!("/{}", service_address(service)));
        addresses.chain([format!("/{POPULAR}")]).collect()
    }

    /// What the pods of a node use that has none of these pods: addresses, and how many workloads are behind them.
    pub(crate) fn used(self) -> (Vec<String>, usize) {
        let services = 0..self.services().min(USED_PODS / self.pods_of_service);
        let workloads = self.pods.min(services.len() * self.pods_of_service) + PODS_OF_POPULAR;
        let addresses = services.map(service_address).chain([POPULAR.to_owned()]);
        (addresses.collect(), workloads)
    }

    /// All workloads.
    pub(crate) fn workloads(self) -> usize {
        self.pods + PODS_OF_POPULAR
    }

    /// All objects, by kind.
    pub(crate) fn objects(self) -> impl Iterator<Item = (&'static str, Value)> {
        let namespaces = (0..NAMESPACES).flat_map(|namespace| {
            let name = namespace_name(namespace);
            let labels = json!({"culvert.dev/mesh": "ambient", "kubernetes.io/metadata.name": name});
            let account = json!({"metadata": {"name": "app", "namespace": name}});
            [
                ("Namespace", json!({"metadata": {"name": name, "labels": labels}})),
                ("ServiceAccount", account),
            ]
        });
        let nodes = (0..self.nodes).map(|node| {
            let labels = json!({"kubernetes.io/os": "linux", "topology.kubernetes.io/region": "north",
                "topology.kubernetes.io/zone": format!("north-{}", node % 3)});
            let range = format!("10.{}.{}.0/24", 64 + node / 256, node % 256);
            let spec = json!({"podCIDR": range, "podCIDRs": [range]});
            (
                "Node",
                json!({"metadata": {"name": node_name(node), "labels": labels}, "spec": spec}),
            )
        });
        let services = (0..self.services()).map(|s| {
            (
                "Service",
                service(&namespace_name(s % NAMESPACES), &service_name(s), &service_address(s)),
            )
        });
        let popular = service(&namespace_name(0), "popular", POPULAR);
        let pods = (0..self.pods).map(move |pod| ("Pod", self.pod(pod, 0)));
        let popular_pods = (0..PODS_OF_POPULAR).map(move |pod| ("Pod", self.popular_pod(pod, 0)));
        namespaces
            .chain(nodes)
            .chain(services)
            .chain([("Service", popular)])
            .chain(pods)
            .chain(popular_pods)
            .chain((0..self.policies()).map(|number| ("AuthorizationPolicy", policy(number, 0))))
    }

    /// A pod, as it is after so many changes.
    pub(crate) fn pod(self, number: usize, changes: usize) -> Value {
        let service = self.service_of(number);
        let address = format!("10.{}.{}.{}", 1 + number / 62_500, number / 250 % 250, 1 + number % 250);
        pod(
            &namespace_name(service % NAMESPACES),
            &pod_name(service, number),
            &service_name(service),
            &node_name(self.node_of(number)),
            &address,
            changes,
        )
    }

    /// A pod of the service that every node uses.
    pub(crate) fn popular_pod(self, number: usize, changes: usize) -> Value {
        let node = node_name(number % self.nodes);
        let address = format!("10.250.0.{}", 1 + number);
        let name = format!("popular-5c6d7f8b9c-{number:05}");
        pod(&namespace_name(0), &name, "popular", &node, &address, changes)
    }
}

/// A policy that binds a whole namespace, as it is after so many changes.
pub(crate) fn policy(number: usize, changes: usize) -> Value {
    let namespace = namespace_name(number % NAMESPACES);
    let principals: Vec<String> = (0..NAMESPACES)
        .map(|from| format!("cluster.local/ns/{}/sa/app", namespace_name(from)))
        .collect();
    json!({
        "metadata": {"name": policy_name(number), "namespace": namespace},
        "spec": {"action": "ALLOW", "rules": [{
            "from": [{"source": {"principals": principals}}],
            "to": [{"operation": {"ports": ["8080", (9000 + changes).to_string()]}}],
        }]},
    })
}

/// The name of a policy.
pub(crate) fn policy_name(number: usize) -> String {
    format!("callers-{number:03}")
}

/// The name of a pod.
pub(crate) fn pod_name(service: usize, number: usize) -> String {
    format!("{}-7d9c5b8f6d-{number:05}", service_name(service))
}

fn namespace_name(namespace: usize) -> String {
    format!("team-{namespace:02}")
}

fn service_name(service: usize) -> String {
    format!("service-{service:04}")
}

fn service_address(service: usize) -> String {
    format!("10.201.{}.{}", service / 250, 1 + service % 250)
}

fn service(namespace: &str, name: &str, address: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": namespace, "uid": format!("uid-{namespace}-{name}")},
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"],
            "internalTrafficPolicy": "Cluster", "sessionAffinity": "None", "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}],
        },
    })
}

/// A pod as an API server tells it, of a Deployment, with what others than the mesh need. Each change is of a label.
fn pod(namespace: &str, name: &str, app: &str, node: &str, address: &str, changes: usize) -> Value {
    let env: Vec<Value> = (0..12)
        .map(|n| json!({"name": format!("SETTING_{n}"), "value": format!("a value of some length, number {n}")}))
        .collect();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-11-01T00:00:00Z"});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    json!({
        "metadata": {
            "name": name, "namespace": namespace, "uid": format!("0a1b2c3d-{name}"), "generateName": format!("{app}-7d9c5b8f6d-"),
            "resourceVersion": "123456", "creationTimestamp": "2026-11-01T00:00:00Z",
            "labels": {"app": app, "pod-template-hash": "7d9c5b8f6d", "tier": "backend",
                "app.kubernetes.io/name": app, "app.kubernetes.io/version": format!("1.{changes}")},
            "annotations": {"prometheus.io/scrape": "true", "kubectl.kubernetes.io/restartedAt": "2026-11-01T00:00:00Z"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-7d9c5b8f6d"),
                "uid": "f0e1d2c3", "controller": true, "blockOwnerDeletion": true}],
            "managedFields": [{"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:status": {"f:conditions": {}, "f:podIP": {}, "f:phase": {}}}}],
        },
        "spec": {
            "nodeName": node, "serviceAccountName": "app", "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
            "volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
            "containers": [{"name": "app", "image": "registry.example/app:1.0", "env": env,
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}],
        },
        "status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "hostIP": "192.0.2.1",
            "startTime": "2026-11-01T00:00:00Z",
            "conditions": conditions,
            "containerStatuses": [{"name": "app", "ready": true, "restartCount": 0, "image": "registry.example/app:1.0",
                "imageID": "sha256:0123456789abcdef", "state": {"running": {"startedAt": "2026-11-01T00:00:00Z"}}}],
        },
    })
}
