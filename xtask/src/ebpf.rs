//! placeholder: `cargo xtask build-ebpf`, owned by KERNEL

/// Options of `cargo xtask build-ebpf`.
#[derive(clap::Args, Default)]
pub(crate) struct Options {}

/// Builds the kernel programs.
pub(crate) fn run(_options: &Options) -> anyhow::Result<()> {
    Ok(())
}
