//! Kubernetes objects become the resources that proxies are told, without I/O: the controller serves them, and `culvert` asks what
//! objects come to before anybody applies them.
//!
//! | module | what |
//! |---|---|
//! | [`model`] | objects become resources, incrementally; how further kinds fit in. Start here |
//! | [`files`] | objects from files, by themselves or over others |
//! | [`keys`] | keys of token issuers: from where they come, and what is known of them |
//! | `routing` | what a waypoint does with requests: routes in our own words, and in Envoy's messages |
//! | [`snapshot`] | all resources at one moment, with their aliases |

#![forbid(unsafe_code)]

pub mod files;
pub mod keys;
pub mod model;
mod routing;
pub mod snapshot;
