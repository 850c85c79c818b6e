use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{GONE, MOST_BYTES, Note, Others, fitting, key_of};
use crate::model::Refusal;

fn note(renewed: u64, name: &str) -> String {
    let refusal = Refusal {
        waypoint: Some("shop/wp".to_owned()),
        proxy: "shop/wp-1".to_owned(),
        type_url: "x".to_owned(),
        name: Some(name.to_owned()),
        message: "no".to_owned(),
    };
    json!(Note {
        renewed,
        refusals: [refusal].into(),
    })
    .to_string()
}

fn names(others: &Others, now: Instant) -> Vec<String> {
    others.refusals(now).filter_map(|refusal| refusal.name).collect()
}

#[test]
fn what_another_replica_says_counts_as_long_as_it_says_so() {
    let (begin, mut others) = (Instant::now(), Others::default());
    let data = |renewed| {
        let all = [
            ("a", note(renewed, "of a")),
            ("own", note(9, "own")),
            ("new", "{\"later\": 1}".to_owned()),
        ];
        all.map(|(key, value)| (key.to_owned(), value)).into()
    };
    others.take(data(1), "own", begin);
    assert_eq!(names(&others, begin), ["of a"]);
    let almost = begin + GONE - Duration::from_secs(1);
    others.take(data(2), "own", almost);
    let later = begin + GONE;
    others.take(data(2), "own", later);
    assert_eq!(names(&others, later), ["of a"], "it was written anew");
    assert_eq!(others.gone(later), ["new"], "whatever is in it");
    let end = almost + GONE;
    others.take(data(2), "own", end);
    assert_eq!(names(&others, end), [""; 0]);
    assert_eq!(others.gone(end), ["a", "new"]);
    others.take(BTreeMap::new(), "own", end);
    assert!(others.gone(end).is_empty());
}

#[test]
fn every_name_of_a_replica_becomes_a_key() {
    assert_eq!(key_of("culvert-controller-7f_12_18c"), "culvert-controller-7f_12_18c");
    assert_eq!(key_of("a/b c"), "a_b_c");
    let long = format!("{}_12_18c", "a".repeat(300));
    let key = key_of(&long);
    assert!(key.len() <= 253 && key.ends_with("_12_18c"), "{key}");
}

#[test]
fn no_more_is_written_than_a_config_map_holds_for_several_replicas() {
    let refusal = |number: usize| Refusal {
        waypoint: None,
        proxy: format!("node-{number:05}"),
        type_url: "x".to_owned(),
        name: None,
        message: "\u{1}\"".repeat(100),
    };
    let all: std::collections::BTreeSet<Refusal> = (0..1000).map(refusal).collect();
    let fits = fitting(&all);
    assert!(json!(fits).to_string().len() <= MOST_BYTES + 2 * fits.len() && fits.len() > 100);
    assert_eq!(fits, fitting(&all), "the same ones each time");
    let few = all.iter().take(3).cloned().collect();
    assert_eq!(fitting(&few), few);
}
