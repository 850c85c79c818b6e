//! What Culvert consists of in a cluster: the manifests below `deploy/`, embedded, so that the `culvert` command can apply
//! and print them without a checkout.
//!
//! There is one source, the files of `daemonset/`, and what may be added to it, the folders of `components/`. Three ways
//! lead from there to a cluster: `kubectl apply -k`, `culvert install` by way of [`manifests`], and the Helm chart, which
//! the tests hold to the same result.
//!
//! ```
//! use culvert_deploy::{Values, manifests};
//!
//! let mut values = Values::default();
//! values.config.set("mesh-cidr", "198.18.64.0/18,198.19.0.0/16")?;
//! for document in manifests(&values)? {
//!     println!("{document}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `files` has the texts, `values` says what may differ from cluster to cluster, `settings` what the programs can be told, `monitoring` is what those take who watch, `platform` where distributions keep what Culvert
//! reaches for, `merge` lays a component's patches over the
//! base, `document` is one object, [`privileges`] lists what each container and account may do, with the reason,
//! [`Rollout`] says how far an update is, [`waypoint`] is what the controller makes
//! of a Gateway.

mod document;
mod error;
mod files;
mod merge;
mod monitoring;
mod platform;
pub mod privileges;
mod release;
mod rollout;
mod settings;
mod values;
pub mod waypoint;

pub use document::{Document, Id};
pub use error::{Error, OverlayError};
pub use platform::Platform;
pub use release::{ARCHITECTURES, REGISTRY, VERSION};
pub use rollout::Rollout;
pub use settings::{Config, Examples, Kind, SETTINGS, Setting};
pub use values::{Component, HostPaths, Monitoring, Values};

/// The namespace that everything lives in.
pub const NAMESPACE: &str = "culvert-system";

/// The definitions of the kinds of objects that the mesh obeys and that a cluster may lack. None is removed with Culvert, since its objects would
/// go with it. Those of group `culvert.dev` are Culvert's own, and to be as they are here; others belong to whoever brought them, and are to be
/// created where they are not there.
///
/// # Errors
/// When the files are no manifests.
pub fn crds() -> Result<Vec<Document>, Error> {
    let mut documents = Vec::new();
    for file in files::CRDS {
        documents.extend(file.documents()?);
    }
    Ok(documents)
}

/// The objects to apply, in an order in which each finds what it needs: the namespace first.
///
/// # Errors
/// When a value cannot be meant.
pub fn manifests(values: &Values) -> Result<Vec<Document>, Error> {
    values.check()?;
    let mut documents = Vec::new();
    for file in files::BASE {
        documents.extend(file.documents()?);
    }
    for component in &values.components {
        let files = component.files();
        for file in files.resources {
            documents.extend(file.documents()?);
        }
        for file in files.patches {
            merge::patch(&mut documents, file)?;
        }
    }
    values.fill_in(&mut documents)?;
    documents.extend(values.monitoring.documents()?);
    Ok(documents)
}
