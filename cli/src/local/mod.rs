//! Questions to the programs of one machine, by their admin servers, without a cluster: `views` shows the answers of `servers`, `connections` those of proxy and agent together;
//! `services` is how a service is shown, also of a cluster's.

pub(crate) mod cells;
pub(crate) mod connections;
pub(crate) mod servers;
pub(crate) mod services;
pub(crate) mod views;
