//! A bound on the series of a metric whose label is a name.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// Names that are told apart; a node's pods, or a waypoint's Services, have fewer policies.
pub const NAMES: usize = 256;

/// What all others are counted as.
pub const OVERFLOW: &str = "overflow";

/// Names that have been counted. Copies share them.
#[derive(Clone, Debug, Default)]
pub struct BoundedNames(Arc<Mutex<HashSet<Arc<str>>>>);

impl BoundedNames {
    /// The name by which something is counted: its own, while there are no more than [`NAMES`], and else [`OVERFLOW`].
    pub fn of<'a>(&self, name: &'a str) -> &'a str {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.contains(name) {
            return name;
        }
        if names.len() >= NAMES {
            return OVERFLOW;
        }
        names.insert(name.into());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_bound_are_one_and_those_before_stay() {
        let names = BoundedNames::default();
        for number in 0..NAMES {
            let name = number.to_string();
            assert_eq!(names.clone().of(&name), name);
        }
        assert_eq!((names.of("another"), names.of("7")), (OVERFLOW, "7"));
    }
}
