use std::sync::Arc;

use culvert_envoy::{CLUSTER_TYPE, ROUTE_TYPE, SECRET_TYPE};
use culvert_proto::ADDRESS_TYPE;
use culvert_proto::discovery::{DeltaDiscoveryRequest, Status};
use proptest::prelude::*;

use super::{Answers, named};
use crate::authority::Caller;
use crate::refusals::{Refusals, Refuser};

const A: &str = "shop/wp/shop/a.shop.svc:80";
const B: &str = "shop/wp/shop/b.shop.svc:80";

fn waypoint() -> (Refusals, Refuser) {
    let refusals = Refusals::default();
    let caller = Caller::Workload {
        namespace: "shop".to_owned(),
        account: "wp".to_owned(),
        pod: Some("wp-1".to_owned()),
        node: None,
    };
    let refuser = refusals.of(&caller, Some(&"shop/wp".into()));
    (refusals, refuser)
}

fn sent(answers: &mut Answers, type_url: &'static str, nonce: &str, names: &[&str]) {
    let names = names.iter().map(|name| Arc::from(*name)).collect();
    answers.await_answer(type_url, nonce, Some(names));
}

fn answer(type_url: &str, nonce: &str, refusal: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url.to_owned(),
        response_nonce: nonce.to_owned(),
        error_detail: refusal.map(|message| Status {
            message: message.to_owned(),
            ..Status::default()
        }),
        ..DeltaDiscoveryRequest::default()
    }
}

/// Names, or `?` where it is not known, with what is said.
fn stands(refusals: &Refusals) -> Vec<(String, String)> {
    let all = refusals.all().borrow().clone();
    all.iter()
        .map(|refusal| (refusal.name.clone().unwrap_or("?".to_owned()), refusal.message.clone()))
        .collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn what_is_refused_by_name_stands_until_it_is_taken() {
    let (refusals, refuser) = waypoint();
    let mut answers = Answers::default();
    sent(&mut answers, ROUTE_TYPE, "1", &[A, B]);
    let message = format!("{A}: route \"x\": no; {B}: what is it");
    answers.answered(&answer(ROUTE_TYPE, "1", Some(&message)), &refuser);
    assert_eq!(stands(&refusals), pairs(&[(A, "route \"x\": no"), (B, "what is it")]));
    // What answers something older says nothing.
    answers.answered(&answer(ROUTE_TYPE, "1", None), &refuser);
    sent(&mut answers, ROUTE_TYPE, "2", &[A]);
    answers.answered(&answer(ROUTE_TYPE, "1", None), &refuser);
    assert_eq!(stands(&refusals).len(), 2);
    answers.answered(&answer(ROUTE_TYPE, "2", None), &refuser);
    assert_eq!(stands(&refusals), pairs(&[(B, "what is it")]));
    // It is refused with other message, and then not asked for any more.
    sent(&mut answers, ROUTE_TYPE, "3", &[B, A]);
    answers.answered(&answer(ROUTE_TYPE, "3", Some(&format!("{B}: still"))), &refuser);
    assert_eq!(stands(&refusals), pairs(&[(B, "still")]));
    let mut request = answer(ROUTE_TYPE, "", None);
    request.resource_names_unsubscribe = vec![B.to_owned()];
    answers.answered(&request, &refuser);
    assert_eq!(stands(&refusals), []);
}

#[test]
fn a_response_with_one_resource_is_refused_by_that_whatever_is_said() {
    let (refusals, refuser) = waypoint();
    let mut answers = Answers::default();
    sent(&mut answers, ROUTE_TYPE, "1", &[A]);
    answers.answered(&answer(ROUTE_TYPE, "1", Some("no such thing")), &refuser);
    assert_eq!(stands(&refusals), pairs(&[(A, "no such thing")]));
    // It is gone.
    sent(&mut answers, ROUTE_TYPE, "2", &[A]);
    answers.answered(&answer(ROUTE_TYPE, "2", None), &refuser);
    assert_eq!(stands(&refusals), []);
}

#[test]
fn what_one_of_several_it_is_stays_open_until_all_of_them_are_taken() {
    let (refusals, refuser) = waypoint();
    let mut answers = Answers::default();
    sent(&mut answers, CLUSTER_TYPE, "1", &[A, B]);
    answers.answered(&answer(CLUSTER_TYPE, "1", Some("no such thing")), &refuser);
    assert_eq!(stands(&refusals), pairs(&[("?", "no such thing")]));
    sent(&mut answers, CLUSTER_TYPE, "2", &[A]);
    answers.answered(&answer(CLUSTER_TYPE, "2", None), &refuser);
    assert_eq!(stands(&refusals).len(), 1, "it may be the other");
    sent(&mut answers, CLUSTER_TYPE, "3", &[B]);
    answers.answered(&answer(CLUSTER_TYPE, "3", None), &refuser);
    assert_eq!(stands(&refusals), []);
}

#[test]
fn of_very_many_resources_those_are_found_that_are_named() {
    let (refusals, refuser) = waypoint();
    let mut answers = Answers::default();
    answers.await_answer(CLUSTER_TYPE, "1", None);
    let message = format!("{A}: no; {B}: neither");
    answers.answered(&answer(CLUSTER_TYPE, "1", Some(&message)), &refuser);
    assert_eq!(stands(&refusals), pairs(&[(A, "no"), (B, "neither")]));
    answers.await_answer(CLUSTER_TYPE, "2", None);
    answers.answered(&answer(CLUSTER_TYPE, "2", None), &refuser);
    assert_eq!(stands(&refusals), []);
}

#[test]
fn envoys_messages_are_told_apart_by_the_names_in_them() {
    let subset = format!("{A}/v1");
    let message = format!("Error adding/updating cluster(s) {subset}: too large, {A}: no such thing");
    let found = named(&message, [A, B, &subset].into());
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        [(A, "no such thing"), (&*subset, "too large")]
    );
    let sentence = format!("Didn't find a registered implementation in {A}");
    assert_eq!(named(&sentence, [A, B].into())[A], sentence);
}

#[test]
fn a_waypoint_has_no_say_in_what_is_anothers_and_nobody_else_has_one_at_all() {
    let (refusals, refuser) = waypoint();
    let mut answers = Answers::default();
    sent(&mut answers, ROUTE_TYPE, "1", &["other/wp/shop/a:80"]);
    answers.answered(&answer(ROUTE_TYPE, "1", Some("no")), &refuser);
    let some_pod = Caller::Workload {
        namespace: "shop".to_owned(),
        account: "a".to_owned(),
        pod: Some("a".to_owned()),
        node: None,
    };
    let nobody = refusals.of(&some_pod, None);
    sent(&mut answers, ADDRESS_TYPE, "1", &["Kubernetes//Pod/shop/a"]);
    answers.answered(&answer(ADDRESS_TYPE, "1", Some("no")), &nobody);
    assert_eq!(stands(&refusals), []);
    // What is said of keys may be the keys.
    sent(&mut answers, SECRET_TYPE, "1", &["default"]);
    answers.answered(&answer(SECRET_TYPE, "1", Some("bad key XYZ")), &refuser);
    assert_eq!(stands(&refusals), pairs(&[("default", "its own log says why")]));
}

proptest! {
    /// Whatever a client says, and of whatever.
    #[test]
    fn no_message_of_a_client_is_too_strange(said in ".{0,200}", names in proptest::collection::vec("[a-c/:. ä]{0,6}", 0..6)) {
        let candidates = names.iter().map(String::as_str).collect();
        for (name, why) in named(&said, candidates) {
            prop_assert!(said.contains(name) && said.contains(why));
        }
    }
}
