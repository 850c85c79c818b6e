//! Whether the container runtime finds our program: the folders of distributions, as data.

use std::{fs, os::unix::fs::symlink, time::Duration};

use super::*;
use crate::gate::install::folder::OWN;
use culvert_objects::{DISTRIBUTIONS, Distribution};

/// A node of a distribution, whose configuration folder is mounted as it should be, and another one for programs.
fn misplaced(layout: &Distribution) -> Node {
    let node = Node::new();
    let folder = node.places.host_root.join(layout.bin_dir.trim_start_matches('/'));
    fs::create_dir_all(&folder).expect("folder");
    for program in PROGRAMS {
        fs::rename(node.places.bin_dir.join(program), folder.join(program)).expect("move");
    }
    node.write(
        "10-flannel.conflist",
        &FLANNEL.replace("\"flannel\",", "\"flannel\", \"ipam\": {\"type\": \"host-local\"},"),
    );
    node
}

#[test]
fn nothing_is_written_where_the_runtime_looks_elsewhere_and_the_layout_is_named() {
    for layout in &DISTRIBUTIONS {
        let mut node = misplaced(layout);
        let standing = node.look();
        let problem = standing.problem().expect("a problem");
        assert!(
            problem.contains("flannel, host-local, portmap")
                && problem.contains(layout.bin_dir)
                && problem.contains(layout.name)
                && problem.contains("hostPaths.cniBin"),
            "{problem}"
        );
        assert_eq!(node.names(), ["10-flannel.conflist"], "{}", layout.name);

        // As the remedy says.
        node.places.bin_dir = node.places.host_root.join(layout.bin_dir.trim_start_matches('/'));
        assert!(node.look().is_installed(), "{}", layout.name);
    }
}

#[test]
fn a_folder_without_configurations_is_said_with_the_one_that_has_some() {
    for layout in DISTRIBUTIONS
        .iter()
        .filter(|layout| layout.conf_dir != DISTRIBUTIONS[0].conf_dir)
    {
        let mut node = Node::new();
        let folder = node.places.host_root.join(layout.conf_dir.trim_start_matches('/'));
        fs::create_dir_all(&folder).expect("folder");
        fs::write(folder.join("10-flannel.conflist"), FLANNEL).expect("write");
        let problem = node.look().problem().expect("a problem");
        assert!(
            problem.contains(layout.conf_dir) && problem.contains("hostPaths.cniConf"),
            "{problem}"
        );
    }
}

#[test]
fn programs_may_be_links_and_unknown_places_are_said_too() {
    let mut node = misplaced(&DISTRIBUTIONS[2]);
    for program in ["flannel", "host-local", "portmap"] {
        symlink("../current/bin/cni", node.places.bin_dir.join(program)).expect("link");
    }
    assert!(node.look().is_installed(), "k3s has links out of the folder");

    let mut node = misplaced(&DISTRIBUTIONS[1]);
    fs::remove_dir_all(&node.places.host_root).expect("remove");
    let problem = node.look().problem().expect("a problem");
    assert!(
        problem.contains("the container runtime's own configuration"),
        "{problem}"
    );
}

/// k3s after an upgrade: the folder that is mounted is not the runtime's any more.
#[test]
fn a_list_whose_programs_are_gone_for_good_is_taken_away() {
    let mut node = Node::new();
    node.write("10-flannel.conflist", FLANNEL);
    assert!(node.look().is_installed());
    fs::remove_file(node.places.bin_dir.join("portmap")).expect("delete");
    let standing = node.look();
    assert!(standing.is_installed(), "a CNI that is upgraded replaces its programs");
    assert!(standing.problem.expect("told").contains("portmap"));
    node.now += Duration::from_secs(11);
    assert!(!node.look().is_installed());
    assert_eq!(node.names(), ["10-flannel.conflist"]);
    fs::write(node.places.bin_dir.join("portmap"), "").expect("write");
    assert_eq!(node.look().configuration, Some(node.path(OWN)));
}

#[test]
fn an_entry_is_never_without_its_program() {
    let mut node = Node::new();
    node.write("10-kt.conflist", PTP);
    fs::remove_file(&node.places.plugin).expect("delete");
    assert!(!node.look().is_installed());
    assert_eq!(node.names(), ["10-kt.conflist"]);
}
