use super::*;

fn path(path: Path) -> Match {
    Match { path, ..Match::any() }
}

fn prefix(text: &str) -> Match {
    path(Path::Prefix(text.to_owned()))
}

fn exact(text: &str) -> Match {
    path(Path::Exact(text.to_owned()))
}

#[test]
fn a_prefix_takes_what_is_below_it_segment_by_segment() {
    assert!(covers(&prefix(""), &exact("/a")));
    assert!(covers(&prefix("/a"), &exact("/a")) && covers(&prefix("/a"), &prefix("/a/b")));
    assert!(!covers(&prefix("/a"), &exact("/ab")) && !covers(&prefix("/a/b"), &prefix("/a")));
    let plain = |text: &str| path(Path::Plain(text.to_owned()));
    assert!(covers(&plain("/a"), &exact("/ab")) && !covers(&prefix("/a"), &plain("/a")));
    assert!(covers(&prefix("/a"), &plain("/a/")));
}

#[test]
fn a_rule_that_asks_for_more_takes_not_all() {
    let method = Match {
        method: Some("GET".to_owned()),
        ..prefix("")
    };
    assert!(
        !covers(&method, &prefix("/a"))
            && covers(
                &prefix("/a"),
                &Match {
                    path: Path::Exact("/a".to_owned()),
                    ..method
                }
            )
    );
    let header = |text: Text| Match {
        headers: vec![("x".to_owned(), text)],
        ..prefix("")
    };
    assert!(!covers(&header(Text::Present), &prefix("")));
    assert!(covers(&header(Text::Present), &header(Text::Exact("a".to_owned()))));
    assert!(covers(
        &header(Text::Prefix("a".to_owned())),
        &header(Text::Exact("ab".to_owned()))
    ));
    assert!(!covers(
        &header(Text::Exact("ab".to_owned())),
        &header(Text::Prefix("a".to_owned()))
    ));
    let without = Match {
        without: vec![("x".to_owned(), Text::Present)],
        ..prefix("")
    };
    assert!(!covers(&without, &prefix("")) && covers(&prefix(""), &without) && covers(&without, &without));
}

#[test]
fn what_is_for_clients_of_one_namespace_takes_nothing_of_others() {
    let of = |namespace: &str| Match {
        clients: Some(namespace.into()),
        ..prefix("")
    };
    assert!(!covers(&of("a"), &of("b")) && !covers(&of("a"), &prefix("/x")) && covers(&prefix(""), &of("a")));
}

#[test]
fn expressions_take_one_another_where_they_are_the_same() {
    let regex = |text: &str| path(Path::Regex(text.to_owned()));
    assert!(covers(&regex("/a.*"), &regex("/a.*")) && covers(&regex(".*"), &exact("/a")));
    assert!(!covers(&regex("/a.*"), &exact("/ab")), "it cannot be told");
    assert!(!covers(&exact("/a"), &regex("/a")));
}
