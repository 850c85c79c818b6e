//! Who of several objects an address belongs to.

use std::cmp::Reverse;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::index::Reference;
use crate::finding::Finding;
use crate::kinds::{Kind, Object};
use crate::name::ObjectName;

/// Where an object is written. Places come in the order of files' paths, then of documents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The file.
    pub(crate) file: Arc<Path>,
    /// Which object of the file, from 0.
    pub(crate) nth: usize,
    /// Which document of the file, from 1: a list is one document.
    pub(crate) document: usize,
    /// Line of the document's start, from 1.
    pub(crate) line: usize,
}

impl Place {
    /// The finding, with the place.
    pub(crate) fn of(&self, finding: Finding) -> Finding {
        Finding {
            file: self.file.to_path_buf(),
            document: self.document,
            line: Some(self.line),
            ..finding
        }
    }
}

/// An object's claim on its addresses. The least of several counts. Names decide between equals, so that the outcome does
/// not depend on the order in which objects arrived.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    rank: Rank,
    kind: Kind,
    name: ObjectName,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Where it is written.
    Place(Place),
    Service(Option<Time>),
    /// Whether it is being deleted, and since when it runs.
    Pod(bool, Reverse<Option<Time>>),
}

impl Claim {
    /// The claim of a Service or pod, which may be written somewhere; none for other objects.
    pub(super) fn of(object: &Object, name: &ObjectName, place: Option<&Place>) -> Option<Self> {
        let rank = match object {
            Object::Service(_) | Object::Pod(_) if place.is_some() => Rank::Place(place?.clone()),
            Object::Service(service) => Rank::Service(service.metadata.creation_timestamp.clone()),
            Object::Pod(pod) => Rank::Pod(pod.is_deleted, Reverse(pod.since.clone())),
            _ => return None,
        };
        Some(Self {
            rank,
            kind: object.kind(),
            name: name.clone(),
        })
    }

    /// Whose claim it is.
    pub(super) fn reference(&self) -> Reference {
        (self.kind, self.name.clone())
    }
}
