//! What a proxy knows of the mesh: workloads, services, policies; where a connection goes, and whether it may.
#![forbid(unsafe_code)]
