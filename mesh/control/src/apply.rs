//! From an answer of the controller to what is held: each resource is taken over or refused by name.

use std::collections::BTreeSet;

use culvert_identity::TrustBundle;
use culvert_proto::{ADDRESS_TYPE, MESH_NAME};
use culvert_state::{MeshSettings, Store};
use culvert_xds::client::{Rejection, Update};
use ipnet::IpNet;

use crate::channel::{ControllerClient, chain};

/// Takes the roots over. That there are none is never told: roots that were told stay trusted.
pub(super) fn apply_roots(controller: &ControllerClient, update: &Update<'_>) -> Vec<Rejection> {
    let mut rejections = Vec::new();
    for resource in update.resources {
        let bytes = resource.resource.as_ref().map_or(&[][..], |any| &any.value);
        let pem = <String as prost::Message>::decode(bytes).map_err(|error| error.to_string());
        let checked = pem.and_then(|pem| match TrustBundle::from_pem(pem.as_bytes()) {
            Ok(_) => Ok(pem),
            Err(error) => Err(chain(&error)),
        });
        match checked {
            Ok(pem) => controller.tell_roots(&pem),
            Err(reason) => rejections.push(Rejection {
                name: resource.name.clone(),
                reason,
            }),
        }
    }
    rejections
}

/// Takes over what holds for the mesh as a whole: its ranges, beside those that were given by hand, and who reaches nothing
/// else than what is known.
pub(super) fn apply_mesh(store: &mut Store, by_hand: &[IpNet], update: &Update<'_>) -> Vec<Rejection> {
    if update.removed.iter().any(|name| name == MESH_NAME) {
        store.claim(by_hand, false);
        store.set_registry_only([]);
    }
    let mut rejections = Vec::new();
    for resource in update.resources.iter().filter(|resource| resource.name == MESH_NAME) {
        let bytes = resource.resource.as_ref().map_or(&[][..], |any| &any.value);
        match MeshSettings::decode(bytes) {
            // A controller that does not know its cluster's ranges yet does not say that there are none.
            Ok(MeshSettings { ranges, registry_only }) => {
                store.set_registry_only(registry_only);
                let told = !ranges.is_empty();
                let all: BTreeSet<IpNet> = ranges.into_iter().chain(by_hand.iter().copied()).collect();
                tracing::info!(ranges = ?all, "the mesh's ranges");
                store.claim(&all.into_iter().collect::<Vec<_>>(), told);
            }
            Err(error) => rejections.push(Rejection {
                name: resource.name.clone(),
                reason: error.to_string(),
            }),
        }
    }
    rejections
}

/// Takes over workloads, services and policies.
pub(super) fn apply(store: &mut Store, update: &Update<'_>) -> Vec<Rejection> {
    let addresses = update.type_url == ADDRESS_TYPE;
    for name in update.removed {
        if addresses {
            store.remove_address(name)
        } else {
            store.remove_policy(name)
        }
    }
    let mut rejections = Vec::new();
    for resource in update.resources {
        let bytes = resource.resource.as_ref().map_or(&[][..], |any| &any.value);
        let name = &resource.name;
        let outcome = if addresses {
            store.put_address(name, bytes)
        } else {
            store.put_policy(name, bytes)
        };
        if let Err(error) = outcome {
            rejections.push(Rejection {
                name: name.clone(),
                reason: error.to_string(),
            });
        }
    }
    rejections
}
