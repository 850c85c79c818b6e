//! What the model makes of the golden cases, beside what Istio's control plane made of them.
use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use culvert_controller::model::{Model, Settings};
use culvert_objects::Directory;
use culvert_proto::ADDRESS_TYPE;
use serde_json::Value;

use crate::cases;

fn rendered(model: &Model) -> BTreeMap<String, Value> {
    model
        .addresses()
        .iter()
        .map(|(name, address)| (name.clone(), cases::render(address)))
        .collect()
}

/// What is wrong with the objects of the cases, as far as each says by itself.
const SAID: [&str; 3] = ["no ServiceAccount", " not served", "tells nothing apart"];

#[test]
fn agrees_with_the_recordings() {
    let all = cases::cases();
    assert_eq!(all.len(), 30);
    let mut unused = Vec::new();
    for case in all {
        let dir = cases::directory(&case);
        let loaded = Directory::open(dir.path()).unwrap().loaded();
        assert!(
            loaded
                .findings
                .keys()
                .all(|f| SAID.iter().any(|said| f.message.contains(said))),
            "{:?}",
            loaded.findings
        );
        let mut model = Model::new(Settings::default());
        let changes = model.update(&loaded.objects, Instant::now());
        let addresses = changes
            .resources
            .iter()
            .filter(|change| change.type_url == ADDRESS_TYPE);
        assert_eq!(addresses.count(), model.addresses().len());
        let differences = cases::differences(&case, &rendered(&model));
        assert!(differences.is_empty(), "{}: {differences:#?}", case.display());
        unused.extend(
            cases::unused(&case, &rendered(&model))
                .into_iter()
                .map(|line| format!("{}: {line}", case.display())),
        );
        assert_eq!(
            model.update(&loaded.objects, Instant::now()),
            Default::default(),
            "nothing changed, yet something was looked at"
        );
    }
    assert!(
        unused.is_empty(),
        "lines of ignore.txt by which nothing is left out: {unused:#?}"
    );
}

/// Document by document in, in both directions, and out again: the same as all at once.
#[test]
fn arrives_at_the_same_from_anywhere() {
    for case in cases::cases() {
        let text = fs::read_to_string(cases::golden().join("base.yaml")).unwrap()
            + "\n---\n"
            + &fs::read_to_string(case.join("input.yaml")).unwrap();
        let documents: Vec<String> = text.split("\n---\n").map(str::to_owned).collect();
        for reverse in [false, true] {
            let mut order = documents.clone();
            if reverse {
                order.reverse();
            }
            let dir = tempfile::TempDir::new().unwrap();
            let mut directory = Directory::open(dir.path()).unwrap();
            let mut model = Model::new(Settings::default());
            let file = |index: usize| dir.path().join(format!("{index:03}.yaml"));
            for (index, document) in order.iter().enumerate() {
                fs::write(file(index), document).unwrap();
                model.update(&directory.reload().objects, Instant::now());
            }
            let differences = cases::differences(&case, &rendered(&model));
            assert!(differences.is_empty(), "{}: {differences:#?}", case.display());
            for index in 0..order.len() {
                fs::remove_file(file(index)).unwrap();
                model.update(&directory.reload().objects, Instant::now());
            }
            assert!(model.addresses().is_empty() && model.snapshot().is_empty());
        }
    }
}

/// The comparison itself has eyes.
#[test]
fn a_difference_is_seen() {
    let case = cases::cases().into_iter().next().unwrap();
    let recorded = cases::expected(&case);
    assert_eq!(cases::differences(&case, &recorded), Vec::<String>::new());
    let name = "Kubernetes//Pod/shop/cart";
    let changes: [fn(&mut Value); 3] = [
        |w| w["workload"]["addresses"][0] = "10.1.0.99".into(),
        |w| w["workload"]["locality"]["zone"] = "elsewhere".into(),
        |w| drop(w["workload"].as_object_mut().unwrap().remove("services")),
    ];
    for change in changes {
        let mut ours = recorded.clone();
        change(ours.get_mut(name).unwrap());
        assert_eq!(cases::differences(&case, &ours).len(), 1);
    }
    let mut ours = recorded.clone();
    ours.remove(name);
    assert_eq!(cases::differences(&case, &ours).len(), 1);
    // The recording is what it is compared with, so that its lines leave nothing out.
    assert_eq!(
        cases::unused(&case, &recorded),
        ["Kubernetes//Pod/shop/fresh tunnel_protocol"]
    );
}
