//! Policies that nobody enforces, and labels that ask for a waypoint that is not there: what they bind is denied. Whoever wrote them must not learn
//! of that from an incident.

use crate::{
    cluster::{Cluster, list, names},
    line::{Level, Line},
};
use clap::Args;
use culvert_objects::{Enrolment, Findings, USE_WAYPOINT, enrolment};
use culvert_resources::{
    files::{self, File, World},
    model::{Model, NotEnforced, Settings},
};
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

/// Kinds of others that decide who reaches a pod, or whether a waypoint decides that.
const KINDS: [(&str, &str, &str); 5] = [
    ("security.istio.io", "v1", "AuthorizationPolicy"),
    ("security.istio.io", "v1", "RequestAuthentication"),
    ("networking.istio.io", "v1", "ServiceEntry"),
    ("gateway.networking.k8s.io", "v1", "Gateway"),
    ("gateway.networking.k8s.io", "v1", "GatewayClass"),
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
    /// Objects of [`KINDS`], as the API server has them, with version and kind.
    pub(crate) objects: Vec<Value>,
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
                Ok(list) => found.objects.extend(list.items.into_iter().filter_map(|object| {
                    let mut object = serde_json::to_value(object).ok()?;
                    object["apiVersion"] = format!("{group}/{version}").into();
                    object["kind"] = kind.into();
                    Some(object)
                })),
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(_) => found.hidden.push(kind),
            }
        }
        let services = list(&cluster.all(), &ListParams::default(), "").await;
        found.services = services.unwrap_or_default();
        let config: Api<k8s_openapi::api::core::v1::ConfigMap> = cluster.ours();
        let config = config.get_opt(names::CONFIG).await.ok().flatten();
        found.root_namespace = config.and_then(|map| map.data?.get("root-namespace").cloned());
        found
    }

    /// A line for each that would bind a pod of the mesh, and before an installation for each that might, or one good line. What is
    /// enforced is judged as the controller does, by the same code.
    pub(crate) fn judged(&self, namespaces: &[Namespace], pods: &[Pod], flags: PolicyFlags, when: When) -> Vec<Line> {
        let model = self.model(namespaces, pods);
        let level = if flags.ignore_policies {
            Level::Warn
        } else {
            Level::Fail
        };
        let mut lines: Vec<Line> = model
            .not_enforced()
            .iter()
            .filter_map(|found| not_enforced(found, level, when))
            .collect();
        lines.extend(missing_waypoints(&model, &Enrolled::of(namespaces, pods)));
        if !self.hidden.is_empty() {
            let found = format!("may not be listed: {}", self.hidden.join(", "));
            let remedy = "ask for the right to list them: some that are there may not be enforced";
            lines.push(Line::warn("cluster", "policies", found, remedy));
        }
        if lines.is_empty() {
            let found = "none is there that the mesh would have to enforce and does not";
            return vec![Line::ok("cluster", "policies", found)];
        }
        lines
    }

    /// What a controller would make of all that says who is reached, and how.
    fn model(&self, namespaces: &[Namespace], pods: &[Pod]) -> Model {
        let values = |list: &mut dyn Iterator<Item = serde_json::Result<Value>>| -> String {
            list.flatten().map(|value| format!("{value}\n")).collect()
        };
        let text = values(&mut self.objects.iter().cloned().map(Ok))
            + &values(&mut self.services.iter().map(serde_json::to_value))
            + &values(&mut namespaces.iter().map(serde_json::to_value))
            + &values(&mut pods.iter().map(serde_json::to_value));
        let read = files::read(&[File {
            name: "objects.json".to_owned(),
            text,
        }]);
        let root = self.root_namespace.as_deref().unwrap_or(ROOT_NAMESPACE);
        World::of_files(&read).model(Settings {
            root_namespace: root.to_owned(),
            ..Settings::default()
        })
    }
}

fn not_enforced(NotEnforced { kind, name, pods }: &NotEnforced, level: Level, when: When) -> Option<Line> {
    match pods.first() {
        Some(first) => Some(Line {
            level,
            ..Line::fail(
                "cluster",
                "policies",
                format!(
                    "{kind} {name} is not enforced: nobody may reach what it binds, {} in the mesh, the first is {first}",
                    pods_in_words(pods.len())
                ),
                REMEDY,
            )
        }),
        None if when == When::Installed => None,
        None => Some(Line::warn(
            "cluster",
            "policies",
            format!("{kind} {name} is not enforced: nobody could reach the pods that it binds if they joined the mesh"),
            "put its Service behind a waypoint of Culvert, remove it before they do, or leave them out",
        )),
    }
}

/// Labels that ask for a waypoint that is not there, of what has pods in the mesh.
fn missing_waypoints(model: &Model, mesh: &Enrolled<'_>) -> Vec<Line> {
    let problems = model.analyze(&Findings::default()).into_iter();
    let asking = problems.filter(|problem| USE_WAYPOINT.iter().any(|label| problem.field.contains(label)));
    let in_mesh = asking.filter(|problem| {
        let name = problem.object.split_once(' ').map_or("", |(_, name)| name);
        mesh.has(name.split_once('/').map_or(name, |(namespace, _)| namespace))
    });
    in_mesh
        .map(|problem| {
            let found = format!("{}: {}", problem.object, problem.message);
            Line::warn("cluster", "policies", found, problem.remedy)
        })
        .collect()
}

const REMEDY: &str = "put the Service that it is for behind a waypoint of Culvert, remove it, keep these pods out of the mesh \
                      (culvert.dev/mesh: none), or go on in spite of it by --ignore-policies";

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
}

#[cfg(test)]
mod tests {
    use super::{ForeignPolicies, PolicyFlags, When};
    use crate::line::Level;
    use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
    use serde_json::{Value, from_value, json};

    fn shop() -> (Vec<Namespace>, Vec<Pod>) {
        let namespace = json!({ "metadata": { "name": "shop", "labels": { "istio.io/dataplane-mode": "ambient" } } });
        let pod = json!({ "metadata": { "namespace": "shop", "name": "db-0", "labels": { "app": "db" } },
            "spec": { "containers": [], "nodeName": "n1" },
            "status": { "phase": "Running", "podIP": "198.18.0.1", "podIPs": [{ "ip": "198.18.0.1" }] } });
        (vec![from_value(namespace).unwrap()], vec![from_value(pod).unwrap()])
    }

    fn db(labels: &Value) -> Service {
        let value = json!({ "metadata": { "name": "db", "namespace": "shop", "labels": labels },
            "spec": { "clusterIP": "198.19.0.1", "clusterIPs": ["198.19.0.1"], "selector": { "app": "db" },
                "ports": [{ "name": "http", "port": 80 }] } });
        from_value(value).unwrap()
    }

    fn policy(kind: &str, namespace: &str, spec: &Value) -> Value {
        json!({ "apiVersion": "security.istio.io/v1", "kind": kind,
            "metadata": { "namespace": namespace, "name": "p" }, "spec": spec })
    }

    fn waypoint() -> Value {
        json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": { "namespace": "shop", "name": "wp" },
            "spec": { "gatewayClassName": "culvert-waypoint",
                "listeners": [{ "name": "mesh", "port": 15008, "protocol": "HBONE" }] } })
    }

    fn judged(objects: Vec<Value>, service: Service, ignore_policies: bool) -> Vec<(Level, String)> {
        let (namespaces, pods) = shop();
        let found = ForeignPolicies {
            objects,
            services: vec![service],
            ..ForeignPolicies::default()
        };
        let lines = found.judged(&namespaces, &pods, PolicyFlags { ignore_policies }, When::Preflight);
        lines.into_iter().map(|line| (line.level, line.found)).collect()
    }

    /// Enforced by waypoints alone.
    fn for_waypoints() -> Value {
        json!({ "action": "DENY", "targetRefs": [{ "kind": "Service", "group": "", "name": "db" }], "rules": [{}] })
    }

    #[test]
    fn a_policy_that_is_not_enforced_and_binds_a_pod_of_the_mesh_fails_and_can_be_overridden() {
        for (kind, spec) in [
            ("AuthorizationPolicy", for_waypoints()),
            ("RequestAuthentication", json!({ "jwtRules": [{ "issuer": "a" }] })),
        ] {
            let lines = judged(vec![policy(kind, "shop", &spec)], db(&json!({})), false);
            assert_eq!(lines[0].0, Level::Fail, "{lines:?}");
            let found = &lines[0].1;
            assert!(
                found.contains(&format!("{kind} shop/p")) && found.contains("shop/db-0"),
                "{lines:?}"
            );
            let ignored = judged(vec![policy(kind, "shop", &spec)], db(&json!({})), true);
            assert_eq!(ignored[0].0, Level::Warn);
        }
    }

    #[test]
    fn a_policy_of_a_service_behind_a_waypoint_is_enforced_there_and_passed_over() {
        let behind = db(&json!({ "culvert.dev/use-waypoint": "wp" }));
        for kind in ["AuthorizationPolicy", "RequestAuthentication"] {
            let lines = judged(
                vec![policy(kind, "shop", &for_waypoints()), waypoint()],
                behind.clone(),
                false,
            );
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert_eq!(lines[0].0, Level::Ok, "{lines:?}");
        }
        // Without the waypoint both are said: the label that leads nowhere, and the policy that nobody enforces.
        let lines = judged(
            vec![policy("AuthorizationPolicy", "shop", &for_waypoints())],
            behind,
            false,
        );
        assert_eq!(
            lines.iter().map(|line| line.0).collect::<Vec<_>>(),
            [Level::Fail, Level::Warn]
        );
    }

    #[test]
    fn one_of_the_root_namespace_binds_everywhere_and_a_selector_narrows() {
        let of = |namespace: &str, spec: &Value| {
            judged(
                vec![policy("RequestAuthentication", namespace, spec)],
                db(&json!({})),
                false,
            )
        };
        assert_eq!(of("istio-system", &json!({}))[0].0, Level::Fail);
        let other = json!({ "selector": { "matchLabels": { "app": "web" } } });
        assert_eq!(of("shop", &other)[0].0, Level::Warn);
    }

    #[test]
    fn what_node_proxies_enforce_is_passed_over() {
        for spec in [json!({ "action": "DENY", "rules": [{}] }), json!({})] {
            let enforced = policy("AuthorizationPolicy", "shop", &spec);
            assert_eq!(judged(vec![enforced], db(&json!({})), false)[0].0, Level::Ok);
        }
    }

    #[test]
    fn a_waypoint_that_is_asked_for_and_not_there_is_said_and_one_that_is_there_is_not() {
        let (mut namespaces, pods) = shop();
        let labels = namespaces[0].metadata.labels.as_mut().unwrap();
        labels.insert("istio.io/use-waypoint".to_owned(), "wp".to_owned());
        let of = |objects: Vec<Value>| {
            let found = ForeignPolicies {
                objects,
                ..ForeignPolicies::default()
            };
            found.judged(&namespaces, &pods, PolicyFlags::default(), When::Installed)
        };
        let lines = of(Vec::new());
        assert_eq!(lines[0].level, Level::Warn);
        assert!(
            lines[0].found.contains("Namespace shop") && lines[0].found.contains("no waypoint shop/wp"),
            "{}",
            lines[0].found
        );
        assert_eq!(of(vec![waypoint()])[0].level, Level::Ok);
    }
}
