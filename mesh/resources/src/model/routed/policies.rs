//! A policy for waypoints by itself: what is wrong with it, and with what it is for.

use culvert_objects::{
    AuthorizationPolicy, Binding, Finding, Kind, KindSpec as _, ObjectName, RequestAuthentication, Target,
};
use culvert_policy::istio::request::{self, Layer};

use super::super::reader::Reader;
use super::super::unit::Derived;
use super::super::wire;
use super::{ports, providers, scope};
use crate::routing::read::notes::Notes;
use crate::routing::read::tokens;

/// The findings of an AuthorizationPolicy or RequestAuthentication that is for waypoints.
pub(in crate::model) fn derive(reader: &Reader<'_>, kind: Kind, name: &ObjectName) -> Derived {
    let mut instead = "nobody may reach what is behind it";
    let mut instead_of_all = "nobody may reach the pods that it may mean";
    let (binding, mut notes, needs_requests) = match kind {
        Kind::AuthorizationPolicy => {
            let Some(policy) = reader.own::<AuthorizationPolicy>(name) else {
                return Derived::default();
            };
            // What is for pods has its findings where that is made.
            let Some(binding) = policy.binding() else {
                return Derived::default();
            };
            let read = |layer| request::requests(&name.namespace, &policy.spec, policy.dry_run.as_deref(), layer);
            let notes = read(Layer::Requests)
                .notes
                .into_iter()
                .map(|note| (note.field, note.message));
            let asks = read(Layer::Requests).policy.and_then(|policy| policy.asks);
            let unasked = asks
                .as_deref()
                .and_then(|name| providers::authorizer(reader, name).err());
            let unasked = unasked.map(|why| {
                (
                    "spec.provider.name".to_owned(),
                    format!("{why}: what the policy matches is denied"),
                )
            });
            if !policy.decides() {
                instead = "it says nothing of what is behind it";
                instead_of_all = "it says nothing of any";
            }
            let needs_requests = (policy.decides() && read(Layer::Connections).needs_requests).then(|| {
                if asks.is_some() {
                    "nobody is asked about connections, and those that meet its other conditions are denied"
                } else if policy.spec["action"] == "ALLOW" || policy.spec["action"].is_null() {
                    "its rules about requests allow nobody there"
                } else {
                    "its rules about requests deny everybody there who meets their other conditions"
                }
            });
            (binding, notes.chain(unasked).collect::<Vec<_>>(), needs_requests)
        }
        _ => {
            let Some(object) = reader.own::<RequestAuthentication>(name) else {
                return Derived::default();
            };
            let Some(binding) = object.binding() else {
                return Derived::default();
            };
            let mut notes = Notes::default();
            tokens::rules(&object.spec, &|source| reader.fetched(source), &mut notes);
            let notes = notes
                .all()
                .iter()
                .map(|note| (note.field.clone(), note.message.clone()));
            (binding, notes.collect(), None)
        }
    };
    match binding {
        Binding::Targets(targets) => {
            for (index, target) in targets.iter().enumerate() {
                let at = format!("spec.targetRefs[{index}]");
                if let Err(why) = reached(reader, name, target, instead) {
                    notes.push((at, why));
                } else if let Some(there) = needs_requests
                    && let Some(port) = tcp_port(reader, name, target)
                {
                    notes.push((at, format!("port {port} of it is not HTTP: {there}")));
                }
            }
        }
        _ => notes.push(match contradicts(reader, kind, name) {
            true => (
                "spec.selector".to_owned(),
                format!("it has targetRefs as well, so that one cannot tell whom it is for: {instead_of_all}"),
            ),
            false => (
                "spec.targetRefs".to_owned(),
                format!("waypoints alone enforce it, and it names nothing that one is for: {instead_of_all}"),
            ),
        }),
    }
    Derived {
        findings: notes
            .into_iter()
            .map(|(field, message)| Finding::of_object(kind, name, &field, message))
            .collect(),
        ..Derived::default()
    }
}

/// Whether it selects pods and names objects.
fn contradicts(reader: &Reader<'_>, kind: Kind, name: &ObjectName) -> bool {
    let spec = match kind {
        Kind::AuthorizationPolicy => reader.own::<AuthorizationPolicy>(name).map(|policy| &policy.spec),
        _ => reader.own::<RequestAuthentication>(name).map(|object| &object.spec),
    };
    let has = |field: &str| spec.is_some_and(|spec| spec.get(field).is_some_and(|value| !value.is_null()));
    has("selector") && (has("targetRefs") || has("targetRef"))
}

/// Whether a target is there, and behind a waypoint that enforces the policy. `denied` says what follows where it is not.
fn reached(reader: &Reader<'_>, name: &ObjectName, target: &Target, denied: &str) -> Result<(), String> {
    let object = target.object(name);
    let kind = &target.kind;
    if !scope::is_target_group(target) {
        return Err(format!(
            "waypoints are for no {kind} of group {:?}: nothing is bound by it",
            target.group
        ));
    }
    match &*target.kind {
        "GatewayClass" if *name.namespace != *reader.settings().root_namespace => Err(format!(
            "only a policy of namespace {} is for a class: nothing is bound by it",
            reader.settings().root_namespace
        )),
        "GatewayClass" => Ok(()),
        _ if *object.namespace != *name.namespace => Err(format!(
            "{kind} {object} is in another namespace, which is not its own to decide about: {denied}"
        )),
        "Gateway" => match scope::gateway(reader, &object) {
            Some(_) => Ok(()),
            None => Err(format!(
                "there is no waypoint {object} of Culvert: nothing is bound by it"
            )),
        },
        _ if scope::of_target(reader, name, target) => Ok(()),
        _ => Err(format!(
            "{kind} {object} is behind no waypoint of Culvert, or is not there: {denied}"
        )),
    }
}

/// A port of a Service that is not HTTP.
fn tcp_port(reader: &Reader<'_>, name: &ObjectName, target: &Target) -> Option<u16> {
    if &*target.kind != "Service" {
        return None;
    }
    let resource = wire::service_name(reader.settings(), &target.object(name));
    let service = reader.derived_service(&resource)?;
    let object = ports::of_object(reader, &service);
    ports::of_service(&service).find(|port| ports::protocol(&service, object.as_ref(), *port).is_tcp())
}
