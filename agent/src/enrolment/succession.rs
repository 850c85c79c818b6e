//! Who may end. A proxy that is asked to end goes on until another serves the same pods, and only the agent sees them all.

/// The proxies that serve pods, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Succession {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    id: u64,
    /// It has all pods.
    synced: bool,
    /// It was asked to end, and said so.
    ending: bool,
    /// What it was told last; nothing counts as no.
    told: bool,
}

/// A proxy, and whether it has a successor now.
pub(super) type Word = (u64, bool);

impl Succession {
    pub(super) fn joined(&mut self, id: u64) {
        self.members.push(Member {
            id,
            synced: false,
            ending: false,
            told: false,
        });
    }

    /// Returns who is to be told what; so do the others.
    pub(super) fn synced(&mut self, id: u64) -> Vec<Word> {
        self.change(id, |member| member.synced = true)
    }

    pub(super) fn ending(&mut self, id: u64) -> Vec<Word> {
        self.change(id, |member| member.ending = true)
    }

    pub(super) fn left(&mut self, id: u64) -> Vec<Word> {
        self.members.retain(|member| member.id != id);
        self.news()
    }

    fn change(&mut self, id: u64, change: impl FnOnce(&mut Member)) -> Vec<Word> {
        if let Some(member) = self.members.iter_mut().find(|member| member.id == id) {
            change(member);
        }
        self.news()
    }

    fn news(&mut self) -> Vec<Word> {
        let succeeded: Vec<bool> = (0..self.members.len()).map(|place| self.is_succeeded(place)).collect();
        let members = self.members.iter_mut().zip(succeeded);
        let news = members.filter(|(member, succeeded)| member.told != *succeeded);
        news.map(|(member, succeeded)| {
            member.told = succeeded;
            (member.id, succeeded)
        })
        .collect()
    }

    /// By one that came later; by one that was there before, when it is this one that goes, as when an update is taken back.
    fn is_succeeded(&self, place: usize) -> bool {
        let serves = |member: &Member| member.synced && !member.ending;
        let (before, after) = (&self.members[..place], &self.members[place + 1..]);
        after.iter().any(serves) || (self.members[place].ending && before.iter().any(serves))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving(ids: &[u64]) -> Succession {
        let mut all = Succession::default();
        for id in ids {
            all.joined(*id);
            all.synced(*id);
        }
        all
    }

    #[test]
    fn an_update_lets_the_old_one_end_when_the_new_one_has_all_pods() {
        let mut all = serving(&[1]);
        all.joined(2);
        assert_eq!(all.ending(1), [], "the new one has no pods yet");
        assert_eq!(all.synced(2), [(1, true)]);
        assert_eq!(all.left(1), []);
        assert_eq!(all.ending(2), [], "nobody is left");
    }

    #[test]
    fn an_update_that_is_taken_back_lets_the_new_one_end_and_the_old_one_go_on() {
        let mut all = serving(&[1, 2]);
        assert_eq!(all.ending(2), [(1, false), (2, true)]);
        assert_eq!(all.left(2), []);
        assert_eq!(all.ending(1), []);
    }

    #[test]
    fn of_two_that_end_neither_succeeds_the_other_and_a_third_succeeds_both() {
        let mut all = serving(&[1, 2]);
        assert_eq!(all.ending(1), []);
        assert_eq!(all.ending(2), [(1, false)]);
        all.joined(3);
        assert_eq!(all.synced(3), [(1, true), (2, true)]);
    }

    #[test]
    fn a_successor_that_dies_is_taken_back() {
        let mut all = serving(&[1, 2]);
        assert_eq!(all.left(2), [(1, false)]);
        assert_eq!(all.left(7), [], "a stranger changes nothing");
    }
}
