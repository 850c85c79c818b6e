//! A model at one moment, for questions that take long: whoever follows the objects makes it at once, and it is asked elsewhere.

use culvert_objects::{Findings, Kind, ObjectName, Objects};

use super::allocation::Allocations;
use super::index::Index;
use super::reader::Reader;
use super::routed::behind::Behind;
use super::settings::Settings;
use super::{Problem, ServiceRules, analysis, routed};
use crate::keys::Fetched;
use crate::snapshot::Snapshot;

/// What a model knew at one moment. It shares that with the model, so that making it costs nothing; each question costs a look at all
/// objects.
#[derive(Clone, Debug)]
pub struct View {
    pub(super) settings: Settings,
    pub(super) objects: Objects,
    pub(super) allocations: Allocations,
    pub(super) snapshot: Snapshot,
    pub(super) fetched: Fetched,
    /// What was found of single objects, by their source and by the model.
    pub(super) findings: Findings,
}

impl View {
    /// Everything that is wrong or without effect, the worst first.
    pub fn analyze(&self) -> Vec<Problem> {
        self.read(|reader| analysis::analyze(reader, &self.findings))
    }

    /// What holds at a Service, rule by rule; none where there is no such Service.
    pub fn rules(&self, service: &ObjectName) -> Option<ServiceRules> {
        self.read(|reader| routed::explain::service(reader, service))
    }

    /// Files everything by what it is found by, as the model has it and keeps it for itself.
    fn read<T>(&self, ask: impl FnOnce(&Reader<'_>) -> T) -> T {
        let mut index = Index::default();
        for kind in Kind::ALL.iter().copied() {
            for name in Objects::default().changed(kind, &self.objects) {
                if let Some(object) = self.objects.get(kind, &name) {
                    index.file(&name, &object);
                }
            }
        }
        let behind = Behind::of_all(&self.snapshot);
        let reader = Reader::new(
            &self.settings,
            &self.objects,
            &index,
            &self.allocations,
            &self.snapshot,
            &behind,
            &self.fetched,
        );
        ask(&reader)
    }
}
