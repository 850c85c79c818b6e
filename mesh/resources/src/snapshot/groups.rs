//! Names that have something in common.

use std::sync::Arc;

use culvert_objects::PersistentMap;

/// Names of resources by what they have in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups(PersistentMap<Arc<str>, Group>);

/// Most have one member, some have thousands.
#[derive(Clone, Debug)]
enum Group {
    One(Arc<str>),
    Many(PersistentMap<Arc<str>, ()>),
}

impl Groups {
    /// Adds a member, and returns the group's name, whose text all members share.
    pub(super) fn add(&mut self, group: &str, member: &Arc<str>) -> Arc<str> {
        let key: Arc<str> = match self.0.get_key_value(group) {
            Some((key, _)) => Arc::clone(key),
            None => {
                let key: Arc<str> = group.into();
                self.0.insert(Arc::clone(&key), Group::One(Arc::clone(member)));
                return key;
            }
        };
        match self.0.get_mut(group) {
            Some(Group::Many(members)) => drop(members.insert(Arc::clone(member), ())),
            Some(one) => {
                if let Group::One(first) = &*one {
                    *one = Group::Many(
                        [(Arc::clone(first), ()), (Arc::clone(member), ())]
                            .into_iter()
                            .collect(),
                    );
                }
            }
            None => {}
        }
        key
    }

    /// Takes a member out; a group without any is gone.
    pub(super) fn take(&mut self, group: &str, member: &str) {
        let is_last = match self.0.get_mut(group) {
            None => false,
            Some(Group::One(one)) => **one == *member,
            Some(Group::Many(members)) => {
                members.remove(member);
                members.is_empty()
            }
        };
        if is_last {
            self.0.remove(group);
        }
    }

    /// Whether there is such a group.
    pub(super) fn has(&self, group: &str) -> bool {
        self.0.get(group).is_some()
    }

    /// The members of a group.
    pub(super) fn of<'a>(&'a self, group: &str) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
        let (one, many) = match self.0.get(group) {
            None => (None, None),
            Some(Group::One(one)) => (Some(one), None),
            Some(Group::Many(many)) => (None, Some(many.keys())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}
