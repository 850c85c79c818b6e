//! What `cargo xtask demo` is told.

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// In a real Kubernetes cluster of two nodes on this machine, with Culvert installed as a DaemonSet
    #[arg(long)]
    pub(super) cluster: bool,
    /// Policies instead: strict mode and one that lets only the page ask for details, and who is refused then
    #[arg(long, conflicts_with_all = ["cluster", "keep", "down"])]
    pub(super) policy: bool,
    /// A waypoint instead: a canary, one user's own version, mirrored requests, new paths and retries
    #[arg(long, conflicts_with_all = ["cluster", "policy", "keep", "down"])]
    pub(super) waypoint: bool,
    /// Leave everything running, and tell what to try and how to remove it
    #[arg(long, conflicts_with = "down")]
    pub(super) keep: bool,
    /// Remove what `--keep` left running
    #[arg(long)]
    pub(super) down: bool,
    /// End with one line of JSON
    #[arg(long)]
    pub(super) json: bool,
    /// How many requests the visitor sends before, and again after the namespace has joined
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub(super) requests: u32,
    /// Set when this program starts itself again as root: when the demo began, in seconds since 1970.
    #[arg(long, hide = true)]
    pub(super) began: Option<u64>,
}
