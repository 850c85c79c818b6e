//! Asks the policies of one moment about a connection, and says which object decides.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use culvert_identity::SpiffeId;
use culvert_objects::{Kind, Object, ObjectName};
use culvert_policy::{Action, Connection, Policy, Scope, istio};
use culvert_proto::ADDRESS_TYPE;
use culvert_proto::security::Authorization;
use culvert_proto::workload::{Address, Workload, address};
use culvert_xds::server::Resources as _;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::Moment;
use crate::model::{Origin, origin};

/// A connection that a pod has accepted.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Asked {
    pub(super) source: IpAddr,
    /// What the source's certificate proved; none for plaintext.
    #[serde(default)]
    pub(super) identity: Option<String>,
    pub(super) destination: SocketAddr,
}

/// What policies say of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    /// The objects that decide, as `Kind namespace/name`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) by: Vec<String>,
    /// Which rule of it, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<usize>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) why: String,
}

/// The policies of one moment, ready to be asked.
pub(super) struct Judge<'a> {
    moment: &'a Moment,
    policies: BTreeMap<String, Option<Policy>>,
    /// Names of those that bind all workloads of a namespace, and under no name those of the mesh.
    scoped: HashMap<String, Vec<String>>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(moment: &'a Moment) -> Self {
        let (mut policies, mut scoped) = (BTreeMap::new(), HashMap::<_, Vec<_>>::new());
        for (name, wire) in moment.snapshot.authorizations() {
            let namespace = match Scope::from_proto(wire.scope) {
                Ok(Scope::Global) => Some(String::new()),
                Ok(Scope::Namespace) => Some(wire.namespace.clone()),
                Ok(Scope::WorkloadSelector) | Err(_) => None,
            };
            if let Some(namespace) = namespace {
                scoped.entry(namespace).or_default().push(name.clone());
            }
            policies.insert(name, Policy::from_proto(&wire).ok());
        }
        Self {
            moment,
            policies,
            scoped,
        }
    }

    /// Whether waypoints decide by this object, which no node proxy hears of: nobody can say beforehand which requests come.
    pub(super) fn is_for_waypoints(&self, object: &Object) -> bool {
        let (kind, name) = (object.kind(), object.name());
        let is_denied_instead = |policy: &String| matches!(origin(policy), Some(Origin::NotEnforced(of, named)) if of == kind && named == name);
        object.binding().is_some() && !self.policies.keys().any(is_denied_instead)
    }

    /// What the policies say; none where nobody is known at the destination.
    pub(super) fn verdict(&self, asked: &Asked) -> Option<Verdict> {
        let workload = self.workload_at(asked.destination.ip())?;
        let identity = match asked.identity.as_deref().map(SpiffeId::parse) {
            None => None,
            Some(Ok(identity)) => Some(identity),
            Some(Err(error)) => return Some(Verdict::refused(Vec::new(), None, error.to_string())),
        };
        let connection = Connection {
            identity: identity.as_ref(),
            source: asked.source,
            destination: asked.destination,
        };
        let everywhere = ["", &workload.namespace]
            .into_iter()
            .filter_map(|scope| self.scoped.get(scope));
        let names = everywhere.flatten().chain(&workload.authorization_policies);
        let (mut allowing, mut is_allowed) = (Vec::new(), false);
        for name in names {
            let Some(Some(policy)) = self.policies.get(name) else {
                return Some(Verdict::refused(
                    vec![title(name)],
                    None,
                    "it cannot be enforced".to_owned(),
                ));
            };
            if !policy.is_enforced() {
                continue;
            }
            let matches = policy.matches(&connection);
            match policy.action() {
                Action::Deny if matches => return Some(self.denied(name, &connection)),
                Action::Deny => {}
                Action::Allow => {
                    allowing.push(title(name));
                    is_allowed |= matches;
                }
            }
        }
        if allowing.is_empty() || is_allowed {
            return Some(Verdict::ALLOWED);
        }
        let why = "no rule of what allows anybody matches".to_owned();
        Some(Verdict::refused(allowing, None, why))
    }

    fn denied(&self, policy: &str, connection: &Connection<'_>) -> Verdict {
        let by = vec![title(policy)];
        match origin(policy) {
            Some(Origin::Object(Kind::AuthorizationPolicy, name)) => {
                Verdict::refused(by, self.rule(&name, connection), "it denies this".to_owned())
            }
            Some(Origin::Object(Kind::PeerAuthentication, _) | Origin::Strict) => {
                Verdict::refused(by, None, "the source has no certificate".to_owned())
            }
            Some(Origin::NotEnforced(..)) => Verdict::refused(
                by,
                None,
                "nobody enforces it yet, so what it binds is denied".to_owned(),
            ),
            Some(Origin::Waypoints(waypoints)) => Verdict::refused(
                by,
                None,
                format!(
                    "a Service here is reached through the waypoint {} alone",
                    together(&waypoints)
                ),
            ),
            Some(Origin::Object(..)) | None => Verdict::refused(by, None, "denied".to_owned()),
        }
    }

    /// Which rule of an AuthorizationPolicy matches. Each is translated by itself: what node proxies are sent may have fewer.
    fn rule(&self, name: &ObjectName, connection: &Connection<'_>) -> Option<usize> {
        let object = self.moment.objects.authorization_policies.get(name)?;
        let rules = object.spec.get("rules")?.as_array()?;
        rules.iter().position(|rule| {
            let mut spec = serde_json::Value::clone(&object.spec);
            spec["rules"] = serde_json::Value::Array(vec![rule.clone()]);
            let source = istio::Source {
                namespace: &name.namespace,
                name: &name.name,
                scope: culvert_proto::security::Scope::Global,
                dry_run: None,
                spec: &spec,
            };
            let one: Option<Authorization> = istio::authorization(&source).policy;
            let policy = one.and_then(|wire| Policy::from_proto(&wire).ok());
            policy.is_some_and(|policy| policy.matches(connection))
        })
    }

    fn workload_at(&self, address: IpAddr) -> Option<Workload> {
        let snapshot = &self.moment.snapshot;
        let names = snapshot.expand(ADDRESS_TYPE, &format!("/{}", address.to_canonical()));
        names.iter().find_map(|name| {
            let entry = snapshot.get(ADDRESS_TYPE, name)?;
            match Address::decode(&*entry.body).ok()?.r#type? {
                address::Type::Workload(workload) => Some(workload),
                address::Type::Service(_) => None,
            }
        })
    }
}

impl Verdict {
    const ALLOWED: Self = Self {
        allowed: true,
        by: Vec::new(),
        rule: None,
        why: String::new(),
    };

    fn refused(by: Vec<String>, rule: Option<usize>, why: String) -> Self {
        Self {
            allowed: false,
            by,
            rule,
            why,
        }
    }
}

/// A waypoint, and its canary if it has one.
fn together(waypoints: &[ObjectName]) -> String {
    let names: Vec<String> = waypoints.iter().map(ToString::to_string).collect();
    names.join(" or ")
}

/// What a policy of node proxies is to people: the object that it was made of.
fn title(policy: &str) -> String {
    match origin(policy) {
        Some(Origin::Object(kind, name) | Origin::NotEnforced(kind, name)) => format!("{kind} {name}"),
        Some(Origin::Strict) => "PeerAuthentication of mode STRICT".to_owned(),
        Some(Origin::Waypoints(waypoints)) => format!("waypoint {}", together(&waypoints)),
        None => policy.to_owned(),
    }
}
