//! What is to be measured, as the command line says it.

use std::path::PathBuf;

/// Options of `culvert-bench waypoint`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The Envoy program to compare with
    #[arg(long, value_name = "FILE")]
    pub(super) envoy: PathBuf,
    /// Another build of culvert-waypoint, which takes the place of Envoy: what a change is worth, in one run
    #[arg(long, value_name = "FILE")]
    pub(super) before: Option<PathBuf>,
    /// Few and short rounds, and fewer objects: to see that it runs
    #[arg(long)]
    pub(super) short: bool,
    /// End with one line of JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Measure only loads whose name begins with one of these
    #[arg(long, value_delimiter = ',')]
    pub(super) only: Vec<String>,
    /// Leave memory and changes out
    #[arg(long)]
    pub(super) loads_only: bool,
    /// The folder with Culvert's programs; where this program is, when not given
    #[arg(long, value_name = "FOLDER")]
    pub(super) programs: Option<PathBuf>,
    /// Rounds, instead of 5 (1 with --short)
    #[arg(long)]
    pub(super) rounds: Option<u32>,
    /// Measured time of each load, seconds, instead of 3 (0.3 with --short)
    #[arg(long)]
    pub(super) seconds: Option<f64>,
}

/// What is measured beside this build.
#[derive(Clone, Debug)]
pub(super) enum Other {
    /// The Envoy program.
    Envoy(PathBuf),
    /// Another build of `culvert-waypoint`.
    Before(PathBuf),
}

impl Other {
    /// In tables.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Envoy(_) => "Envoy",
            Self::Before(_) => "before",
        }
    }
}

impl Options {
    pub(super) fn other(&self) -> Other {
        match &self.before {
            Some(program) => Other::Before(program.clone()),
            None => Other::Envoy(self.envoy.clone()),
        }
    }

    pub(super) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.short { 1 } else { 5 })
    }

    pub(super) fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.short { 0.3 } else { 3.0 })
    }
}
