//! Reaching a cluster: the API server by kubeconfig or service account, and through it the admin endpoints of our own pods.
//!
//! | file | subject |
//! |---|---|
//! | `api` | the connection, and lists of objects |
//! | `failure` | what goes wrong on the way, each with a remedy |
//! | `admin` | HTTP requests to our pods through the API server; `forward` where an endpoint listens on the pod's localhost only |
//! | `limited` | many requests at once, within a bound |
//! | `names` | names that manifests, programs and this command agree upon |

mod admin;
mod api;
mod failure;
mod forward;
mod limited;
pub(crate) mod names;

pub(crate) use admin::{Page, Unanswered};
pub(crate) use api::{Cluster, list};
pub(crate) use failure::Failure;
pub(crate) use limited::for_each_limited;
