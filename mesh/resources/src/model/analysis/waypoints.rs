//! Labels that ask for a waypoint that is not there, and waypoints that nobody asks for.

use std::collections::BTreeSet;

use culvert_objects::{
    Asked, AskedCanary, Gateway, Kind, KindSpec as _, Namespace, ObjectName, Pod, Service, ServiceEntry, waypoint,
    waypoint_canary,
};

use super::problem::Problem;
use crate::model::canary::Asks;
use crate::model::reader::Reader;
use crate::model::routed::{explain, scope};

pub(super) fn find(reader: &Reader<'_>) -> Vec<Problem> {
    let mut labels = Labels {
        reader,
        asked: BTreeSet::new(),
        problems: Vec::new(),
    };
    for (name, namespace) in reader.all::<Namespace>() {
        let of = namespace.metadata.labels.as_ref();
        // What a namespace asks for is for what is in it.
        let home = ObjectName::new(std::sync::Arc::clone(&name.name), "");
        let asked = waypoint(|key| of?.get(key).map(String::as_str));
        labels.look(Kind::Namespace, name, &home, asked);
        labels.look_at_canary(&home, &**namespace);
    }
    for (name, service) in reader.all::<Service>() {
        labels.look(Kind::Service, name, name, waypoint(|key| service.label(key)));
        labels.look_at_canary(name, &**service);
    }
    for (name, entry) in reader.all::<ServiceEntry>() {
        labels.look(Kind::ServiceEntry, name, name, waypoint(|key| entry.labels.get(key)));
        labels.look_at_canary(name, &**entry);
    }
    for (name, pod) in reader.all::<Pod>() {
        labels.look(Kind::Pod, name, name, waypoint(|key| pod.labels.get(key)));
        let canary = waypoint_canary(|key| pod.labels.get(key), |_| None);
        if let AskedCanary::Waypoint { label, .. } = canary {
            labels.problems.push(Problem::warning(
                Kind::Pod,
                name,
                &format!("metadata.labels[{label}]"),
                "a pod by its own address has no canary: the label is for namespaces, Services and ServiceEntries"
                    .to_owned(),
                "label the Service that the pod serves",
            ));
        }
    }
    let Labels {
        asked, mut problems, ..
    } = labels;
    for (name, _) in reader.all::<Gateway>() {
        if scope::gateway(reader, name).is_some() && !asked.contains(name) {
            problems.push(Problem::warning(
                Kind::Gateway,
                name,
                "",
                "no namespace, Service, ServiceEntry or pod asks for this waypoint: nothing goes through it".to_owned(),
                "label what is to go through it with culvert.dev/use-waypoint, or delete it",
            ));
        }
    }
    problems
}

struct Labels<'a, 'b> {
    reader: &'b Reader<'a>,
    asked: BTreeSet<ObjectName>,
    problems: Vec<Problem>,
}

impl Labels<'_, '_> {
    /// Takes in which canary an object asks for. What is wrong with that is a finding of who asks.
    fn look_at_canary(&mut self, object: &ObjectName, asking: &impl Asks) {
        if let AskedCanary::Waypoint { name, namespace, .. } = asking.canary() {
            self.asked
                .insert(ObjectName::new(namespace.unwrap_or(&object.namespace), name));
        }
    }

    /// Takes in what the labels of an object ask for; `object` is in the namespace that counts.
    fn look(&mut self, kind: Kind, name: &ObjectName, object: &ObjectName, asked: Asked<'_>) {
        let Asked::Waypoint {
            label,
            name: wanted,
            namespace,
        } = asked
        else {
            return;
        };
        let wanted = ObjectName::new(namespace.unwrap_or(&object.namespace), wanted);
        let gateway = scope::gateway(self.reader, &wanted);
        let is_taken = gateway.is_some_and(|gateway| scope::admits(self.reader, &wanted, gateway, &object.namespace));
        if !is_taken {
            let problem = Problem::warning(
                kind,
                name,
                &format!("metadata.labels[{label}]"),
                explain::not_there(self.reader, &wanted, object),
                "make the waypoint (`culvert waypoint apply`), let its listener's allowedRoutes admit the namespace, or take the label away",
            );
            self.problems.push(problem.error());
        }
        self.asked.insert(wanted);
    }
}
