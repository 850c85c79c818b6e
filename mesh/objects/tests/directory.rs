//! The directory against a real file system: what a person, an editor, a deployment tool or a kubelet does to it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test says where")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use culvert_objects::{Defaults, Directory, Loaded, Objects};
use tempfile::TempDir;
use tokio::sync::watch::Receiver;

const NAMESPACE: &str =
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {culvert.dev/mesh: ambient}}\n";

fn pod(name: &str, ip: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{nodeName: n}}\nstatus: {{podIP: {ip}}}\n"
    )
}

fn names(objects: &Objects) -> Vec<String> {
    objects.pods.keys().map(|name| name.name.to_string()).collect()
}

async fn until(receiver: &mut Receiver<Arc<Loaded>>, what: impl FnMut(&Arc<Loaded>) -> bool) -> Arc<Loaded> {
    let found = tokio::time::timeout(Duration::from_secs(10), receiver.wait_for(what)).await;
    Arc::clone(&found.expect("the change was not noticed").unwrap())
}

fn start(dir: &Path) -> Receiver<Arc<Loaded>> {
    Directory::open(dir).unwrap().watch()
}

#[tokio::test]
async fn a_broken_file_keeps_its_last_good_state() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("shop.yaml");
    fs::write(&file, format!("{NAMESPACE}{}", pod("a", "198.18.0.1"))).unwrap();
    fs::write(dir.path().join("other.yaml"), pod("other", "198.18.0.9")).unwrap();
    let mut follow = start(dir.path());
    assert_eq!(names(&follow.borrow().objects), ["a", "other"]);

    fs::write(
        &file,
        format!("{NAMESPACE}{}{}", pod("b", "198.18.0.2"), pod("c", "198.18.0.300")),
    )
    .unwrap();
    let broken = until(&mut follow, |l| !l.findings.is_empty()).await;
    assert_eq!(names(&broken.objects), ["a", "other"]);
    let text = broken.findings.keys().next().unwrap().to_string();
    for part in [
        "shop.yaml:10: document 3: Pod shop/c: status.podIP:",
        "198.18.0.300",
        "last good state",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }

    // The others are still followed while one is broken.
    fs::write(dir.path().join("other.yaml"), pod("another", "198.18.0.9")).unwrap();
    until(&mut follow, |l| names(&l.objects) == ["a", "another"]).await;

    fs::write(
        &file,
        format!("{NAMESPACE}{}{}", pod("b", "198.18.0.2"), pod("c", "198.18.0.3")),
    )
    .unwrap();
    let good = until(&mut follow, |l| l.findings.is_empty()).await;
    assert_eq!(names(&good.objects), ["another", "b", "c"]);
}

#[tokio::test]
async fn files_come_go_and_are_renamed() {
    let dir = TempDir::new().unwrap();
    let mut follow = start(dir.path());
    assert!(follow.borrow().objects.pods.is_empty());
    fs::create_dir_all(dir.path().join("deep/er")).unwrap();
    fs::write(dir.path().join("deep/er/ns.yml"), NAMESPACE).unwrap();
    fs::write(dir.path().join("a.yaml"), pod("a", "198.18.0.1")).unwrap();
    fs::write(dir.path().join(".a.yaml.swp.yaml"), "not: [ours").unwrap();
    let first = until(&mut follow, |l| names(&l.objects) == ["a"]).await;
    assert!(first.findings.is_empty(), "{:?}", first.findings);

    fs::write(dir.path().join("a.tmp"), pod("b", "198.18.0.1")).unwrap();
    fs::rename(dir.path().join("a.tmp"), dir.path().join("a.yaml")).unwrap();
    until(&mut follow, |l| names(&l.objects) == ["b"]).await;

    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    until(&mut follow, |l| l.objects.pods.is_empty()).await;
    fs::remove_dir_all(dir.path().join("deep")).unwrap();
    until(&mut follow, |l| l.objects.namespace("shop").is_none()).await;
}

#[tokio::test]
async fn unchanged_objects_keep_their_pointer() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, format!("{NAMESPACE}{}", pod("a", "198.18.0.1"))).unwrap();
    let mut follow = start(dir.path());
    let before = Arc::clone(follow.borrow().objects.pod("shop", "a").unwrap());
    fs::write(
        &file,
        format!("{NAMESPACE}{}{}", pod("a", "198.18.0.1"), pod("b", "198.18.0.2")),
    )
    .unwrap();
    let after = until(&mut follow, |l| l.objects.pods.len() == 2).await;
    assert!(Arc::ptr_eq(&before, after.objects.pod("shop", "a").unwrap()));
    assert!(!after.objects.pod("shop", "b").unwrap().uid.is_empty());
}

#[tokio::test]
async fn a_mounted_config_map_is_swapped() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (folder, name) in [("..one", "a"), ("..two", "b")] {
        fs::create_dir(at(folder)).unwrap();
        fs::write(
            at(folder).join("all.yaml"),
            format!("{NAMESPACE}{}", pod(name, "198.18.0.1")),
        )
        .unwrap();
    }
    symlink("..one", at("..data")).unwrap();
    symlink("..data/all.yaml", at("all.yaml")).unwrap();
    let mut follow = start(dir.path());
    assert_eq!(names(&follow.borrow().objects), ["a"]);
    symlink("..two", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    until(&mut follow, |l| names(&l.objects) == ["b"]).await;
}

#[tokio::test]
async fn half_a_write_is_never_taken_for_the_whole() {
    use std::io::Write as _;
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, format!("{NAMESPACE}{}", pod("a", "198.18.0.1"))).unwrap();
    let mut follow = start(dir.path());
    let mut out = fs::File::create(&file).unwrap();
    for index in 0..20 {
        let text = if index == 0 {
            NAMESPACE.to_owned()
        } else {
            pod(&format!("p{index}"), &format!("198.18.0.{index}"))
        };
        out.write_all(text.as_bytes()).unwrap();
        out.flush().unwrap();
        // Longer than any file is given to settle that nobody is known to write to.
        tokio::time::sleep(Duration::from_millis(if index == 0 { 700 } else { 10 })).await;
        assert_eq!(names(&follow.borrow().objects), ["a"]);
    }
    drop(out);
    let next = until(&mut follow, |l| names(&l.objects) != ["a"]).await;
    assert_eq!(next.objects.pods.len(), 19);
}

#[tokio::test]
async fn a_file_that_is_renamed_is_never_there_twice() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("ns.yaml"), NAMESPACE).unwrap();
    fs::write(at("0.yaml"), pod("a", "198.18.0.1")).unwrap();
    let mut follow = start(dir.path());
    // Whatever was there at the start has settled once a change of another file is known.
    fs::write(at("other.yaml"), pod("b", "198.18.0.2")).unwrap();
    until(&mut follow, |l| names(&l.objects) == ["a", "b"]).await;
    for round in 0..3 {
        fs::rename(at(&format!("{round}.yaml")), at(&format!("{}.yaml", round + 1))).unwrap();
        // Its own name is not said of it, so another file tells that the look has been.
        let mark = format!("mark{round}");
        fs::write(at("other.yaml"), pod(&mark, "198.18.0.2")).unwrap();
        let seen = until(&mut follow, |l| {
            assert!(l.findings.is_empty(), "{:?}", l.findings);
            names(&l.objects).contains(&mark)
        });
        assert_eq!(names(&seen.await.objects), ["a", &mark]);
    }
}

#[test]
fn what_is_wrong_between_objects() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write(
        "1.yaml",
        &format!(
            "{NAMESPACE}{}{}",
            pod("a", "198.18.0.1"),
            pod("same-address", "198.18.0.1")
        ),
    );
    write("2.yaml", &pod("a", "198.18.0.7"));
    write(
        "3.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: lost, namespace: gone}\n",
    );
    write(
        "4.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: nobody, namespace: shop, labels: {culvert.dev/mesh: maybe}}\n\
         spec: {serviceAccountName: missing}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: taken, namespace: shop}\n\
         spec: {clusterIP: 198.18.0.1}\n",
    );
    fs::write(dir.path().join("5.yaml"), [0xff, 0xfe]).unwrap();
    let loaded = Directory::open(dir.path()).unwrap().loaded();
    assert_eq!(names(&loaded.objects), ["a", "nobody"]);
    assert!(loaded.objects.services.is_empty());
    let text: Vec<String> = loaded.findings.keys().map(|finding| finding.to_string()).collect();
    let expected = [
        "Pod shop/same-address: status.podIPs: 198.18.0.1 already belongs to Pod shop/a",
        "2.yaml:1: document 1: Pod shop/a: metadata.name: already in",
        "Pod gone/lost: metadata.namespace: there is no Namespace gone",
        "Pod shop/nobody: metadata.labels[culvert.dev/mesh]: label culvert.dev/mesh has the unknown value \"maybe\"",
        "Pod shop/nobody: spec.serviceAccountName: there is no ServiceAccount shop/missing",
        "Service shop/taken: spec.clusterIPs: 198.18.0.1 already belongs to Pod shop/a",
        "5.yaml: not UTF-8",
    ];
    for part in expected {
        assert!(text.iter().any(|t| t.contains(part)), "{part} in {text:#?}");
    }
    assert_eq!(text.len(), expected.len(), "{text:#?}");
}

#[test]
fn services_get_addresses_and_keep_them() {
    let dir = TempDir::new().unwrap();
    let service = |name: &str, rest: &str| {
        format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{rest}}}\n")
    };
    let address = |name: &str| {
        let cidrs = vec![
            "198.18.255.0/29".parse().unwrap(),
            "fd00:c01e:96::/112".parse().unwrap(),
        ];
        let loaded = Directory::open_with(dir.path(), Defaults { service_cidrs: cidrs })
            .unwrap()
            .loaded();
        let found = loaded
            .objects
            .services
            .iter()
            .find(|(n, _)| *n.name == *name)
            .unwrap()
            .1
            .clone();
        found.spec.clone().unwrap().cluster_ips.unwrap_or_default()
    };
    fs::write(dir.path().join("a.yaml"), service("a", "")).unwrap();
    let before = address("a");
    assert_eq!(before.len(), 1);
    let others: String = (0..4).map(|n| service(&format!("b{n}"), "")).collect();
    fs::write(dir.path().join("b.yaml"), others).unwrap();
    let all: std::collections::BTreeSet<_> = (0..4)
        .flat_map(|n| address(&format!("b{n}")))
        .chain(address("a"))
        .collect();
    assert_eq!(all.len(), 5, "{all:?}");
    fs::write(
        dir.path().join("c.yaml"),
        service("c", "ipFamilyPolicy: RequireDualStack"),
    )
    .unwrap();
    assert_eq!(address("c").len(), 2);
    fs::write(dir.path().join("d.yaml"), service("d", "clusterIP: None")).unwrap();
    assert_eq!(address("d"), ["None"]);
}

#[tokio::test]
async fn a_kind_that_nobody_knows_is_said_and_spoils_nothing_of_its_file() {
    let dir = TempDir::new().unwrap();
    let strange = "---\napiVersion: security.istio.io/v1\nkind: Moat\nmetadata: {name: a, namespace: shop}\n";
    fs::write(
        dir.path().join("a.yaml"),
        NAMESPACE.to_owned() + strange + &pod("a", "198.18.0.1"),
    )
    .unwrap();
    let mut receiver = start(dir.path());
    let loaded = until(&mut receiver, |loaded| names(&loaded.objects) == ["a"]).await;
    let said = |loaded: &Loaded| -> Vec<String> {
        let moat = loaded
            .findings
            .keys()
            .filter(|finding| finding.message.contains("Moat"));
        moat.map(|finding| finding.to_string()).collect()
    };
    assert!(
        said(&loaded)[0].contains("Moat shop/a: kind: security.istio.io has no kind Moat"),
        "{:?}",
        said(&loaded)
    );
    fs::write(
        dir.path().join("a.yaml"),
        NAMESPACE.to_owned() + strange + &pod("b", "198.18.0.1"),
    )
    .unwrap();
    let loaded = until(&mut receiver, |loaded| names(&loaded.objects) == ["b"]).await;
    assert_eq!(said(&loaded).len(), 1);
}
