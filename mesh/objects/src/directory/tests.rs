use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: NAME}\n";

fn namespace(name: &str) -> String {
    NAMESPACE.replace("NAME", name)
}

/// A directory with these files, at rest.
#[allow(
    clippy::disallowed_methods,
    reason = "a file settles by the clock, and tells nobody when it has"
)]
fn at_rest(files: &[(&str, &str)]) -> (TempDir, Directory) {
    let dir = TempDir::new().unwrap();
    for (file, name) in files {
        fs::write(dir.path().join(file), namespace(name)).unwrap();
    }
    let mut directory = Directory::open(dir.path()).unwrap();
    while let Scan::Unsettled = directory.scan(&HashSet::new()) {
        std::thread::sleep(SETTLE / 4);
    }
    (dir, directory)
}

fn place(dir: &TempDir, file: &str, name: &str) -> BTreeSet<PathBuf> {
    let (draft, path) = (dir.path().join(".draft"), dir.path().join(file));
    fs::write(&draft, namespace(name)).unwrap();
    fs::rename(draft, &path).unwrap();
    BTreeSet::from([path])
}

#[test]
fn a_file_that_was_renamed_into_its_place_is_read_without_waiting() {
    let (dir, mut directory) = at_rest(&[("a.yaml", "one")]);
    let placed = place(&dir, "a.yaml", "two");
    assert!(directory.take(&placed));
    let objects = &directory.loaded().objects;
    assert!(objects.namespace("two").is_some() && objects.namespace("one").is_none());
    assert!(matches!(directory.scan(&HashSet::new()), Scan::Settled));
}

#[test]
fn nothing_is_taken_at_once_while_something_else_has_not_settled() {
    let (dir, mut directory) = at_rest(&[("a.yaml", "one")]);
    fs::write(dir.path().join("b.yaml"), namespace("other")).unwrap();
    assert!(matches!(directory.scan(&HashSet::new()), Scan::Unsettled));
    assert!(!directory.take(&place(&dir, "a.yaml", "two")));
    assert!(directory.loaded().objects.namespace("two").is_none());
}

#[test]
fn links_hidden_files_and_what_holds_no_objects_are_not_taken_for_files_that_were_placed() {
    let (dir, mut directory) = at_rest(&[("a.yaml", "one")]);
    let at = |name: &str| dir.path().join(name);
    fs::write(at("..real.yaml"), namespace("two")).unwrap();
    symlink("..real.yaml", at("link.yaml")).unwrap();
    fs::create_dir_all(at("folder.yaml/.hidden")).unwrap();
    fs::write(at("folder.yaml/.hidden/b.yaml"), namespace("two")).unwrap();
    fs::write(at("notes.txt"), namespace("two")).unwrap();
    for name in [
        "..real.yaml",
        "link.yaml",
        "folder.yaml",
        "folder.yaml/.hidden/b.yaml",
        "notes.txt",
        "gone.yaml",
    ] {
        assert!(!directory.take(&BTreeSet::from([at(name)])), "{name}");
    }
    assert!(directory.loaded().objects.namespace("two").is_none());
}

/// Seen: the objects behind the link were gone without a word, those that forbid something with the others.
#[test]
fn what_was_read_through_a_link_stays_in_force_when_it_leads_nowhere_and_the_link_is_named() {
    let dir = TempDir::new().unwrap();
    let (target, link) = (dir.path().join("..target"), dir.path().join("link.yaml"));
    fs::write(&target, namespace("one")).unwrap();
    symlink("..target", &link).unwrap();
    symlink("nowhere", dir.path().join("never.yaml")).unwrap();
    let mut directory = Directory::open(dir.path()).unwrap();
    let named = |loaded: &Loaded| {
        let leads_nowhere = |finding: &&Arc<Finding>| finding.message.contains("leads nowhere");
        let found = loaded.findings.keys().filter(leads_nowhere);
        found.map(|finding| finding.file.clone()).collect::<Vec<_>>()
    };
    assert_eq!(named(&directory.loaded()), [dir.path().join("never.yaml")]);
    fs::remove_file(&target).unwrap();
    let loaded = directory.reload();
    assert!(loaded.objects.namespace("one").is_some());
    assert_eq!(named(&loaded), [link.clone(), dir.path().join("never.yaml")]);
    fs::remove_file(&link).unwrap();
    let loaded = directory.reload();
    assert!(loaded.objects.namespace("one").is_none());
    assert_eq!(named(&loaded), [dir.path().join("never.yaml")]);
}
