//! Which second waypoint gets a part of the connections that are for one, so that a new one is tried by some of them.
//!
//! Both are waypoints of ours that take the Service, or there is no canary: what is behind two waypoints has its policies at both, and who
//! cannot enforce them gets no share.

use culvert_objects::{
    AskedCanary, KindSpec as _, Namespace, ObjectName, Service, ServiceEntry, canary_weight, waypoint_canary,
};

use super::gateways;
use super::reader::Reader;

/// An object that may ask for waypoints.
pub(super) trait Asks {
    /// What a label of it says.
    fn says(&self, label: &str) -> Option<&str>;

    /// What an annotation of it says.
    fn notes(&self, annotation: &str) -> Option<&str>;

    /// The canary that it asks for.
    fn canary(&self) -> AskedCanary<'_> {
        waypoint_canary(|key| self.says(key), |key| self.notes(key))
    }
}

impl Asks for Service {
    fn says(&self, label: &str) -> Option<&str> {
        self.label(label)
    }

    fn notes(&self, annotation: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(annotation).map(String::as_str)
    }
}

impl Asks for Namespace {
    fn says(&self, label: &str) -> Option<&str> {
        self.label(label)
    }

    fn notes(&self, annotation: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(annotation).map(String::as_str)
    }
}

impl Asks for ServiceEntry {
    fn says(&self, label: &str) -> Option<&str> {
        self.labels.get(label)
    }

    fn notes(&self, annotation: &str) -> Option<&str> {
        self.annotations.get(annotation)
    }
}

/// A canary and how many of a hundred connections it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Canary {
    pub(super) name: ObjectName,
    pub(super) weight: u32,
}

/// A field, and what is wrong with it.
pub(super) type Fault = (String, String);

/// The canary beside the waypoint that an object of this name asks for, by itself or by the namespace that is given, and what is wrong
/// with that. One whose weight is none is told everything and gets nothing, so that what it carries already goes on.
pub(super) fn beside(
    reader: &Reader<'_>,
    of: &ObjectName,
    primary: Option<&ObjectName>,
    own: &impl Asks,
    namespace: Option<&Namespace>,
) -> (Option<Canary>, Vec<Fault>) {
    let (asked, by) = match (own.canary(), namespace) {
        (AskedCanary::Nothing, Some(namespace)) => (namespace.canary(), "its namespace says so, and "),
        (asked, _) => (asked, ""),
    };
    let AskedCanary::Waypoint {
        label,
        name,
        namespace: home,
        weight,
    } = asked
    else {
        let stray = canary_weight(|key| own.notes(key));
        let stray = stray.filter(|_| asked == AskedCanary::Nothing);
        let why = "it is the weight of a canary, and no label names one";
        let faults = stray.map(|(annotation, _)| (annotated(annotation), why.to_owned()));
        return (None, faults.into_iter().collect());
    };
    let found = ObjectName::new(home.unwrap_or(&of.namespace), name);
    let field = format!("metadata.labels[{label}]");
    let none = |why: String| {
        (
            None,
            vec![(field.clone(), format!("{by}{why}: the canary gets no connection"))],
        )
    };
    let Some(primary) = primary else {
        return none("there is no waypoint beside it".to_owned());
    };
    if found == *primary {
        return none(format!("{found} is the waypoint itself"));
    }
    if let Some(missing) = [&found, primary]
        .into_iter()
        .find(|one| !gateways::takes(reader, one, &of.namespace))
    {
        return none(format!(
            "there is no waypoint {missing} of Culvert that takes what is of namespace {}",
            of.namespace
        ));
    }
    let (weight, faults) = match weight {
        Ok(weight) => (weight, Vec::new()),
        Err(bad) => {
            let why = format!("{by}{bad}: the canary gets no connection");
            (0, vec![(annotated(bad.annotation), why)])
        }
    };
    (Some(Canary { name: found, weight }), faults)
}

fn annotated(annotation: &str) -> String {
    format!("metadata.annotations[{annotation}]")
}
