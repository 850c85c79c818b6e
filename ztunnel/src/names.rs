//! Names of endpoints, as the event loops show them to people who look.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use culvert_dns::NameView;

/// What each loop has shown last. Written by a loop at its regular look at everything alone, never for a connection.
#[derive(Debug, Default)]
pub(crate) struct ShownNames(Mutex<BTreeMap<usize, Vec<NameView>>>);

impl ShownNames {
    /// The names of the loop with this number are these now.
    pub(crate) fn show(&self, number: usize, names: Vec<NameView>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number, names);
    }

    /// Those of all loops.
    pub(crate) fn all(&self) -> Vec<NameView> {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.values().flatten().cloned().collect()
    }
}
