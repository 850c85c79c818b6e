//! The kinds of the Gateway API, while a test needs them.

use crate::{World, until};
use std::path::{Path, PathBuf};

/// They go when the value is dropped, with all objects of theirs.
#[derive(Debug)]
pub struct GatewayApi<'a> {
    world: &'a World,
    folder: PathBuf,
}

impl<'a> GatewayApi<'a> {
    /// Installs the experimental channel, which has them all; returns when Gateways can be made.
    pub fn install(world: &'a World) -> Self {
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"));
        let folder = target.join("crds/gateway-api/experimental");
        assert!(folder.is_dir(), "{} is not there: cargo xtask crds", folder.display());
        let api = Self { world, folder };
        api.each(&["apply", "--server-side", "--force-conflicts", "-f"]);
        until("Gateways to be known", || {
            let crd = world.kubectl(&["get", "crd", "gateways.gateway.networking.k8s.io", "-o", "json"]);
            crd.contains("\"Established\"")
        });
        api
    }

    fn each(&self, arguments: &[&str]) {
        let folder = self.folder.to_str().unwrap();
        self.world.kubectl(&[arguments, &[folder]].concat());
    }
}

impl Drop for GatewayApi<'_> {
    fn drop(&mut self) {
        self.each(&["delete", "--ignore-not-found", "-f"]);
    }
}
