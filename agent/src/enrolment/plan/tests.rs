use super::*;
use crate::source::PodName;

struct Pod(PodSpec, Phase);

impl Known for Pod {
    fn spec(&self) -> &PodSpec {
        &self.0
    }

    fn phase(&self) -> Phase {
        self.1
    }
}

fn spec(uid: &str, address: u8) -> PodSpec {
    PodSpec {
        uid: uid.into(),
        name: PodName {
            namespace: "shop".into(),
            name: uid.into(),
        },
        service_account: "default".into(),
        addresses: vec![IpAddr::from([198, 18, 0, address])],
        netns: format!("/run/netns/{uid}").into(),
        hold: culvert_objects::Hold::None,
        hold_problem: None,
        fallback: culvert_objects::Fallback::None,
        fallback_problem: None,
        same_node: culvert_objects::SameNode::Proxy,
        same_node_problem: None,
        dns: None,
        dns_problem: None,
    }
}

fn known(pods: impl IntoIterator<Item = (PodSpec, Phase)>) -> BTreeMap<Arc<str>, Pod> {
    pods.into_iter()
        .map(|(spec, phase)| (spec.uid.clone(), Pod(spec, phase)))
        .collect()
}

fn uid(text: &str) -> Arc<str> {
    text.into()
}

#[test]
fn pods_come_and_go_and_what_is_right_stays() {
    let now = known([
        (spec("stays", 1), Phase::Captured),
        (spec("goes", 2), Phase::Captured),
        (spec("hesitates", 3), Phase::Entering),
        (spec("gone", 4), Phase::Leaving),
        (spec("broken", 5), Phase::Failed),
    ]);
    let plan = plan(&[spec("stays", 1), spec("new", 6)], &now);
    assert!(plan.refused.is_empty());
    assert_eq!(
        plan.actions,
        [
            Action::Remove(uid("broken")),
            Action::Leave(uid("goes")),
            Action::Leave(uid("hesitates")),
            Action::Enter(spec("new", 6)),
        ]
    );
}

#[test]
fn a_pod_that_failed_is_tried_again_and_one_that_leaves_may_return() {
    let now = known([(spec("a", 1), Phase::Failed), (spec("b", 2), Phase::Leaving)]);
    let plan = plan(&[spec("a", 1), spec("b", 2)], &now);
    assert_eq!(
        plan.actions,
        [Action::Enter(spec("a", 1)), Action::Return(spec("b", 2))]
    );
}

#[test]
fn a_change_updates_unless_the_namespace_is_another() {
    let now = known([(spec("a", 1), Phase::Captured), (spec("b", 2), Phase::Captured)]);
    let moved = PodSpec {
        netns: "/run/netns/other".into(),
        ..spec("b", 2)
    };
    let plan = plan(&[spec("a", 9), moved.clone()], &now);
    assert_eq!(
        plan.actions,
        [
            Action::Remove(uid("b")),
            Action::Update(spec("a", 9)),
            Action::Enter(moved)
        ]
    );
}

#[test]
fn who_has_an_address_keeps_it_and_the_other_is_refused_by_name() {
    let now = known([(spec("z-was-first", 1), Phase::Captured)]);
    let outcome = plan(&[spec("a-came-later", 1), spec("z-was-first", 1)], &now);
    assert_eq!(outcome.actions, []);
    assert_eq!(outcome.refused.len(), 1);
    assert_eq!(outcome.refused[0].spec.name.name, "a-came-later");
    assert_eq!(
        outcome.refused[0].problem,
        "address 198.18.0.1 belongs to pod shop/z-was-first already"
    );

    let outcome = plan(&[spec("b", 1), spec("a", 1)], &known([]));
    assert_eq!(
        outcome.actions,
        [Action::Enter(spec("a", 1))],
        "between newcomers the name decides"
    );
    assert_eq!(outcome.refused[0].spec.name.name, "b");
}

#[test]
fn a_uid_and_a_namespace_have_one_pod() {
    let twin = PodSpec {
        name: PodName {
            namespace: "shop".into(),
            name: "b".into(),
        },
        ..spec("a", 2)
    };
    let twin = PodSpec {
        netns: "/run/netns/b".into(),
        ..twin
    };
    let outcome = plan(&[twin, spec("a", 1)], &known([]));
    assert_eq!(outcome.actions, [Action::Enter(spec("a", 1))]);
    assert_eq!(outcome.refused[0].problem, "uid a is that of pod shop/a already");

    let lodger = PodSpec {
        netns: "/run/netns/a".into(),
        ..spec("lodger", 2)
    };
    let outcome = plan(&[lodger, spec("a", 1)], &known([]));
    assert_eq!(
        outcome.refused[0].problem,
        "network namespace /run/netns/a is that of pod shop/a already"
    );
}

#[test]
fn a_new_pod_with_the_address_of_one_that_leaves_does_not_wait_for_it() {
    let now = known([(spec("old", 1), Phase::Leaving), (spec("older", 2), Phase::Captured)]);
    let plan = plan(&[spec("new", 1), spec("newer", 2)], &now);
    assert_eq!(
        plan.actions,
        [
            Action::Remove(uid("old")),
            Action::Remove(uid("older")),
            Action::Enter(spec("new", 1)),
            Action::Enter(spec("newer", 2)),
        ]
    );
}

#[test]
fn a_pod_that_takes_the_address_of_another_does_not_evict_it() {
    let now = known([(spec("a", 1), Phase::Captured), (spec("b", 2), Phase::Captured)]);
    let plan = plan(&[spec("a", 2), spec("b", 2)], &now);
    assert_eq!(plan.refused.len(), 1);
    assert_eq!(plan.refused[0].spec.name.name, "a");
    assert_eq!(plan.actions, [Action::Leave(uid("a"))]);
}
