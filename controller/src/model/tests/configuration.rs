//! What is configured of the mesh while it runs.

use super::*;

fn map(namespace: &str, name: &str, mesh: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n---\napiVersion: v1\nkind: ConfigMap\n\
         metadata: {{name: {name}, namespace: {namespace}}}\ndata: {{mesh: \"{mesh}\"}}\n"
    )
}

fn said(model: &Model) -> Vec<String> {
    model.findings().keys().map(|finding| finding.to_string()).collect()
}

fn providers(model: &Model) -> Vec<String> {
    let reader = model.reader();
    let config = mesh_config::of(&reader);
    let all = config.into_iter().flat_map(|config| &config.providers);
    all.map(|provider| provider.name.clone()).collect()
}

#[test]
fn the_mesh_is_configured_by_its_own_config_map_and_else_by_istios_and_the_other_is_a_finding() {
    let istios = map(
        "istio-system",
        "istio",
        "extensionProviders: [{name: a, prometheus: {}}]\\ncolour: red",
    );
    let mut world = World::of(&istios);
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    assert_eq!(providers(&model), ["a"]);
    assert_eq!(
        said(&model),
        ["ConfigMap istio-system/istio: data.mesh: colour: the mesh does not read it"]
    );
    world.apply(&map(
        "culvert-system",
        "culvert-mesh",
        "extensionProviders: [{name: b, prometheus: {}}]",
    ));
    model.update(&world.objects(), Instant::now());
    assert_eq!(providers(&model), ["b"]);
    assert_eq!(
        said(&model),
        [
            "ConfigMap istio-system/istio: data.mesh: not in force: ConfigMap culvert-system/culvert-mesh holds instead, whole"
        ]
    );
}

#[test]
fn a_config_map_that_cannot_be_read_keeps_the_last_good_one_in_a_cluster() {
    let mut world = World::of(&map(
        "culvert-system",
        "culvert-mesh",
        "extensionProviders: [{name: a, prometheus: {}}]",
    ));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    let bad = serde_json::json!({
        "metadata": {"name": "culvert-mesh", "namespace": "culvert-system"}, "data": {"mesh": "a: ["}
    });
    let problem = Kind::ConfigMap.descriptor().read(bad).unwrap_err();
    let name = ObjectName::new("culvert-system", "culvert-mesh");
    world.assembly.refuse(Kind::ConfigMap, &name, problem);
    model.update(&world.objects(), Instant::now());
    assert_eq!(providers(&model), ["a"]);
    let findings: Vec<String> = world
        .assembly
        .settle()
        .1
        .keys()
        .map(|finding| finding.to_string())
        .collect();
    assert!(
        findings[0].contains("data.mesh") && findings[0].contains("the last good one holds"),
        "{findings:?}"
    );
}
