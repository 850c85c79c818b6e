//! What `cargo xtask test` is told.

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run only the tests whose name contains one of these words (nextest's filter); no format or lint check then
    #[arg(value_name = "WORD")]
    pub(super) words: Vec<String>,
    /// Run only the tests of a nextest filter expression, for example 'package(culvert-tests) & test(capture)'
    #[arg(long, short = 'E', value_name = "EXPRESSION")]
    pub(super) filter: Option<String>,
    /// Run only the tests on a real Kubernetes cluster, which is made for them and removed in the end
    #[arg(long, conflicts_with = "plain")]
    pub(super) cluster: bool,
    /// Run only the tests that need no cluster
    #[arg(long)]
    pub(super) plain: bool,
    /// Leave the cluster up after its tests
    #[arg(long)]
    pub(super) keep: bool,
    /// Run the cluster's tests on this cluster, which is up, with the images that it has; builds only the tests
    #[arg(long, value_name = "CLUSTER", requires = "cluster", conflicts_with = "keep")]
    pub(super) on: Option<String>,
    /// Run the tests that depend on the kernel on another one, which boots under QEMU: 6.1
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["cluster", "plain", "keep", "repeat"])]
    pub(super) kernel: Option<String>,
    /// Run the protocol libraries' tests on another architecture, which QEMU emulates: arm64
    #[arg(long, value_name = "ARCHITECTURE", conflicts_with_all = ["cluster", "plain", "keep", "repeat", "kernel"])]
    pub(super) arch: Option<String>,
    /// Run the tests this many times, to find those that fail now and then; what is built and checked before them is done once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) repeat: u32,
}

impl Options {
    /// Whether nothing is left out of what was chosen.
    pub(super) fn everything(&self) -> bool {
        self.words.is_empty() && self.filter.is_none()
    }
}
