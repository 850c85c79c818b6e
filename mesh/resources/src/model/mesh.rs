//! What proxies are told of the mesh as a whole.

use culvert_objects::{Key, Namespace, OUTBOUND_ANNOTATION, OutboundPolicy};
use culvert_proto::config::Mesh;

use super::ranges;
use super::reader::Reader;

/// The resource; none where there is nothing to tell.
pub(super) fn mesh(reader: &Reader<'_>) -> Option<Mesh> {
    let mesh = Mesh {
        ranges: ranges::ranges(reader),
        registry_only_namespaces: registry_only(reader),
    };
    (mesh != Mesh::default()).then_some(mesh)
}

/// The namespaces whose pods reach nothing but what the mesh knows, in order.
fn registry_only(reader: &Reader<'_>) -> Vec<String> {
    let is_meant = |namespace: &Namespace| {
        let annotations = namespace.metadata.annotations.as_ref();
        let outbound = annotations.and_then(|all| all.get(OUTBOUND_ANNOTATION));
        OutboundPolicy::is_registry_only(outbound.map(String::as_str))
    };
    let found = reader.find::<Namespace>(Key::registry_only());
    let found = found.filter(|(_, namespace)| is_meant(namespace));
    let mut names: Vec<String> = found.map(|(name, _)| name.name.to_string()).collect();
    names.sort_unstable();
    names
}
