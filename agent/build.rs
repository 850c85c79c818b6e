//! Finds the kernel programs that the agent carries inside itself.

use std::{
    env,
    path::{Path, PathBuf},
    process::exit,
};

const VARIABLE: &str = "CULVERT_EBPF_OBJECT";

fn main() {
    println!("cargo:rerun-if-env-changed={VARIABLE}");
    let object = match env::var_os(VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => built_by_xtask(),
    };
    println!("cargo:rerun-if-changed={}", object.display());
    if !object.is_file() {
        eprintln!(
            "{} is absent: run `cargo xtask build-ebpf` first, or name another object in {VARIABLE}",
            object.display()
        );
        exit(1);
    }
    println!("cargo:rustc-env={VARIABLE}={}", object.display());
}

/// `ebpf/culvert.o` in cargo's target folder. That folder may be anywhere, but our output folder is inside it.
fn built_by_xtask() -> PathBuf {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let object = Path::new("ebpf/culvert.o");
    let found = out
        .ancestors()
        .map(|folder| folder.join(object))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(object))
}
