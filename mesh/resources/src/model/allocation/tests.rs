//! What is chosen, alone and beside others, at once and one after the other.

use std::collections::HashMap;

use culvert_objects::{Assembly, parse};

use super::*;

fn entry(name: &str, hosts: &[&str], more: &str) -> String {
    let hosts = hosts.join("', '");
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: ext}}\n\
         spec: {{hosts: ['{hosts}'], resolution: DNS, ports: [{{number: 80, name: web}}]}}\n{more}"
    )
}

fn objects(yaml: &str) -> Objects {
    let mut assembly = Assembly::default();
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: ext}\n";
    for document in parse(&format!("{namespace}{yaml}"), false).documents {
        assembly.apply(document.object);
    }
    assembly.settle().0.clone()
}

/// What is chosen for all hosts of these objects, at once.
fn chosen(yaml: &str) -> HashMap<String, Vec<IpAddr>> {
    let objects = objects(yaml);
    let mut allocator = Allocator::default();
    let names: BTreeSet<ObjectName> = ServiceEntry::map(&objects).keys().cloned().collect();
    allocator.update(&names, &objects);
    let allocations = allocator.allocations();
    let mut found: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for name in names {
        for (host, address) in allocations.of(&name) {
            found.entry(format!("{name} {host}")).or_default().push(address);
        }
    }
    found
}

fn of<'a>(all: &'a HashMap<String, Vec<IpAddr>>, host: &str) -> &'a [IpAddr] {
    all.get(host).map_or(&[], |addresses| addresses)
}

#[test]
fn each_host_without_address_has_one_of_each_family_and_the_same_again() {
    let yaml = entry(
        "pair",
        &["one.example.com", "two.example.com", "*.wild.example.com"],
        "",
    );
    let all = chosen(&yaml);
    assert_eq!(all.len(), 2, "a wildcard has none of its own: {all:?}");
    let one = of(&all, "ext/pair one.example.com");
    assert!(one.len() == 2 && one.iter().all(is_of_ranges) && one[0].is_ipv4() && one[1].is_ipv6());
    assert_eq!(chosen(&yaml), all);
    assert_eq!(
        one,
        ["240.240.45.101", "2001:2::8c36:f217:227b:7ade"].map(|text| text.parse::<IpAddr>().unwrap()),
        "the same in every release"
    );
}

#[test]
fn who_asks_for_none_has_none() {
    let label = |value: &str| {
        entry("e", &["a.example.com"], "").replace(
            "name: e,",
            &format!("name: e, labels: {{networking.istio.io/enable-autoallocate-ip: '{value}'}},"),
        )
    };
    let with = |field: &str| entry("e", &["a.example.com"], "").replace("resolution: DNS", field);
    for (yaml, count) in [
        (label("true"), 1),
        (label("false"), 0),
        (label("False"), 0),
        (with("resolution: STATIC"), 1),
        (with("resolution: NONE"), 0),
        (with("resolution: DYNAMIC_DNS"), 0),
        (with("resolution: DNS, addresses: [198.51.100.1]"), 0),
        (with("resolution: DNS, exportTo: ['~']"), 0),
    ] {
        assert_eq!(chosen(&yaml).len(), count, "{yaml}");
    }
}

#[test]
fn what_the_status_has_holds_and_what_makes_no_sense_there_does_not() {
    let status = |items: &str| format!("status: {{addresses: [{items}]}}\n");
    let host = "a.example.com";
    let free = chosen(&entry("e", &[host], ""));
    let kept = "{host: a.example.com, value: 240.240.9.9}, {host: a.example.com, value: '2001:2::9:9'}";
    let all = chosen(&entry("e", &[host], &status(kept)));
    assert_eq!(
        of(&all, "ext/e a.example.com"),
        ["240.240.9.9", "2001:2::9:9"].map(|text| text.parse::<IpAddr>().unwrap())
    );
    for odd in [
        "{host: a.example.com, value: 198.19.0.1}",
        "{host: a.example.com, value: 240.240.0.0}",
        "{host: a.example.com, value: 240.240.255.255}",
        "{host: a.example.com, value: nonsense}",
        "{host: b.example.com, value: 240.240.9.9}",
        "{value: 240.240.9.9}",
        "3",
    ] {
        assert_eq!(chosen(&entry("e", &[host], &status(odd))), free, "{odd}");
    }
    assert_eq!(chosen(&entry("e", &[host], "status: {addresses: 5}\n")), free);
    // One of two families.
    let half = chosen(&entry(
        "e",
        &[host],
        &status("{host: a.example.com, value: 240.240.9.9}"),
    ));
    let half = of(&half, "ext/e a.example.com");
    assert_eq!(
        (half[0], half[1]),
        ([240, 240, 9, 9].into(), free["ext/e a.example.com"][1])
    );
    // Two that have the same: the older one's.
    let two = entry("e", &[host], &status(kept))
        .replace("name: e,", "name: e, creationTimestamp: '2026-01-02T00:00:00Z',")
        + &entry("f", &[host], &status(kept))
            .replace("name: f,", "name: f, creationTimestamp: '2026-01-01T00:00:00Z',");
    let all = chosen(&two);
    assert_eq!(of(&all, "ext/f a.example.com")[0], IpAddr::from([240, 240, 9, 9]));
    assert_eq!(all["ext/e a.example.com"], free["ext/e a.example.com"]);
}

/// So many that some come to the same hash.
#[test]
fn hosts_never_share_an_address_and_whoever_comes_later_moves_none_that_has_a_status() {
    let hosts: Vec<String> = (0..2000).map(|number| format!("h{number}.example.com")).collect();
    let one = |number: usize, status: &str| entry(&format!("e{number:04}"), &[&hosts[number]], status);
    let all = chosen(&(0..2000).map(|number| one(number, "")).collect::<String>());
    let different: HashSet<&IpAddr> = all.values().flatten().collect();
    assert_eq!(different.len(), 4000);
    let moved = |number: &usize| {
        let alone = chosen(&one(*number, ""));
        alone.iter().any(|(host, addresses)| all[host] != *addresses)
    };
    let moved: Vec<usize> = (0..2000).filter(moved).collect();
    assert!(
        (5..100).contains(&moved.len()),
        "{} are not at their first candidate",
        moved.len()
    );

    // The later of two that came to the same hash was there first, and its status says so.
    let late = moved[0];
    let before = chosen(&one(late, ""));
    let (host, addresses) = before.iter().next().unwrap();
    let items = addresses
        .iter()
        .map(|address| format!("{{host: {}, value: '{address}'}}", hosts[late]))
        .collect::<Vec<_>>()
        .join(", ");
    let status = format!("status: {{addresses: [{items}]}}\n");
    let text = |number| one(number, if number == late { &status } else { "" });
    let after = chosen(&(0..2000).map(text).collect::<String>());
    assert_eq!(after[host], *addresses);
    assert_eq!(after.values().flatten().collect::<HashSet<_>>().len(), 4000);
}

#[test]
fn addresses_that_entries_give_themselves_are_left_to_them() {
    let free = chosen(&entry("e", &["a.example.com"], ""));
    let first = free["ext/e a.example.com"][0];
    let given = entry("z", &["z.example.com"], "")
        .replace("resolution: DNS", &format!("resolution: DNS, addresses: [{first}]"));
    let all = chosen(&(entry("e", &["a.example.com"], "") + &given));
    assert_ne!(all["ext/e a.example.com"][0], first);
    assert_eq!(all["ext/e a.example.com"][1], free["ext/e a.example.com"][1]);
}

#[test]
fn only_those_for_whom_something_else_is_chosen_are_looked_at_again() {
    let mut allocator = Allocator::default();
    let name = |name: &str| ObjectName::new("ext", name);
    let mut update = |names: &[&str], yaml: &str| {
        let names = names.iter().map(|one| name(one)).collect();
        let changed = allocator.update(&names, &objects(yaml));
        let changed = changed.iter().map(|name| name.name.to_string()).collect::<Vec<_>>();
        (changed, allocator.allocations().clone())
    };
    let none = Vec::<String>::new();
    let (a, b) = (entry("a", &["a.example.com"], ""), entry("b", &["b.example.com"], ""));
    assert_eq!(update(&["a"], &a).0, ["a"]);
    assert_eq!(update(&["a"], &a).0, none);
    let (changed, before) = update(&["b"], &(a.clone() + &b));
    assert_eq!(changed, ["b"]);
    let ports = a.replace("number: 80", "number: 81");
    assert_eq!(update(&["a"], &(ports + &b)).0, none);
    // The leader has written what was chosen: nothing is chosen anew.
    let items: Vec<String> = before
        .of(&name("a"))
        .map(|(host, address)| format!("{{host: {host}, value: '{address}'}}"))
        .collect();
    let told = a + &format!("status: {{addresses: [{}]}}\n", items.join(", "));
    let (changed, after) = update(&["a"], &(told + &b));
    assert_eq!(changed, none);
    assert!(Arc::ptr_eq(&before.0, &after.0));
    assert_eq!(update(&["a"], &b).0, ["a"]);
}
