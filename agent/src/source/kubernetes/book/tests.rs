use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{Book, Origin, Place};
use crate::source::{
    PodName, Snapshot,
    kubernetes::{
        Verdict,
        facts::{Facts, deciding_labels},
    },
};

mod world;

/// A pod of namespace `shop`, running at 198.18.0.1 unless `changes` say otherwise (a JSON merge patch).
fn facts(name: &str, uid: &str, changes: Value) -> Facts {
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "shop", "uid": uid, "labels": { "app": "web" } },
        "spec": { "nodeName": "one", "containers": [{ "name": "c", "image": "i" }] },
        "status": { "phase": "Running", "podIP": "198.18.0.1", "podIPs": [{ "ip": "198.18.0.1" }] },
    });
    merge(&mut pod, changes);
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    Facts::of(&pod).expect("a name and a uid")
}

fn merge(object: &mut Value, changes: Value) {
    match (object, changes) {
        (Value::Object(object), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(object.entry(key).or_insert(Value::Null), change);
            }
        }
        (object, change) => *object = change,
    }
}

fn name(name: &str) -> PodName {
    PodName {
        namespace: "shop".into(),
        name: name.into(),
    }
}

fn place(netns: &str, addresses: &[&str]) -> Place {
    Place {
        netns: netns.into(),
        addresses: addresses
            .iter()
            .map(|address| address.parse().expect("an address"))
            .collect(),
    }
}

/// A book that has listed these pods, in a namespace with the label.
fn listed(label: &str, pods: Vec<Facts>) -> Book {
    let mut book = Book::default();
    book.list_begins();
    for facts in pods {
        book.pod(facts, Origin::Watch);
    }
    book.list_ends();
    label_namespace(&mut book, label);
    book
}

fn label_namespace(book: &mut Book, label: &str) {
    let labels = [
        ("culvert.dev/mesh".to_owned(), label.to_owned()),
        ("other".to_owned(), "x".to_owned()),
    ];
    book.namespace("shop", deciding_labels(Some(&labels.into())), None);
}

fn answer(book: &mut Book, with: impl Fn(&str) -> Result<Option<Place>, String>) {
    for sought in book.sought() {
        book.found(&sought, with(&sought.uid));
    }
}

fn wanted(book: &Book) -> Vec<(String, String)> {
    let wanted = book.snapshot().wanted;
    wanted
        .iter()
        .map(|spec| (spec.name.name.clone(), spec.netns.display().to_string()))
        .collect()
}

fn problem(snapshot: &Snapshot) -> Option<&str> {
    assert_eq!((snapshot.wanted.len(), snapshot.outside.len()), (0, 1), "{snapshot:?}");
    snapshot.outside[0].problem.as_deref()
}

#[test]
fn nothing_is_complete_before_pods_namespaces_and_places_are_known() {
    let mut book = Book::default();
    assert_eq!(book.missing(), ["the list of this node's pods"]);
    book.list_begins();
    book.pod(facts("a", "1", json!({})), Origin::Watch);
    assert!(!book.snapshot().complete);
    book.list_ends();
    assert_eq!(book.missing(), ["namespace shop"]);
    assert!(!book.snapshot().complete);
    label_namespace(&mut book, "ambient");
    assert_eq!(book.missing(), ["the network namespace of pod shop/a"]);
    assert!(!book.snapshot().complete);

    answer(&mut book, |_| Err("no runtime".into()));
    let snapshot = book.snapshot();
    assert!(
        book.missing().is_empty() && !snapshot.complete,
        "nobody may be thrown out for want of a container runtime"
    );
    assert!(problem(&snapshot).is_some_and(|problem| problem.contains("no runtime")));

    book.search_again();
    answer(&mut book, |_| Ok(Some(place("/run/netns/a", &[]))));
    assert!(book.snapshot().complete);
    assert_eq!(wanted(&book), [("a".into(), "/run/netns/a".into())]);
}

#[test]
fn labels_take_effect_at_once_and_unknown_ones_are_visible() {
    let mut book = listed("none", vec![facts("a", "1", json!({}))]);
    assert!(
        book.sought().is_empty(),
        "nothing is searched for pods that stay outside"
    );
    assert_eq!(problem(&book.snapshot()), None);
    label_namespace(&mut book, "ambient");
    answer(&mut book, |_| Ok(Some(place("/run/netns/a", &[]))));
    assert_eq!(wanted(&book).len(), 1);
    label_namespace(&mut book, "Ambient");
    let snapshot = book.snapshot();
    let said = problem(&snapshot).expect("an unknown value is a mistake");
    assert!(
        said.contains("namespace shop") && said.contains("\"Ambient\""),
        "{said}"
    );
    book.pod(
        facts(
            "a",
            "1",
            json!({ "metadata": { "labels": { "culvert.dev/mesh": "ambient" } } }),
        ),
        Origin::Watch,
    );
    assert_eq!(
        wanted(&book).len(),
        1,
        "the pod's own label wins, and its place is still known"
    );
}

#[test]
fn pods_on_the_nodes_network_stay_outside_and_say_so_only_when_labelled_themselves() {
    let host = json!({ "spec": { "hostNetwork": true } });
    let mut book = listed("ambient", vec![facts("a", "1", host.clone())]);
    assert_eq!(problem(&book.snapshot()), None);
    let mut labelled = host;
    merge(
        &mut labelled,
        json!({ "metadata": { "labels": { "culvert.dev/mesh": "ambient" } } }),
    );
    book.pod(facts("a", "1", labelled), Origin::Watch);
    assert!(problem(&book.snapshot()).is_some_and(|problem| problem.contains("hostNetwork")));
}

#[test]
fn the_meshs_own_namespace_never_takes_part() {
    let ours = json!({ "metadata": { "namespace": "culvert-system", "labels": { "culvert.dev/mesh": "ambient" } } });
    let mut book = listed("none", vec![facts("a", "1", ours)]);
    book.namespace("culvert-system", Default::default(), None);
    assert!(problem(&book.snapshot()).is_some_and(|problem| problem.contains("remove the label")));
    assert!(book.sought().is_empty());
}

#[test]
fn a_static_pod_is_known_by_the_uid_that_the_runtime_knows() {
    let mirror = json!({ "metadata": { "annotations": { "kubernetes.io/config.mirror": "hash", "kubernetes.io/config.hash": "hash" } } });
    let mut book = listed("ambient", vec![facts("a", "api-1", mirror.clone())]);
    assert_eq!(&*book.sought()[0].uid, "hash");
    assert_eq!(
        book.arrive(&name("a"), "hash", place("/run/netns/a", &["198.18.0.1"])),
        Some(Verdict::Wanted { uid: "hash".into() })
    );
    // Its image on the API server is made anew when somebody deletes it; the pod is the same.
    book.pod_gone(&facts("a", "api-1", mirror.clone()));
    book.pod(facts("a", "api-2", mirror.clone()), Origin::Watch);
    label_namespace(&mut book, "ambient");
    answer(&mut book, |_| Ok(Some(place("/run/netns/a", &[]))));
    assert_eq!(wanted(&book).len(), 1);

    // Annotations are anybody's to write: they take no place from a real pod.
    book.pod(facts("b", "hash", json!({})), Origin::Watch);
    let thief = book
        .snapshot()
        .outside
        .into_iter()
        .find(|outside| outside.name == name("a"))
        .expect("outside");
    assert!(thief.problem.is_some_and(|problem| problem.contains("claims to be")));
}

#[test]
fn the_gate_knows_a_pod_before_its_status_does() {
    let starting = json!({ "status": { "phase": "Pending", "podIP": null, "podIPs": null } });
    let mut book = listed("ambient", vec![facts("a", "1", starting)]);
    answer(&mut book, |_| Ok(None));
    assert_eq!(problem(&book.snapshot()), None, "one that starts is no mistake");
    let arrived = book.arrive(&name("a"), "1", place("/run/netns/a", &["198.18.0.1", "fd00:c01e::1"]));
    assert_eq!(arrived, Some(Verdict::Wanted { uid: "1".into() }));
    assert_eq!(book.snapshot().wanted[0].addresses.len(), 2);
    book.pod(facts("a", "1", json!({})), Origin::Watch);
    assert_eq!(
        book.snapshot().wanted[0].addresses.len(),
        2,
        "the status adds, and takes nothing away"
    );
    assert_eq!(
        book.arrive(&name("a"), "2", place("/run/netns/b", &[])),
        None,
        "another uid is another pod"
    );
    assert_eq!(book.arrive(&name("b"), "1", place("/run/netns/b", &[])), None);
}

#[test]
fn a_pod_that_arrives_outside_is_found_at_once_when_it_is_labelled_later() {
    let mut book = listed("none", vec![facts("a", "1", json!({}))]);
    let arrived = book.arrive(&name("a"), "1", place("/run/netns/a", &["198.18.0.1"]));
    assert_eq!(arrived, Some(Verdict::Outside));
    label_namespace(&mut book, "ambient");
    assert_eq!(wanted(&book), [("a".into(), "/run/netns/a".into())]);
}

#[test]
fn a_newcomer_takes_an_address_from_who_had_it_and_has_not_been_cleared_away_yet() {
    let other = json!({ "status": { "podIP": null, "podIPs": null } });
    let mut book = listed("ambient", vec![facts("old", "1", json!({})), facts("new", "2", other)]);
    answer(&mut book, |uid| {
        Ok((uid == "1").then(|| place("/run/netns/old", &["198.18.0.1"])))
    });
    assert_eq!(wanted(&book).len(), 1);
    book.arrive(&name("new"), "2", place("/run/netns/new", &["198.18.0.1"]));
    assert_eq!(wanted(&book), [("new".into(), "/run/netns/new".into())]);
}

#[test]
fn a_sandbox_that_goes_takes_the_place_along_but_an_older_one_does_not() {
    let mut book = listed("ambient", vec![facts("a", "1", json!({}))]);
    book.arrive(&name("a"), "1", place("/run/netns/first", &["198.18.0.1"]));
    book.arrive(&name("a"), "1", place("/run/netns/second", &["198.18.0.2"]));
    assert!(!book.leave("1", Some(Path::new("/run/netns/first")), |_| true));
    assert!(
        !book.leave("1", None, |_| true),
        "a nameless departure is believed when the namespace is gone"
    );
    assert!(!book.leave("unknown", None, |_| false));
    assert_eq!(wanted(&book), [("a".into(), "/run/netns/second".into())]);
    assert!(book.leave("1", None, |_| false));
    assert!(wanted(&book).is_empty());
}

/// CRI-O runs no process of its own for a pod: the oldest is an application's, which may be started again.
#[test]
fn a_pod_stays_in_while_another_name_of_its_network_namespace_is_looked_for() {
    let mut book = listed("ambient", vec![facts("a", "1", json!({}))]);
    answer(&mut book, |_| Ok(Some(place("/proc/30/ns/net", &[]))));
    let placed = book.places().remove(0).0;
    assert!(book.vanished(&placed));
    let is_in = [("a".into(), "/proc/30/ns/net".into())];
    assert_eq!(wanted(&book), is_in, "the namespace goes on without its first process");
    let again = book.places().remove(0).0;
    assert!(!book.vanished(&again), "said once");
    answer(&mut book, |_| Err("the runtime does not answer".into()));
    assert_eq!(wanted(&book), is_in);
    book.search_again();
    answer(&mut book, |_| Ok(Some(place("/proc/31/ns/net", &[]))));
    assert_eq!(wanted(&book), [("a".into(), "/proc/31/ns/net".into())]);
    let placed = book.places().remove(0).0;
    book.vanished(&placed);
    answer(&mut book, |_| Ok(None));
    assert!(wanted(&book).is_empty(), "on the runtime's word");
}

#[test]
fn the_end_of_a_pod_is_quiet() {
    let mut book = listed("ambient", vec![facts("a", "1", json!({}))]);
    answer(&mut book, |_| Ok(Some(place("/run/netns/a", &[]))));
    let ending = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    book.pod(facts("a", "1", ending), Origin::Watch);
    assert_eq!(wanted(&book).len(), 1, "it still works");
    let placed = book.places().remove(0).0;
    book.vanished(&placed);
    answer(&mut book, |_| Ok(None));
    assert_eq!(problem(&book.snapshot()), None);
    book.search_again();
    assert!(book.sought().is_empty(), "nothing will come of it");
    book.pod(
        facts("a", "1", json!({ "status": { "phase": "Succeeded" } })),
        Origin::Watch,
    );
    assert_eq!(book.snapshot().outside, []);
}

#[test]
fn answers_about_the_past_change_nothing() {
    let mut book = listed(
        "ambient",
        vec![facts("a", "1", json!({ "metadata": { "resourceVersion": "10" } }))],
    );
    let early = book.sought().remove(0);
    book.arrive(&name("a"), "1", place("/run/netns/new", &["198.18.0.1"]));
    book.found(&early, Ok(Some(place("/run/netns/old", &[]))));
    assert_eq!(wanted(&book), [("a".into(), "/run/netns/new".into())]);

    let older = json!({ "metadata": { "resourceVersion": "9", "labels": { "culvert.dev/mesh": "none" } } });
    book.pod(facts("a", "1", older.clone()), Origin::Asked);
    assert_eq!(wanted(&book).len(), 1);

    book.pod_gone(&facts("a", "1", older.clone()));
    book.pod(facts("a", "1", older), Origin::Asked);
    assert_eq!(
        book.snapshot(),
        Snapshot {
            complete: true,
            ..Snapshot::default()
        },
        "the dead stay dead"
    );
}

#[test]
fn that_there_is_no_sandbox_holds_until_the_pod_is_heard_of_again() {
    let mut book = listed("ambient", vec![facts("a", "1", json!({}))]);
    // Between two sandboxes somebody looks; the answer comes late, and the next sandbox got the same address.
    let early = book.sought().remove(0);
    let ending = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    book.found(&early, Ok(None));
    book.pod(facts("a", "1", ending.clone()), Origin::Watch);
    answer(&mut book, |_| Ok(Some(place("/run/netns/next", &["198.18.0.1"]))));
    assert_eq!(
        wanted(&book),
        [("a".into(), "/run/netns/next".into())],
        "heard of after the answer"
    );

    let mut book = listed("ambient", vec![facts("a", "1", json!({}))]);
    let early = book.sought().remove(0);
    book.pod(facts("a", "1", ending), Origin::Watch);
    book.found(&early, Ok(None));
    answer(&mut book, |_| Ok(Some(place("/run/netns/next", &["198.18.0.1"]))));
    assert_eq!(wanted(&book), [("a".into(), "/run/netns/next".into())], "and before it");
}

#[test]
fn a_name_that_comes_back_is_another_pod() {
    let mut book = listed("ambient", vec![facts("web-0", "1", json!({}))]);
    book.arrive(&name("web-0"), "1", place("/run/netns/first", &["198.18.0.1"]));
    book.pod(facts("web-0", "2", json!({})), Origin::Watch);
    assert!(wanted(&book).is_empty(), "nothing known of the old one holds");
    book.arrive(&name("web-0"), "2", place("/run/netns/second", &["198.18.0.1"]));
    book.pod_gone(&facts("web-0", "1", json!({})));
    assert_eq!(
        wanted(&book),
        [("web-0".into(), "/run/netns/second".into())],
        "a late farewell is the old one's"
    );
}

#[test]
fn a_list_that_begins_again_removes_nobody_until_its_end() {
    let mut book = listed("ambient", vec![facts("a", "1", json!({})), facts("b", "2", json!({}))]);
    answer(&mut book, |uid| Ok(Some(place(&format!("/run/netns/{uid}"), &[]))));
    book.list_begins();
    assert_eq!(wanted(&book).len(), 2);
    book.pod(facts("a", "1", json!({})), Origin::Watch);
    assert_eq!(wanted(&book).len(), 2);
    // The list is broken off, and begun once more.
    book.list_begins();
    book.pod(facts("b", "2", json!({})), Origin::Watch);
    book.list_ends();
    assert_eq!(wanted(&book), [("b".into(), "/run/netns/2".into())]);
}

#[test]
fn a_namespace_that_is_deleted_counts_as_before_until_its_pods_are_gone() {
    let mut book = listed("ambient", vec![facts("a", "1", json!({}))]);
    answer(&mut book, |_| Ok(Some(place("/run/netns/a", &[]))));
    book.namespace_gone("shop");
    assert_eq!(wanted(&book).len(), 1);
    book.pod_gone(&facts("a", "1", json!({})));
    assert!(book.namespaces().is_empty(), "nothing is watched for nobody");

    book.pod(facts("b", "2", json!({})), Origin::Watch);
    assert!(
        !book.snapshot().complete,
        "it is not known what holds for the namespace now"
    );
    book.namespace_gone("shop");
    assert!(book.snapshot().complete && wanted(&book).is_empty());
}

#[test]
fn a_status_with_addresses_that_the_sandbox_has_not_makes_one_look_again() {
    let mut book = listed("ambient", vec![facts("a", "1", json!({}))]);
    answer(&mut book, |_| Ok(Some(place("/run/netns/first", &["198.18.0.1"]))));
    let moved = json!({ "status": { "podIP": "198.18.0.2", "podIPs": [{ "ip": "198.18.0.2" }] } });
    book.pod(facts("a", "1", moved), Origin::Watch);
    assert_eq!(wanted(&book).len(), 1, "until it is known better");
    answer(&mut book, |_| Ok(Some(place("/run/netns/second", &["198.18.0.2"]))));
    assert_eq!(wanted(&book), [("a".into(), "/run/netns/second".into())]);
}

#[test]
fn pods_known_from_an_answer_only_wait_for_the_watch_or_for_a_question() {
    let mut book = listed("ambient", Vec::new());
    book.pod(facts("a", "1", json!({})), Origin::Asked);
    assert_eq!(book.unconfirmed(), [name("a")]);
    book.pod(facts("a", "1", json!({})), Origin::Watch);
    assert!(book.unconfirmed().is_empty());
    book.pod_unconfirmed(&name("a"));
    assert!(book.knows_pod(&name("a"), "1"), "the watch knows better");
    book.pod(facts("b", "2", json!({})), Origin::Asked);
    book.pod_unconfirmed(&name("b"));
    assert!(!book.knows_pod(&name("b"), "2"));
}
