//! Who may connect to a workload: Istio's AuthorizationPolicy and PeerAuthentication become policies for node proxies, and pods
//! and WorkloadEntries name those that select them.
//!
//! What an object means by itself is `culvert_policy::istio`'s to say. Here is whom it binds, and which of several counts.

use std::collections::BTreeSet;
use std::sync::Arc;

use culvert_objects::{
    AuthorizationPolicy, Finding, Held, Key, Kind, KindSpec as _, Labels, ObjectName, PeerAuthentication, Selector,
};
use culvert_policy::istio::{self, Mode, Mtls, Note};
use culvert_proto::security::{Action, Authorization, Rule, Scope};

use super::reader::Reader;
use super::restriction;
use super::unit::Derived;
use crate::snapshot::Resource;

/// The policy of the root namespace by which all ports of a workload ask for certificates.
pub(super) const STRICT: &str = "istio_converted_static_strict";
/// What comes before the name of a PeerAuthentication whose ports differ, in the name of its policy.
pub(super) const CONVERTED: &str = "converted_peer_authentication_";

/// What an AuthorizationPolicy becomes.
pub(super) fn authorization(reader: &Reader<'_>, name: &ObjectName, policy: &AuthorizationPolicy) -> Derived {
    if policy.binding().is_some() {
        // What audits or is tried out keeps nobody out, whatever it binds.
        let object = reader
            .own_of(Kind::AuthorizationPolicy, name)
            .filter(|_| policy.decides());
        let instead = object.and_then(|object| restriction::policy(reader, name, &object));
        return Derived {
            resources: instead.iter().map(Resource::authorization).collect(),
            ..Derived::default()
        };
    }
    let is_root = *name.namespace == *reader.settings().root_namespace;
    let scope = match (&policy.selector, is_root) {
        (Selector::Labels(_), _) => Scope::WorkloadSelector,
        (Selector::All | Selector::Unknown(_), true) => Scope::Global,
        (Selector::All | Selector::Unknown(_), false) => Scope::Namespace,
    };
    let mut made = istio::authorization(&istio::Source {
        namespace: &name.namespace,
        name: &name.name,
        scope,
        dry_run: policy.dry_run.as_deref(),
        spec: &policy.spec,
    });
    if let (Selector::Unknown(field), Some(policy)) = (&policy.selector, &mut made.policy) {
        made.notes.push(Note {
            field: field.clone(),
            message: "it is not understood, so that it may mean any pod: nobody may reach any of them".to_owned(),
        });
        policy.set_action(Action::Deny);
        policy.rules = vec![Rule::default()];
    }
    Derived {
        resources: made.policy.iter().map(Resource::authorization).collect(),
        findings: findings(Kind::AuthorizationPolicy, name, made.notes),
        ..Derived::default()
    }
}

/// What a PeerAuthentication becomes: a policy of its own where the ports of the pods that it selects differ.
pub(super) fn peer_authentication(reader: &Reader<'_>, name: &ObjectName, peer: &PeerAuthentication) -> Derived {
    let (read, mut notes) = istio::PeerAuthentication::read(&peer.spec);
    let policy = match &peer.selector {
        Selector::Labels(_) => {
            let mtls = Mtls::of(Some(&read), inherited(reader, &name.namespace));
            if mtls.exceptions.is_empty() {
                None
            } else {
                mtls.policy(&name.namespace, &format!("{CONVERTED}{}", name.name))
            }
        }
        Selector::All => {
            if !read.ports.is_empty() {
                notes.push(Note {
                    field: "spec.portLevelMtls".to_owned(),
                    message: if asks(&read) {
                        "it needs a selector: the mode is STRICT for all ports".to_owned()
                    } else {
                        "it needs a selector: it is left out".to_owned()
                    },
                });
            }
            let counts = of_namespace(reader, &name.namespace);
            if let Some((other, _)) = counts.filter(|(other, _)| *other != name) {
                notes.push(Note {
                    field: "spec".to_owned(),
                    message: format!(
                        "PeerAuthentication {other} is for the same pods and older: this one does not count"
                    ),
                });
            }
            None
        }
        Selector::Unknown(field) => {
            let instead = if asks(&read) {
                "the mode is STRICT for all of them"
            } else {
                "it is left out"
            };
            notes.push(Note {
                field: field.clone(),
                message: format!("it is not understood, so that it may mean any pod: {instead}"),
            });
            None
        }
    };
    Derived {
        resources: policy.iter().map(Resource::authorization).collect(),
        findings: findings(Kind::PeerAuthentication, name, notes),
        ..Derived::default()
    }
}

/// The policy by which all ports ask for certificates, where there is anything that may.
pub(super) fn strict(reader: &Reader<'_>) -> Option<Authorization> {
    reader.all::<PeerAuthentication>().next()?;
    let mtls = Mtls {
        mode: Mode::Strict,
        exceptions: BTreeSet::new(),
    };
    mtls.policy(&reader.settings().root_namespace, STRICT)
}

/// The policies that select a workload of `namespace` with these labels, by their resources' names: those for certificates
/// last.
pub(super) fn of_workload(reader: &Reader<'_>, namespace: &Arc<str>, labels: &Labels) -> Vec<String> {
    let root = reader.settings().root_namespace.as_str();
    let own = selecting::<AuthorizationPolicy>(reader, namespace, labels);
    let everywhere = reader.find::<AuthorizationPolicy>(Key::some_in(Kind::AuthorizationPolicy.name(), root));
    let everywhere = everywhere.filter(|(policy, _)| *policy.namespace == *root);
    let bound: BTreeSet<&ObjectName> = own
        .into_iter()
        .chain(everywhere)
        .filter(|(_, policy)| matches!(policy.selector, Selector::Labels(_)) && policy.selector.selects(labels))
        .filter(|(_, policy)| istio::is_for_node_proxies(&policy.spec))
        .map(|(name, _)| name)
        .collect();
    let mut names: Vec<String> = bound.into_iter().map(ToString::to_string).collect();
    let peers = selecting::<PeerAuthentication>(reader, namespace, labels).into_iter();
    let own =
        oldest(peers.filter(|(_, peer)| matches!(peer.selector, Selector::Labels(_)) && peer.selector.selects(labels)));
    let read = own.map(|(_, peer)| istio::PeerAuthentication::read(&peer.spec).0);
    let mtls = Mtls::of(read.as_ref(), inherited(reader, namespace));
    match (own, mtls.exceptions.is_empty(), mtls.mode) {
        (Some((peer, _)), false, _) => names.push(format!("{}/{CONVERTED}{}", peer.namespace, peer.name)),
        (_, true, Mode::Strict) => names.push(format!("{root}/{STRICT}")),
        (_, true, Mode::Permissive) | (None, false, _) => {}
    }
    names
}

/// Objects of the workload's namespace that may select it.
fn selecting<'a, T: Held>(
    reader: &Reader<'a>,
    namespace: &Arc<str>,
    labels: &Labels,
) -> Vec<(&'a ObjectName, &'a Arc<T>)> {
    let found = labels.iter().flat_map(|(label, value)| {
        let key = Key::selector(namespace, label, value);
        reader.find::<T>(key)
    });
    found.filter(|(other, _)| other.namespace == *namespace).collect()
}

/// What a namespace and the mesh say, the nearest first.
fn inherited(reader: &Reader<'_>, namespace: &str) -> [Option<Mode>; 2] {
    let root = reader.settings().root_namespace.as_str();
    [namespace, root].map(|namespace| {
        let unknown = reader
            .find::<PeerAuthentication>(Key::all_in(Kind::PeerAuthentication.name(), namespace))
            .filter(|(name, peer)| *name.namespace == *namespace && matches!(peer.selector, Selector::Unknown(_)));
        let mut unknown = unknown.map(|(_, peer)| istio::PeerAuthentication::read(&peer.spec).0);
        if unknown.any(|read| asks(&read)) {
            return Some(Mode::Strict);
        }
        let (_, peer) = of_namespace(reader, namespace)?;
        let read = istio::PeerAuthentication::read(&peer.spec).0;
        if asks(&read) { Some(Mode::Strict) } else { read.mode }
    })
}

/// The PeerAuthentication for all pods of a namespace.
fn of_namespace<'a>(reader: &Reader<'a>, namespace: &str) -> Option<(&'a ObjectName, &'a Arc<PeerAuthentication>)> {
    let all = reader.find::<PeerAuthentication>(Key::all_in(Kind::PeerAuthentication.name(), namespace));
    oldest(all.filter(|(name, peer)| *name.namespace == *namespace && peer.selector == Selector::All))
}

/// The first of several that are for the same pods: the oldest counts, then the first by name.
fn oldest<'a>(
    all: impl Iterator<Item = (&'a ObjectName, &'a Arc<PeerAuthentication>)>,
) -> Option<(&'a ObjectName, &'a Arc<PeerAuthentication>)> {
    all.min_by_key(|(name, peer)| (peer.created.as_ref().map(|created| created.0), *name))
}

/// Whether it asks for certificates anywhere.
fn asks(read: &istio::PeerAuthentication) -> bool {
    read.mode == Some(Mode::Strict) || read.ports.values().any(|mode| *mode == Some(Mode::Strict))
}

fn findings(kind: Kind, name: &ObjectName, notes: Vec<Note>) -> Vec<Finding> {
    let finding = |note: Note| Finding::of_object(kind, name, &note.field, note.message);
    notes.into_iter().map(finding).collect()
}
