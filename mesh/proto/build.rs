//! Compiles `protos/` with protox, so that no `protoc` has to be installed, and keeps the descriptors for reflection.

use std::path::PathBuf;

use prost::Message as _;

const FILES: [&str; 7] = [
    "workload.proto",
    "authorization.proto",
    "zds.proto",
    "citadel.proto",
    "discovery.proto",
    "cri.proto",
    "mesh.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=protos");
    let descriptors = protox::compile(FILES, ["protos"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
