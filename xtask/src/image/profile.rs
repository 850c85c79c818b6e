//! How programs are built for images.

/// How programs are built, and how much trouble is taken over an image's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// For tests: built quickly, with names of functions, not compressed
    Dev,
    /// As [`Profile::Dev`], with programs as `cargo xtask test` builds them, so that nothing is built twice
    #[value(skip)]
    Tests,
    /// For use: optimized, stripped and compressed
    Release,
}

impl Profile {
    /// The folder below `target` that cargo builds into.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Dev | Self::Tests => "debug",
            Self::Release => "release",
        }
    }

    pub(super) fn cargo_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Dev | Self::Tests => &[],
            Self::Release => &["--release"],
        }
    }

    /// As the command line says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dev | Self::Tests => "dev",
            Self::Release => "release",
        }
    }
}
