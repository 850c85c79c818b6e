use std::time::{Duration, Instant};

use super::{Journal, Notice, Reason};
use crate::{
    enrolment::status::{PodState, PodStatus, Status},
    source::PodName,
};

fn pod(number: usize, state: PodState, problem: Option<&str>) -> PodStatus {
    PodStatus {
        name: PodName {
            namespace: "shop".into(),
            name: format!("pod-{number}"),
        },
        uid: format!("uid-{number}").into(),
        addresses: Vec::new(),
        cookie: None,
        state,
        certified: true,
        fallback: culvert_objects::Fallback::None,
        problem: problem.map(Into::into),
        unguarded: None,
        notices: Vec::new(),
    }
}

fn status(pods: Vec<PodStatus>) -> Status {
    Status {
        ready: true,
        pods,
        proxies: Vec::new(),
        letting_go: 0,
        ..Status::default()
    }
}

struct Clock {
    now: Instant,
    journal: Journal,
}

impl Clock {
    fn new() -> Self {
        let now = Instant::now();
        let mut journal = Journal::new("one", now);
        journal.observe(&status(Vec::new()), now);
        Self { now, journal }
    }

    fn observe(&mut self, pods: Vec<PodStatus>) {
        self.journal.observe(&status(pods), self.now);
    }

    /// Everything that becomes due in that time.
    fn pass(&mut self, seconds: u64) -> Vec<Notice> {
        let end = self.now + Duration::from_secs(seconds);
        let mut told = Vec::new();
        while let Some(next) = self.journal.next().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            // Rounding may ask for a moment more.
            match self.journal.due(self.now) {
                Some(notice) => told.push(notice),
                None => self.now += Duration::from_millis(1),
            }
        }
        self.now = end;
        told
    }

    fn reasons(&mut self, seconds: u64) -> Vec<(Reason, i32)> {
        let told = self.pass(seconds);
        told.into_iter()
            .map(|notice| (notice.text.reason, notice.count))
            .collect()
    }
}

#[test]
fn a_pod_that_comes_and_goes_is_told_once_each_way_and_counted_the_next_time() {
    let mut clock = Clock::new();
    for count in 1..=3 {
        clock.observe(vec![pod(1, PodState::Waiting, None)]);
        assert!(clock.pass(1).is_empty(), "one on its way has nothing to tell");
        clock.observe(vec![pod(1, PodState::Captured, None)]);
        assert_eq!(clock.reasons(2), [(Reason::Enrolled, count)]);
        assert!(clock.pass(60).is_empty(), "said once");
        clock.observe(vec![pod(1, PodState::Leaving, None)]);
        assert!(clock.pass(1).is_empty());
        clock.observe(vec![pod(1, PodState::Outside, None)]);
        assert_eq!(clock.reasons(2), [(Reason::Left, count)]);
    }
}

#[test]
fn a_pod_that_was_never_in_or_is_deleted_leaves_without_a_word() {
    let mut clock = Clock::new();
    clock.observe(vec![pod(1, PodState::Outside, None), pod(2, PodState::Captured, None)]);
    assert_eq!(clock.reasons(2), [(Reason::Enrolled, 1)]);
    clock.observe(vec![pod(1, PodState::Outside, None)]);
    assert!(clock.pass(60).is_empty());
}

#[test]
fn a_problem_is_told_only_when_it_lasts_and_with_its_remedy() {
    let mut clock = Clock::new();
    clock.observe(vec![pod(1, PodState::Failed, Some("its network namespace is gone"))]);
    assert!(clock.pass(1).is_empty());
    clock.observe(Vec::new());
    assert!(clock.pass(60).is_empty(), "a pod that ends looks broken for a moment");
    clock.observe(vec![pod(2, PodState::Failed, Some("its network namespace is gone"))]);
    let told = clock.pass(10);
    assert_eq!(told.len(), 1);
    let note = &told[0].text.note;
    assert!(
        note.contains("its network namespace is gone") && note.contains("node one"),
        "{note}"
    );
    assert!(told[0].text.reason.is_warning());
}

#[test]
fn what_an_earlier_agent_enrolled_is_not_told_again() {
    let now = Instant::now();
    let mut clock = Clock {
        now,
        journal: Journal::new("one", now),
    };
    clock.journal.observe(&Status::default(), now);
    clock.observe(vec![pod(1, PodState::Captured, None)]);
    assert!(clock.pass(60).is_empty());
    clock.observe(vec![pod(1, PodState::Outside, None)]);
    assert_eq!(clock.reasons(1), [(Reason::Left, 1)], "but its leaving is news");
}

#[test]
fn many_notices_are_spread_over_time_and_none_is_lost() {
    let mut clock = Clock::new();
    clock.observe((0..200).map(|number| pod(number, PodState::Captured, None)).collect());
    let at_once = clock.pass(1).len();
    assert!((50..=60).contains(&at_once), "{at_once}");
    assert_eq!(at_once + clock.pass(60).len(), 200);
}

#[test]
fn a_pod_that_flaps_is_told_at_most_once_a_second() {
    let mut clock = Clock::new();
    let mut told = 0;
    for round in 0..1000 {
        let state = [PodState::Captured, PodState::Outside][round % 2];
        clock.observe(vec![pod(1, state, None)]);
        clock.now += Duration::from_millis(10);
        told += usize::from(clock.journal.due(clock.now).is_some());
    }
    assert!((5..=11).contains(&told), "{told}");
}

#[test]
fn what_could_not_be_sent_is_due_again_unless_it_is_overtaken() {
    let mut clock = Clock::new();
    clock.observe(vec![pod(1, PodState::Captured, None)]);
    let notice = clock.pass(1).remove(0);
    clock.journal.failed(&notice);
    assert_eq!(clock.reasons(5), [(Reason::Enrolled, 1)], "not counted twice");
    clock.journal.failed(&notice);
    clock.observe(vec![pod(1, PodState::Outside, None)]);
    assert_eq!(clock.reasons(5), [(Reason::Left, 1)]);
}

#[test]
fn a_pod_whose_link_is_not_guarded_is_told_when_that_lasts_and_again_when_it_is() {
    let mut clock = Clock::new();
    let unguarded = || PodStatus {
        unguarded: Some("eth0: no such device".to_owned()),
        ..pod(1, PodState::Captured, None)
    };
    clock.observe(vec![pod(1, PodState::Captured, None)]);
    assert_eq!(clock.reasons(5), [(Reason::Enrolled, 1)]);
    clock.observe(vec![unguarded()]);
    clock.pass(1);
    clock.observe(vec![pod(1, PodState::Captured, None)]);
    assert_eq!(clock.reasons(5), [], "for a moment");
    clock.observe(vec![unguarded()]);
    let told = clock.pass(5);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].text.reason, Reason::Unguarded);
    assert!(
        told[0].text.note.contains("not guarded: eth0: no such device"),
        "{told:?}"
    );
    clock.observe(vec![pod(1, PodState::Captured, None)]);
    assert_eq!(clock.reasons(5), [(Reason::Enrolled, 2)]);
}
