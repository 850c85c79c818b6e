//! What may be configured of the mesh while it runs: the ConfigMap `culvert-mesh` of the mesh's own namespace or the root
//! namespace, or else Istio's own of the root namespace.

use std::sync::Arc;

use culvert_objects::mesh_config::{ISTIO, MeshConfig, NAME};
use culvert_objects::{ConfigMap, Finding, Kind, ObjectName};

use super::reader::Reader;
use super::settings::Settings;
use super::unit::Derived;

/// The configuration that holds, whole: two of them are not put together.
pub(super) fn of<'a>(reader: &Reader<'a>) -> Option<&'a Arc<MeshConfig>> {
    holding(reader).map(|(_, config)| config)
}

/// What of a ConfigMap is not in force.
pub(super) fn findings(reader: &Reader<'_>, name: &ObjectName) -> Derived {
    let config = reader.own::<ConfigMap>(name).and_then(|map| map.mesh.as_ref());
    let Some(config) = config else {
        return Derived::default();
    };
    let find = |field: &str, message: String| Finding::of_object(Kind::ConfigMap, name, field, message);
    let findings = match holding(reader) {
        Some((holds, _)) if holds == *name => {
            let notes = config.notes.iter();
            notes
                .map(|note| find(&format!("data.mesh: {}", note.field), note.message.clone()))
                .collect()
        }
        Some((holds, _)) => vec![find(
            "data.mesh",
            format!("not in force: ConfigMap {holds} holds instead, whole"),
        )],
        None => {
            let settings = reader.settings();
            let message = format!(
                "not in force: the mesh is configured by ConfigMap {}/{NAME}, or {NAME} or {ISTIO} of {}",
                settings.system_namespace, settings.root_namespace
            );
            vec![find("data.mesh", message)]
        }
    };
    Derived {
        findings,
        ..Derived::default()
    }
}

fn holding<'a>(reader: &Reader<'a>) -> Option<(ObjectName, &'a Arc<MeshConfig>)> {
    places(reader.settings()).into_iter().find_map(|name| {
        let config = reader.get::<ConfigMap>(&name)?.mesh.as_ref()?;
        Some((name, config))
    })
}

/// Where it may be: the first holds.
fn places(settings: &Settings) -> [ObjectName; 3] {
    let (own, root) = (settings.system_namespace.as_str(), settings.root_namespace.as_str());
    [
        ObjectName::new(own, NAME),
        ObjectName::new(root, NAME),
        ObjectName::new(root, ISTIO),
    ]
}
