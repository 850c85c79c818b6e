//! What is wrong with a ServiceEntry beside other objects.

use culvert_objects::{Finding, Kind, ObjectName};

use super::super::unit::Derived;
use crate::snapshot::Resource;

/// What is wrong with the entry beside other objects.
pub(super) struct Notes<'a> {
    name: &'a ObjectName,
    findings: Vec<Finding>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(name: &'a ObjectName) -> Self {
        Self {
            name,
            findings: Vec::new(),
        }
    }

    /// Adds a finding of a field.
    pub(super) fn add(&mut self, field: &str, message: impl Into<String>) {
        let finding = Finding::of_object(Kind::ServiceEntry, self.name, field, message.into());
        self.findings.push(finding);
    }

    /// What became of the entry, with all that was found.
    pub(super) fn into_derived(self, resources: Vec<Resource>) -> Derived {
        Derived {
            resources,
            findings: self.findings,
            ..Derived::default()
        }
    }
}
