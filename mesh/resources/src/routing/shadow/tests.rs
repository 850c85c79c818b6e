use std::sync::Arc;

use proptest::prelude::*;

use super::super::cover::covers;
use super::*;

fn by_path(path: Path) -> Match {
    Match { path, ..Match::any() }
}

/// As it is without any index.
fn naive(rules: &[&Match]) -> Vec<Option<usize>> {
    let first = |place: usize| (0..place).find(|before| covers(rules[*before], rules[place]));
    (0..rules.len()).map(first).collect()
}

fn path() -> impl Strategy<Value = Path> {
    let text = prop::sample::select(vec!["", "/a", "/A", "/a/b", "/ab", "/a/b/c", "/a/", "/ä", "/a/ä"]);
    let regex = prop::sample::select(vec![".*", "/a.*", "/A.*"]);
    prop_oneof![
        text.clone().prop_map(|text| Path::Exact(text.to_owned())),
        text.clone().prop_map(|text| Path::Prefix(text.to_owned())),
        text.prop_map(|text| Path::Plain(text.to_owned())),
        regex.prop_map(|text| Path::Regex(text.to_owned())),
    ]
}

fn texts() -> impl Strategy<Value = Vec<(String, Text)>> {
    let value = prop::sample::select(vec!["x", "xy", "y"]);
    let text = prop_oneof![
        value.clone().prop_map(|text| Text::Exact(text.to_owned())),
        value.clone().prop_map(|text| Text::Prefix(text.to_owned())),
        value.prop_map(|text| Text::Regex(text.to_owned())),
        Just(Text::Present),
    ];
    let name = prop::sample::select(vec!["one", "two"]).prop_map(str::to_owned);
    prop::collection::vec((name, text), 0..3)
}

fn rule() -> impl Strategy<Value = Match> {
    let method = prop::option::of(Just("GET".to_owned()));
    let clients = prop::option::of(prop::sample::select(vec!["shop", "bank"]));
    let all = (path(), any::<bool>(), method, texts(), texts(), texts(), clients);
    all.prop_map(|(path, ignores_case, method, headers, without, query, clients)| Match {
        path,
        ignores_case,
        method,
        headers,
        without,
        query,
        clients: clients.map(Arc::from),
    })
}

proptest! {
    #[test]
    fn it_says_what_a_comparison_of_all_with_all_says(rules in prop::collection::vec(rule(), 0..25)) {
        let rules: Vec<&Match> = rules.iter().collect();
        prop_assert_eq!(first_before(&rules, covers), naive(&rules));
    }
}

/// How often rules are compared for each of these.
fn comparisons(rules: &[Match]) -> usize {
    let mut count = 0;
    let rules: Vec<&Match> = rules.iter().collect();
    let found = first_before(&rules, |a, b| {
        count += 1;
        covers(a, b)
    });
    assert_eq!(found.len(), rules.len());
    count
}

#[test]
fn ten_thousand_rules_are_not_compared_with_one_another() {
    const COUNT: usize = 10_000;
    let many = |make: &dyn Fn(usize) -> Match| -> Vec<Match> { (0..COUNT).map(make).collect() };
    let header = |name: &str, value: String| (name.to_owned(), Text::Exact(value));
    let paths = many(&|i| by_path(Path::Prefix(format!("/shop/{}/item-{i}", i % 7))));
    let users = many(&|i| Match {
        headers: vec![header("x-tenant", "one".to_owned()), header("x-user", i.to_string())],
        ..Match::any()
    });
    let mixed = many(&|i| Match {
        query: vec![header("id", (i / 3).to_string())],
        method: Some("GET".to_owned()),
        ..by_path(Path::Plain(format!("/v{}", i % 3)))
    });
    let same = many(&|_| by_path(Path::Exact("/".to_owned())));
    for rules in [paths, users, mixed, same] {
        let count = comparisons(&rules);
        assert!(count < 5 * COUNT, "{count} comparisons");
    }
}
