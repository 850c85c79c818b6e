//! Tests on a real Kubernetes cluster. One program, because each would be linked with all that speaks to one; a test's name begins with its
//! file's. They run in the order of their names, so that what removes the mesh comes last.

mod bad_input;
mod bench;
mod capabilities;
mod failure;
mod gate;
mod membership;
mod new_pods;
mod policies;
mod probes;
mod reboot;
mod rights;
mod rollout;
mod rotation;
mod services;
mod settings;
mod waypoint_traffic;
mod waypoints;
mod z_removal;
