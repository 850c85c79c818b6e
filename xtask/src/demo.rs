//! placeholder: `cargo xtask demo`, owned by LAB

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Options {}

/// Runs the demo.
pub(crate) fn run(_options: &Options) -> anyhow::Result<()> {
    anyhow::bail!("not there yet")
}
