//! The order of rules, by itself.

use proptest::prelude::*;

use super::*;

fn rule(path: Path) -> Rule {
    Rule {
        name: String::new(),
        matched: Match { path, ..Match::any() },
        action: Action::Fail(500),
        policy: None,
    }
}

fn own() -> Backend {
    Backend {
        service: "shop/web".into(),
        port: 80,
        subset: None,
    }
}

fn attached(consumer: Option<&str>, hostnames: &[&str], name: &str) -> Attached {
    let hostnames = hostnames.iter().map(|name| (*name).to_owned()).collect();
    let rules = vec![Rule {
        name: name.to_owned(),
        ..rule(Path::Prefix(String::new()))
    }];
    Attached {
        consumer: consumer.map(Into::into),
        route: Route { hostnames, rules },
    }
}

fn names<'a>(routes: &'a Routes, domain: &str) -> Vec<&'a str> {
    let host = routes.hosts.iter().find(|host| host.domain == domain).unwrap();
    host.rules.iter().map(|rule| rule.name.as_str()).collect()
}

#[test]
fn a_host_name_has_the_rules_of_its_routes_then_those_of_longer_ends_then_those_for_all() {
    let routes = merge(
        vec![
            attached(None, &[], "all"),
            attached(None, &["*.example"], "wide"),
            attached(None, &["*.a.example"], "narrow"),
            attached(None, &["x.a.example", "y.example"], "exact"),
        ],
        None,
        own(),
    );
    assert_eq!(names(&routes, "x.a.example"), ["exact", "narrow", "wide", "all"]);
    assert_eq!(names(&routes, "y.example"), ["exact", "wide", "all"]);
    assert_eq!(names(&routes, "*.a.example"), ["narrow", "wide", "all"]);
    assert_eq!(names(&routes, "*"), ["all"]);
    assert_eq!(routes.hosts.last().unwrap().domain, "*");
}

#[test]
fn clients_with_routes_of_their_own_get_no_others_and_others_get_none_of_them() {
    let routes = merge(vec![attached(Some("bank"), &[], "theirs")], None, own());
    let rules = &routes.hosts[0].rules;
    assert_eq!(names(&routes, "*"), ["theirs", "no rule of bank", "default"]);
    assert!(
        rules[..2]
            .iter()
            .all(|rule| rule.matched.clients.as_deref() == Some("bank"))
    );
    assert_eq!(
        (&rules[1].action, &rules[2].matched.clients),
        (&Action::Fail(404), &None)
    );
    let routes = merge(
        vec![attached(Some("bank"), &[], "theirs"), attached(None, &[], "ours")],
        None,
        own(),
    );
    assert_eq!(names(&routes, "*"), ["theirs", "no rule of bank", "ours"]);
}

#[test]
fn the_length_of_a_prefix_is_counted_in_characters() {
    let long = rule(Path::Prefix("/aaa".to_owned()));
    let wide = rule(Path::Prefix("/\u{fc}\u{fc}".to_owned()));
    let route = Route {
        hostnames: Vec::new(),
        rules: vec![wide, long.clone()],
    };
    let routes = merge(vec![Attached { consumer: None, route }], None, own());
    assert_eq!(routes.hosts[0].rules[0].matched.path, long.matched.path);
}

fn any_path() -> impl Strategy<Value = Path> {
    let text = "(/[ab]{1,2}){0,3}";
    prop_oneof![
        text.prop_map(|path| Path::Exact(format!("{path}/x"))),
        text.prop_map(Path::Prefix),
        text.prop_map(|path| Path::Regex(format!("{path}.*"))),
    ]
}

proptest! {
    /// A rule is never behind one that takes all its requests and asks for less, but for regular expressions, whose requests nobody
    /// can tell.
    #[test]
    fn no_prefix_hides_a_longer_one_or_an_exact_path(paths in prop::collection::vec(any_path(), 0..12)) {
        let rules = paths.into_iter().map(rule).collect();
        let route = Route { hostnames: Vec::new(), rules };
        let routes = merge(vec![Attached { consumer: None, route }], None, own());
        let rules = &routes.hosts[0].rules;
        for (index, later) in rules.iter().enumerate() {
            for earlier in &rules[..index] {
                let Path::Prefix(prefix) = &earlier.matched.path else { continue };
                let is_hidden = match &later.matched.path {
                    Path::Plain(_) => false,
                    Path::Exact(path) => path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/')),
                    Path::Prefix(path) => path.len() > prefix.len() && path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/')),
                    Path::Regex(_) => prefix.is_empty(),
                };
                prop_assert!(!is_hidden, "{:?} hides {:?}", earlier.matched, later.matched);
            }
        }
    }
}
