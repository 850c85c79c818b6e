//! What Istio's control plane makes of the same settings.

use super::*;

fn at(text: &str) -> Locality {
    let mut parts = text.split('/').map(str::to_owned);
    [(); 3].map(|()| parts.next().unwrap_or_default())
}

fn place(text: &str, node: &str) -> Place {
    Place {
        locality: at(text),
        node: node.to_owned(),
        labels: BTreeMap::new(),
    }
}

fn pattern(text: &str) -> Pattern {
    Pattern(text.split('/').map(str::to_owned).collect())
}

/// `PRIORITY WEIGHT MEMBERS` of each group.
fn groups(preference: &Preference, place: &Place, places: &[(&str, &str)]) -> Vec<String> {
    let localities: Vec<Locality> = places.iter().map(|(locality, _)| at(locality)).collect();
    let none = BTreeMap::new();
    let members: Vec<Member<'_>> = localities
        .iter()
        .zip(places)
        .map(|(locality, (_, node))| Member {
            locality,
            node,
            labels: &none,
            weight: 1,
        })
        .collect();
    let found = preference.groups(place, &members);
    found
        .iter()
        .map(|group| format!("{} {} {:?}", group.priority, group.weight, group.members))
        .collect()
}

const PLACES: [(&str, &str); 5] = [
    ("r1/z1/s1", "n1"),
    ("r1/z1/s2", "n2"),
    ("r1/z2/s1", "n3"),
    ("r2/z1/s1", "n4"),
    ("r3/z1/s1", "n5"),
];

#[test]
fn near_ones_come_first_and_priorities_have_no_gap() {
    let near = Preference::Regions(Vec::new());
    let found = groups(&near, &place("r1/z1/s1", ""), &PLACES);
    assert_eq!(found, ["0 1 [0]", "1 1 [1]", "2 1 [2]", "3 1 [3]", "3 1 [4]"]);
    // Nobody is in the same zone: what is there begins at 0.
    let found = groups(&near, &place("r1/z9/s1", ""), &PLACES[2..]);
    assert_eq!(found, ["0 1 [0]", "1 1 [1]", "1 1 [2]"]);
    // Who is nowhere sees no difference.
    let found = groups(&near, &Place::default(), &PLACES[..2]);
    assert_eq!(found, ["0 1 [0]", "0 1 [1]"]);
}

#[test]
fn another_region_is_before_the_rest_where_that_is_said() {
    let to = Preference::Regions(vec![("r1".into(), "r3".into())]);
    let found = groups(&to, &place("r1/z1/s1", ""), &PLACES[3..]);
    assert_eq!(found, ["0 1 [1]", "1 1 [0]"]);
    let found = groups(&to, &place("r9/z1/s1", ""), &PLACES[3..]);
    assert_eq!(found, ["0 1 [0]", "0 1 [1]"], "nothing is said of this region");
}

#[test]
fn labels_count_one_after_the_other() {
    let zone = Preference::Ranked(vec![Label::Region(None), Label::Zone(None)]);
    let found = groups(&zone, &place("r1/z1/s9", "n9"), &PLACES);
    assert_eq!(found, ["0 1 [0]", "0 1 [1]", "1 1 [2]", "2 1 [3]", "2 1 [4]"]);
    let node = Preference::Ranked(vec![Label::Zone(None), Label::Node(None)]);
    assert!(node.is_by_node() && !zone.is_by_node());
    let found = groups(&node, &place("r1/z1/s2", "n2"), &PLACES[..3]);
    assert_eq!(found, ["0 1 [1]", "1 1 [0]", "2 1 [2]"]);
    let fixed = Preference::Ranked(vec![Label::Region(Some("r2".into()))]);
    let found = groups(&fixed, &place("r1/z1/s1", ""), &PLACES);
    assert_eq!(
        found[0], "0 1 [3]",
        "a value that is said counts instead of one's own: {found:?}"
    );
}

#[test]
fn shares_are_divided_among_what_they_name_and_others_get_nothing() {
    let shares = Preference::Shares(vec![
        Distribution {
            from: pattern("r2/*"),
            to: vec![(pattern("r2/*"), 100)],
        },
        Distribution {
            from: pattern("r1/z1/*"),
            to: vec![(pattern("r1/z1/*"), 80), (pattern("r1/z2/*"), 20)],
        },
    ]);
    let found = groups(&shares, &place("r1/z1/s1", ""), &PLACES);
    assert_eq!(found, ["0 40 [0]", "0 40 [1]", "0 20 [2]"]);
    let found = groups(&shares, &place("r2/z1/s1", ""), &PLACES);
    assert_eq!(found, ["0 100 [3]"]);
    // Of this place nothing is said.
    assert_eq!(groups(&shares, &place("r3/z1/s1", ""), &PLACES).len(), 5);
}
