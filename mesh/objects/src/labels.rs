//! Labels and annotations as they are kept: sorted, and shared by all objects that have the same.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use crate::pool::Pool;

static TEXTS: LazyLock<Pool<str>> = LazyLock::new(Pool::new);
static SETS: LazyLock<Pool<[Pair]>> = LazyLock::new(Pool::new);

type Pair = (Arc<str>, Arc<str>);

/// A text that many objects have in common, such as the name of a namespace.
pub(crate) fn shared(text: &str) -> Arc<str> {
    TEXTS.share(text)
}

/// Labels or annotations. The pods of one Deployment have the same, and share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Arc<[Pair]>);

impl Labels {
    /// All of them.
    pub(crate) fn of(all: Option<&BTreeMap<String, String>>) -> Self {
        Self::only(all, |_| true)
    }

    /// Those whose keys are wanted.
    pub(crate) fn only(all: Option<&BTreeMap<String, String>>, wanted: impl Fn(&str) -> bool) -> Self {
        // In the order of their keys, as the map has them.
        let pairs: Vec<Pair> = all
            .into_iter()
            .flatten()
            .filter(|(key, _)| wanted(key))
            .map(|(key, value)| (shared(key), shared(value)))
            .collect();
        if pairs.is_empty() {
            return Self::default();
        }
        Self(SETS.share(pairs.as_slice()))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let place = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        Some(&self.0[place].1)
    }

    /// All of them, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_are_one_and_values_are_found_by_key() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let (some, more) = (
            map(&[("a", "1"), ("c", "3")]),
            map(&[("a", "1"), ("b", "2"), ("c", "3")]),
        );
        let (first, second) = (Labels::of(Some(&some)), Labels::only(Some(&more), |key| key != "b"));
        assert!(Arc::ptr_eq(&first.0, &second.0));
        assert_eq!((first.get("c"), first.get("b")), (Some("3"), None));
        assert_eq!(first.iter().collect::<Vec<_>>(), [("a", "1"), ("c", "3")]);
        assert_eq!(Labels::of(None), Labels::default());
    }
}
