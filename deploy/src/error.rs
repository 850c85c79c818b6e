//! What may be wrong with the manifests.

use crate::Id;

/// Why the manifests cannot be made. Each is a mistake in the files, which the tests would have found, except
/// [`Error::Value`], [`Error::Key`], [`Error::Setting`] and [`Error::Overlay`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file is no YAML, or no object of Kubernetes.
    #[error("{file}: {reason}")]
    File {
        /// Below `deploy/`.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A patch is for an object that is not there.
    #[error("{file} patches {id}, which is not there")]
    Target {
        /// Below `deploy/`.
        file: &'static str,
        /// The object.
        id: Id,
    },
    /// An object lacks what a value belongs in.
    #[error("{id} has no {path}")]
    Place {
        /// The object.
        id: Id,
        /// What it lacks.
        path: &'static str,
    },
    /// Parameters of a waypoint that cannot be obeyed.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// A value that cannot be meant.
    #[error("{what}: `{value}` {reason}")]
    Value {
        /// Which value.
        what: &'static str,
        /// As given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no such setting.
    #[error("`{key}` is no setting; there are: {known}")]
    Key {
        /// As given.
        key: String,
        /// Those that there are.
        known: String,
    },
    /// The value of a setting that its programs would refuse.
    #[error("{key}: `{value}` is not {allowed}")]
    Setting {
        /// The key in the ConfigMap.
        key: &'static str,
        /// As given.
        value: String,
        /// What may be given.
        allowed: String,
    },
}

/// Why parameters of a waypoint cannot be obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct OverlayError {
    /// Key of the ConfigMap.
    pub key: String,
    /// What is wrong there, with the path of the field.
    pub reason: String,
}
