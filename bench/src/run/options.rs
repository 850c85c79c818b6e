//! What is to be measured, as the command line says it.

use super::{
    loads::{LOADS, Load},
    mode::Mode,
};
use anyhow::{Result, bail};
use std::{path::PathBuf, time::Duration};

/// Options of `culvert-bench run`.
#[derive(Clone, clap::Args)]
pub(crate) struct Options {
    /// Fewer loads, and fewer and shorter rounds
    #[arg(long)]
    pub(super) quick: bool,
    /// End with one line of JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Write the report with its plots into this folder
    #[arg(long, value_name = "FOLDER")]
    pub(super) out: Option<PathBuf>,
    /// What to measure; all that can be when not given
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) modes: Vec<Mode>,
    /// Measure only these loads, or those whose names begin so
    #[arg(long, value_delimiter = ',', value_name = "LOAD,...")]
    pub(super) loads: Vec<String>,
    /// The Envoy program, for sidecars
    #[arg(long, value_name = "FILE")]
    pub(super) envoy: Option<PathBuf>,
    /// Another node proxy to measure beside Culvert's, under the same agent and controller: `ztunnel=FILE`
    #[arg(long, value_name = "ztunnel=FILE", value_parser = peer)]
    pub(super) peer: Option<PathBuf>,
    /// The folder with Culvert's programs; where this program is, when not given
    #[arg(long, value_name = "FOLDER")]
    pub(super) programs: Option<PathBuf>,
    /// The folder with the programs of another revision, for mode culvert-before
    #[arg(long, value_name = "FOLDER")]
    pub(super) before: Option<PathBuf>,
    /// Which revision that is, for reports
    #[arg(long, value_name = "REVISION", requires = "before")]
    pub(super) before_version: Option<String>,
    /// Rounds, instead of 5 (3 with --quick)
    #[arg(long)]
    pub(super) rounds: Option<u32>,
    /// Measured time of each load, seconds, instead of 1.6 (1 with --quick)
    #[arg(long)]
    pub(super) seconds: Option<f64>,
    /// Time before it that is not measured, seconds
    #[arg(long, default_value_t = 0.3)]
    pub(super) warm_up: f64,
    /// Memory is looked at with so many open connections, instead of 0, 1,000 and 10,000 (0 and 1,000 with --quick)
    #[arg(long, value_delimiter = ',', value_name = "COUNT,...")]
    pub(super) held: Vec<u64>,
    /// How often a disturbed sample is taken again
    #[arg(long, default_value_t = 2)]
    pub(super) repeats: u32,
    /// Do not count system calls and the calls of hooks, which takes a short run of each load
    #[arg(long)]
    pub(super) without_counts: bool,
    /// How long a proxy may take to be ready, seconds
    #[arg(long, default_value_t = 30.0)]
    pub(super) patience: f64,
}

impl Options {
    /// The modes, in the order in which they were asked for; a peer that is named is one of them.
    pub(super) fn modes(&self) -> Vec<Mode> {
        let mut modes = self.modes.clone();
        if modes.is_empty() {
            modes.extend(Mode::OWN);
        }
        if self.peer.is_some() && !modes.contains(&Mode::Ztunnel) {
            modes.push(Mode::Ztunnel);
        }
        modes
    }

    /// The loads, in the order of a round.
    ///
    /// # Errors
    /// When a name that was asked for begins none.
    pub(super) fn loads(&self) -> Result<Vec<Load>> {
        for wanted in &self.loads {
            if !LOADS.iter().any(|load| load.name.starts_with(&**wanted)) {
                let all: Vec<_> = LOADS.iter().map(|load| load.name).collect();
                bail!("no load begins with {wanted:?}: there are {}", all.join(", "));
            }
        }
        let is_wanted = |load: &Load| match &*self.loads {
            [] => load.quick || !self.quick,
            some => some.iter().any(|wanted| is_meant(wanted, load)),
        };
        Ok(LOADS.into_iter().filter(is_wanted).collect())
    }

    pub(super) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 5 })
    }

    pub(super) fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.quick { 1.0 } else { 1.6 })
    }

    pub(super) fn held(&self) -> &[u64] {
        match (&*self.held, self.quick) {
            ([], true) => &[0, 1000],
            ([], false) => &[0, 1000, 10_000],
            (some, _) => some,
        }
    }

    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.patience.max(0.1))
    }
}

/// A name means itself, and what is none means all that begin with it.
fn is_meant(wanted: &str, load: &Load) -> bool {
    if LOADS.iter().any(|load| load.name == wanted) {
        return load.name == wanted;
    }
    load.name.starts_with(wanted)
}

fn peer(text: &str) -> Result<PathBuf, String> {
    match text.split_once('=') {
        Some(("ztunnel", path)) if !path.is_empty() => Ok(path.into()),
        _ => Err("say ztunnel=FILE: only Istio's ztunnel is known to take the place of ours".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &[&str]) -> Options {
        Cli::try_parse_from(["run"].iter().chain(arguments)).unwrap().options
    }

    #[test]
    fn a_peer_is_a_mode_by_itself() {
        let options = parse(&["--peer", "ztunnel=/opt/ztunnel"]);
        assert_eq!(options.modes().last(), Some(&Mode::Ztunnel));
        let options = parse(&["--peer", "ztunnel=/opt/ztunnel", "--modes", "culvert"]);
        assert_eq!(options.modes(), [Mode::Culvert, Mode::Ztunnel]);
        assert!(!parse(&[]).modes().contains(&Mode::Ztunnel));
        assert!(Cli::try_parse_from(["run", "--peer", "other=/x"]).is_err());
    }

    #[test]
    fn loads_are_chosen_by_how_their_names_begin() {
        let names = |arguments: &[&str]| -> Vec<_> {
            let loads = parse(arguments).loads().unwrap();
            loads.iter().map(|load| load.name).collect()
        };
        assert_eq!(names(&["--loads", "up,dns"]), ["upload-1", "upload-8", "dns-16"]);
        assert_eq!(names(&["--loads", "requests-1"]), ["requests-1"]);
        assert_eq!(names(&[]).len(), LOADS.len());
        assert!(names(&["--quick"]).len() < LOADS.len());
        let error = parse(&["--loads", "nothing"]).loads().unwrap_err().to_string();
        assert!(
            error.contains("\"nothing\"") && error.contains("requests-16"),
            "{error}"
        );
    }
}
