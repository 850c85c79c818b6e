//! Policies that Culvert does not serve, and labels that ask for a waypoint: what they bind is denied, or reached through that alone. Whoever wrote them must
//! not learn of that from an incident.

use crate::{
    cluster::{Cluster, list, names},
    line::{Level, Line},
};
use clap::Args;
use culvert_objects::{Enrolment, USE_WAYPOINT, enrolment};
use culvert_policy::istio;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Where Istio's mesh-wide policies live, unless told otherwise.
const ROOT_NAMESPACE: &str = "istio-system";

/// Kinds that may restrict who reaches a pod, of which some objects or all are not enforced.
const KINDS: [(&str, &str, &str); 2] = [
    ("security.istio.io", "v1", "AuthorizationPolicy"),
    ("security.istio.io", "v1", "RequestAuthentication"),
];

/// Whether they are a failure.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct PolicyFlags {
    /// Policies that are there and that Culvert does not enforce are a warning, not a failure
    #[arg(long, env = "CULVERT_IGNORE_POLICIES")]
    pub(crate) ignore_policies: bool,
}

/// When it is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before an installation: what might join later counts, too.
    Preflight,
    /// With a mesh that is there: who is in it is known.
    Installed,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct ForeignPolicies {
    pub(crate) policies: Vec<DynamicObject>,
    pub(crate) services: Vec<Service>,
    /// The namespace whose policies bind everywhere.
    pub(crate) root_namespace: Option<String>,
    /// Kinds that are there and may not be listed.
    pub(crate) hidden: Vec<&'static str>,
}

impl ForeignPolicies {
    /// Lists them. A kind that the cluster does not know has no objects.
    pub(crate) async fn of(cluster: &Cluster) -> Self {
        let mut found = Self::default();
        for (group, version, kind) in KINDS {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
            match api.list(&ListParams::default()).await {
                Ok(list) => found.policies.extend(list.items.into_iter().map(|mut object| {
                    object.types.get_or_insert_with(Default::default).kind = kind.to_owned();
                    object
                })),
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(_) => found.hidden.push(kind),
            }
        }
        for label in USE_WAYPOINT {
            let labelled = ListParams::default().labels(label);
            found
                .services
                .extend(list(&cluster.all(), &labelled, "").await.unwrap_or_default());
        }
        let config: Api<k8s_openapi::api::core::v1::ConfigMap> = cluster.ours();
        let config = config.get_opt(names::CONFIG).await.ok().flatten();
        found.root_namespace = config.and_then(|map| map.data?.get("root-namespace").cloned());
        found
    }

    /// A line for each that would bind a pod of the mesh, and before an installation for each that might, or one good line.
    pub(crate) fn judged(&self, namespaces: &[Namespace], pods: &[Pod], flags: PolicyFlags, when: When) -> Vec<Line> {
        let mesh = Enrolled::of(namespaces, pods);
        let level = if flags.ignore_policies {
            Level::Warn
        } else {
            Level::Fail
        };
        let mut lines: Vec<Line> = self
            .policies
            .iter()
            .filter_map(|policy| self.judged_policy(policy, &mesh, level, when))
            .collect();
        lines.extend(self.waypoints(namespaces, pods, &mesh));
        if !self.hidden.is_empty() {
            let found = format!("may not be listed: {}", self.hidden.join(", "));
            let remedy = "ask for the right to list them: those that are there are not enforced";
            lines.push(Line::warn("cluster", "policies", found, remedy));
        }
        if lines.is_empty() {
            let found = "none is there that the mesh would have to enforce and does not";
            return vec![Line::ok("cluster", "policies", found)];
        }
        lines
    }

    fn judged_policy(&self, policy: &DynamicObject, mesh: &Enrolled<'_>, level: Level, when: When) -> Option<Line> {
        let kind = policy.types.as_ref().map_or("policy", |types| types.kind.as_str());
        let namespace = policy.namespace().unwrap_or_default();
        let spec = &policy.data["spec"];
        if kind == "AuthorizationPolicy" && istio::is_enforced(spec) {
            return None;
        }
        let root = self.root_namespace.as_deref().unwrap_or(ROOT_NAMESPACE);
        let selector = &spec["selector"]["matchLabels"];
        let bound = mesh.bound((namespace != root).then_some(namespace.as_str()), selector);
        let found = format!("{kind} {namespace}/{}", policy.name_any());
        Some(match bound.first() {
            Some(first) => Line {
                level,
                ..Line::fail(
                    "cluster",
                    "policies",
                    format!(
                        "{found} is not served: nobody may reach what it binds, {} in the mesh, the first is {first}",
                        pods_in_words(bound.len())
                    ),
                    REMEDY,
                )
            },
            None if when == When::Installed => return None,
            None => Line::warn(
                "cluster",
                "policies",
                format!("{found} is not served: nobody could reach the pods that it binds if they joined the mesh"),
                "remove it before they do, or leave them out",
            ),
        })
    }

    fn waypoints(&self, namespaces: &[Namespace], pods: &[Pod], mesh: &Enrolled<'_>) -> Vec<Line> {
        let named = |labels: &BTreeMap<String, String>| {
            let name = USE_WAYPOINT.iter().find_map(|label| labels.get(*label));
            name.filter(|name| *name != "none").cloned()
        };
        let of_namespaces = namespaces
            .iter()
            .filter(|one| mesh.has(&one.name_any()))
            .filter_map(|one| Some((format!("namespace {}", one.name_any()), named(one.labels())?)));
        let of_services = self
            .services
            .iter()
            .filter(|one| mesh.has(&one.namespace().unwrap_or_default()))
            .filter_map(|one| {
                let title = format!("Service {}/{}", one.namespace().unwrap_or_default(), one.name_any());
                Some((title, named(one.labels())?))
            });
        let of_pods = pods.iter().filter(|pod| mesh.has_pod(pod)).filter_map(|pod| {
            let title = format!("pod {}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
            Some((title, named(pod.labels())?))
        });
        let line = |(title, waypoint): (String, String)| {
            let found =
                format!("{title} asks for the waypoint {waypoint}: what it is for is reached through that alone");
            let remedy = "see to it that a Gateway of this name is there, of class culvert-waypoint: while none of its pods runs, nobody \
                          reaches what asks for it";
            Line::warn("cluster", "policies", found, remedy)
        };
        of_namespaces.chain(of_services).chain(of_pods).map(line).collect()
    }
}

const REMEDY: &str = "Culvert does not serve it yet: remove it, keep these pods out of the mesh (culvert.dev/mesh: none), or go on in spite of it \
                      by --ignore-policies";

fn pods_in_words(count: usize) -> String {
    match count {
        1 => "1 pod".to_owned(),
        count => format!("{count} pods"),
    }
}

/// The pods that are to be in the mesh.
struct Enrolled<'a> {
    pods: Vec<&'a Pod>,
}

impl<'a> Enrolled<'a> {
    fn of(namespaces: &[Namespace], pods: &'a [Pod]) -> Self {
        let labels: BTreeMap<String, &BTreeMap<String, String>> =
            namespaces.iter().map(|one| (one.name_any(), one.labels())).collect();
        let is_in = |pod: &&Pod| {
            let labels = labels.get(&pod.namespace().unwrap_or_default()).copied();
            matches!(enrolment(labels, pod), Ok(Enrolment::Ambient))
        };
        Self {
            pods: pods.iter().filter(is_in).collect(),
        }
    }

    fn has(&self, namespace: &str) -> bool {
        self.pods
            .iter()
            .any(|pod| pod.namespace().as_deref() == Some(namespace))
    }

    fn has_pod(&self, pod: &Pod) -> bool {
        self.pods.iter().any(|one| std::ptr::eq(*one, pod))
    }

    /// Those in a namespace, or anywhere, that have all these labels.
    fn bound(&self, namespace: Option<&str>, selector: &Value) -> Vec<String> {
        let wanted = selector.as_object();
        let is_bound = |pod: &&&Pod| {
            let is_there = namespace.is_none_or(|name| pod.namespace().as_deref() == Some(name));
            let mut pairs = wanted.into_iter().flatten();
            is_there && pairs.all(|(key, value)| pod.labels().get(key).map(String::as_str) == value.as_str())
        };
        let name = |pod: &&Pod| format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        self.pods.iter().filter(is_bound).map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{ForeignPolicies, PolicyFlags, When};
    use crate::line::Level;
    use k8s_openapi::api::core::v1::{Namespace, Pod};
    use kube::api::DynamicObject;
    use serde_json::{Value, from_value, json};

    fn shop() -> (Vec<Namespace>, Vec<Pod>) {
        let namespace = json!({ "metadata": { "name": "shop", "labels": { "istio.io/dataplane-mode": "ambient" } } });
        let pod = json!({ "metadata": { "namespace": "shop", "name": "db-0", "labels": { "app": "db" } },
            "spec": { "containers": [] } });
        (vec![from_value(namespace).unwrap()], vec![from_value(pod).unwrap()])
    }

    fn policy(kind: &str, namespace: &str, spec: &Value) -> DynamicObject {
        from_value(json!({ "apiVersion": "security.istio.io/v1", "kind": kind,
            "metadata": { "namespace": namespace, "name": "p" }, "spec": spec }))
        .unwrap()
    }

    fn judged(policies: Vec<DynamicObject>, ignore_policies: bool) -> Vec<(Level, String)> {
        let (namespaces, pods) = shop();
        let found = ForeignPolicies {
            policies,
            ..ForeignPolicies::default()
        };
        let lines = found.judged(&namespaces, &pods, PolicyFlags { ignore_policies }, When::Preflight);
        lines.into_iter().map(|line| (line.level, line.found)).collect()
    }

    /// Enforced by waypoints alone.
    fn for_waypoints() -> Value {
        json!({ "action": "DENY", "targetRefs": [{ "kind": "Service", "name": "db" }], "rules": [{}] })
    }

    #[test]
    fn a_policy_that_is_not_enforced_and_binds_a_pod_of_the_mesh_fails_and_can_be_overridden() {
        for (kind, spec) in [
            ("AuthorizationPolicy", for_waypoints()),
            ("RequestAuthentication", json!({ "jwtRules": [{ "issuer": "a" }] })),
        ] {
            let lines = judged(vec![policy(kind, "shop", &spec)], false);
            assert_eq!(lines[0].0, Level::Fail);
            let found = &lines[0].1;
            assert!(
                found.contains(&format!("{kind} shop/p")) && found.contains("shop/db-0"),
                "{lines:?}"
            );
            assert_eq!(judged(vec![policy(kind, "shop", &spec)], true)[0].0, Level::Warn);
        }
    }

    #[test]
    fn one_of_the_root_namespace_binds_everywhere_and_a_selector_narrows() {
        let all = policy("RequestAuthentication", "istio-system", &json!({}));
        assert_eq!(judged(vec![all], false)[0].0, Level::Fail);
        let other = json!({ "selector": { "matchLabels": { "app": "web" } } });
        assert_eq!(
            judged(vec![policy("RequestAuthentication", "shop", &other)], false)[0].0,
            Level::Warn
        );
    }

    #[test]
    fn what_node_proxies_enforce_is_passed_over() {
        for spec in [json!({ "action": "DENY", "rules": [{}] }), json!({})] {
            let enforced = policy("AuthorizationPolicy", "shop", &spec);
            assert_eq!(judged(vec![enforced], false)[0].0, Level::Ok);
        }
    }

    #[test]
    fn a_waypoint_that_is_asked_for_is_mentioned() {
        let (mut namespaces, pods) = shop();
        let labels = namespaces[0].metadata.labels.as_mut().unwrap();
        labels.insert("istio.io/use-waypoint".to_owned(), "gate".to_owned());
        let lines = ForeignPolicies::default().judged(&namespaces, &pods, PolicyFlags::default(), When::Installed);
        assert_eq!(lines[0].level, Level::Warn);
        assert!(
            lines[0].found.contains("namespace shop") && lines[0].found.contains("gate"),
            "{}",
            lines[0].found
        );
    }
}
