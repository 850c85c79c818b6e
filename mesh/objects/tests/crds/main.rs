//! The table of the kinds that Culvert knows by name (`culvert_objects::known`), held against the CRDs of Istio, of the Gateway
//! API and our own, so that no new kind, field or value slips by; and the page `docs/objects.md`, which is made from both.
//!
//! `cargo xtask crds` fetches the CRDs. With `BLESS=1` the page is written instead of compared.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test says where")]

mod page;
mod schema;

use std::collections::BTreeSet;
use std::fs;

use culvert_objects::known;
use schema::Crds;

#[test]
fn every_kind_of_the_crds_is_in_the_table_with_all_its_versions() {
    let crds = Crds::read();
    let mut missing = Vec::new();
    for crd in &crds.all {
        let Some(known) = known::find(&crd.group, &crd.kind) else {
            missing.push(format!("{} of {}", crd.kind, crd.group));
            continue;
        };
        assert_eq!(
            (known.plural, known.namespaced),
            (crd.plural.as_str(), crd.namespaced),
            "{}",
            crd.kind
        );
        let unknown = crd
            .versions
            .iter()
            .filter(|version| !known.versions.contains(&version.as_str()));
        missing.extend(unknown.map(|version| format!("{version} of {} of {}", crd.kind, crd.group)));
    }
    assert!(missing.is_empty(), "known::ALL does not name:\n{}", missing.join("\n"));
    let gone = known::ALL.iter().filter(|known| crds.of(known).is_none());
    let gone: Vec<&str> = gone.map(|known| known.title).collect();
    assert!(gone.is_empty(), "of these there is no CRD: {gone:?}");
}

#[test]
fn every_field_and_value_of_a_kind_that_is_served_is_in_its_table_and_no_other() {
    let crds = Crds::read();
    let mut wrong = Vec::new();
    for known in known::ALL.iter().filter(|known| known.is_served()) {
        let crd = crds.of(known).expect("it has a CRD");
        let named: BTreeSet<&str> = known.fields.iter().map(|field| field.path).collect();
        let new = crd.fields.keys().filter(|path| !named.contains(path.as_str()));
        wrong.extend(new.map(|path| format!("{}: {path} is not in the table", known.title)));
        for field in known.fields {
            let Some(values) = crd.fields.get(field.path) else {
                wrong.push(format!("{}: {} is not in the CRD", known.title, field.path));
                continue;
            };
            let named: BTreeSet<&str> = field.values.iter().map(|(value, _)| *value).collect();
            let new = values.iter().filter(|value| !named.contains(value.as_str()));
            wrong.extend(new.map(|value| format!("{}: {}={value} is not in the table", known.title, field.path)));
            let gone = named
                .iter()
                .filter(|value| !values.is_empty() && !values.contains(**value));
            wrong.extend(gone.map(|value| format!("{}: {}={value} is not in the CRD", known.title, field.path)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_page_of_objects_names_every_field_of_every_kind_and_what_happens_instead() {
    let crds = Crds::read();
    let path = schema::root().join("docs/objects.md");
    let page = page::page(&crds);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &page).unwrap();
        return;
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let before = page::not_served(&written);
    let now = page::not_served(&page);
    let new: Vec<&String> = now.difference(&before).collect();
    let gone: Vec<&String> = before.difference(&now).collect();
    let how = "BLESS=1 cargo test -p culvert-objects --test crds writes it";
    assert!(
        new.is_empty() && gone.is_empty(),
        "docs/objects.md does not name {new:#?}, and names {gone:#?}, which no CRD has; {how}"
    );
    let first = page.lines().zip(written.lines()).find(|(now, before)| now != before);
    assert!(page == written, "docs/objects.md is another: {first:#?}; {how}");
}
