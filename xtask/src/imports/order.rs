//! The order of the libraries that programs share: each knows only those below it, and no program.

use std::collections::BTreeSet;

/// From the bottom: the kernel's map types, then the crates of `mesh/` as in `ARCHITECTURE.md`.
pub(super) const LIBRARIES: [&str; 19] = [
    "culvert-abi",
    "culvert-proto",
    "culvert-envoy",
    "culvert-net",
    "culvert-objects",
    "culvert-identity",
    "culvert-profile",
    "culvert-telemetry",
    "culvert-policy",
    "culvert-h2core",
    "culvert-hbone",
    "culvert-xds",
    "culvert-state",
    "culvert-dns",
    "culvert-accounting",
    "culvert-control",
    "culvert-tunnel",
    "culvert-http",
    "culvert-resources",
];

/// What a package imports that does not stand below it. `in_mesh` says that its files are in `mesh/`, where each package
/// must have a place in the order.
pub(super) fn imports_upwards(package: &str, in_mesh: bool, dependencies: &BTreeSet<String>) -> Vec<String> {
    let Some(own) = place(package) else {
        let without = format!("{package} has no place in the order of libraries (xtask/src/imports/order.rs)");
        return if in_mesh { vec![without] } else { Vec::new() };
    };
    let ours = dependencies.iter().filter(|name| name.starts_with("culvert-"));
    ours.filter(|name| place(name).is_none_or(|place| place >= own))
        .map(|name| format!("{package} imports {name}, which does not stand below it"))
        .collect()
}

fn place(package: &str) -> Option<usize> {
    LIBRARIES.iter().position(|library| *library == package)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upwards(package: &str, in_mesh: bool, dependencies: &[&str]) -> Vec<String> {
        let dependencies = dependencies.iter().map(|&name| name.to_owned()).collect();
        imports_upwards(package, in_mesh, &dependencies)
    }

    #[test]
    fn a_library_knows_only_those_below_it() {
        assert!(upwards("culvert-state", true, &["culvert-proto", "culvert-policy", "tokio"]).is_empty());
        assert_eq!(
            upwards(
                "culvert-state",
                true,
                &["culvert-control", "culvert-proto", "culvert-ztunnel"]
            ),
            [
                "culvert-state imports culvert-control, which does not stand below it",
                "culvert-state imports culvert-ztunnel, which does not stand below it"
            ]
        );
        assert!(upwards("culvert-agent", false, &["culvert-control", "culvert-abi"]).is_empty());
    }

    #[test]
    fn a_new_library_of_the_mesh_needs_a_place() {
        assert_eq!(
            upwards("culvert-new", true, &[]),
            ["culvert-new has no place in the order of libraries (xtask/src/imports/order.rs)"]
        );
    }
}
