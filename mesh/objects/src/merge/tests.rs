//! Files that come, change and go, against all of them put together at once.

use proptest::prelude::*;

use super::*;

/// One of few objects, so that names and addresses meet.
fn object(seed: u32) -> String {
    let (what, name, address, more) = (seed % 6, seed / 6 % 3, seed / 18 % 4, seed / 72 % 3);
    let namespace = ["shop", "default"][(more % 2) as usize];
    match what {
        0 => format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}, labels: {{culvert.dev/mesh: {}}}}}\n",
            ["shop", "default", "other"][name as usize],
            ["ambient", "none", "perhaps"][more as usize]
        ),
        1 => format!(
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {}, namespace: {namespace}}}\n",
            ["default", "a", "b"][name as usize]
        ),
        2 => format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{name}, namespace: {namespace}}}\nspec: {{clusterIP: \
             198.18.0.{address}, selector: {{app: a}}}}\n"
        ),
        3 => format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: e{name}, namespace: {namespace}, labels: \
             {{kubernetes.io/service-name: s{more}}}}}\naddressType: IPv4\nendpoints: [{{addresses: [198.18.0.{address}]}}]\n"
        ),
        _ => format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{name}, namespace: {namespace}}}\nspec: {{serviceAccountName: {}}}\n\
             status: {{podIPs: [{{ip: 198.18.0.{address}}}, {{ip: 198.18.0.{}}}]}}\n",
            ["default", "a", "b"][more as usize],
            (address + more) % 4
        ),
    }
}

fn documents(seeds: &[u32]) -> Vec<Document> {
    let texts: Vec<String> = seeds.iter().map(|seed| object(*seed)).collect();
    let parsed = crate::parse(&texts.join("---\n"), false);
    // An address that none can have is no good document here either.
    parsed.documents
}

proptest! {
    #[test]
    fn files_by_steps_come_to_what_all_of_them_come_to_at_once(
        steps in proptest::collection::vec(
            (0_usize..4, proptest::option::weighted(0.8, proptest::collection::vec(0_u32..216, 0..6))),
            1..20,
        ),
    ) {
        let mut merged = Merged::new();
        let mut files: BTreeMap<&Path, Vec<Document>> = BTreeMap::new();
        let mut before = Objects::default();
        for (file, content) in steps {
            let path = Path::new(["a/b.yaml", "a.yaml", "b.yaml", "c.json"][file]);
            match content {
                Some(seeds) => {
                    merged.set(path, documents(&seeds));
                    files.insert(path, documents(&seeds));
                }
                None => {
                    merged.remove(path);
                    files.remove(path);
                }
            }
            let all = files.iter().map(|(path, documents)| (*path, documents.as_slice()));
            let (expected, expected_findings) = naive::merge(all);
            let (objects, findings) = merged.settle();
            for kind in Kind::ALL {
                prop_assert!(objects.names(*kind).eq(expected.names(*kind)), "{kind}");
                for name in objects.names(*kind) {
                    prop_assert_eq!(objects.get(*kind, name), expected.get(*kind, name));
                }
            }
            let expected_findings: BTreeSet<Finding> = expected_findings.into_iter().collect();
            prop_assert!(findings.keys().map(|finding| &**finding).eq(expected_findings.iter()),
                "{findings:#?} {expected_findings:#?}");
            before = reuse(&objects, &before);
            for kind in Kind::ALL {
                prop_assert!(before.names(*kind).eq(objects.names(*kind)), "{kind}");
                for name in objects.names(*kind) {
                    prop_assert_eq!(before.get(*kind, name), objects.get(*kind, name));
                }
            }
        }
    }
}
