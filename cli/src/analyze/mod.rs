//! `culvert analyze`: everything that is wrong or without effect in objects: of a cluster, of files, or of a cluster with files applied.
//!
//! A controller says it (its page `/analyze`), or the same code says it of files alone.

use crate::{
    cluster::Cluster,
    controller, files,
    local::servers::Servers,
    print::{Answer, Section},
    target::Target,
};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use culvert_objects::{Kind, Object, Severity};
use culvert_resources::{
    files::World,
    model::{Problem, Settings},
};
use serde_json::json;
use std::path::PathBuf;

/// The controller's page.
const ANALYZE: &str = "/analyze";

/// What is looked at.
#[derive(Args, Clone, Debug)]
pub(crate) struct AnalyzeFlags {
    /// A file or folder of manifests; `-` is standard input. With a cluster, what would be with them applied. May be given several
    /// times
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The files alone: no cluster is asked although one is configured
    #[arg(long, requires = "files")]
    pub(crate) offline: bool,
    /// What is said of objects of this namespace alone [default: all of them]
    #[arg(long, short, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// From what on the exit code is 1
    #[arg(long, value_enum, default_value = "error", value_name = "SEVERITY")]
    pub(crate) fail_on: FailOn,
}

impl AnalyzeFlags {
    /// Whether the files alone are looked at: where that is asked for, and where there are files and nobody to ask.
    pub(crate) fn is_offline(&self, target: &Target) -> bool {
        self.offline || (!self.files.is_empty() && !target.is_local() && !Cluster::is_configured(target))
    }
}

/// What makes the exit code 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// An error
    Error,
    /// A warning or an error
    Warning,
}

/// Of a cluster, with the files applied.
pub(crate) async fn of_cluster(cluster: &Cluster, flags: &AnalyzeFlags) -> Result<Answer> {
    let said = controller::ask(cluster, ANALYZE, &question(flags)?).await?;
    Ok(shown(flags, read(&said)?))
}

/// Of what the controller of this machine reads, with the files applied.
pub(crate) fn of_this_machine(servers: &Servers, flags: &AnalyzeFlags) -> Result<Answer> {
    let said = servers.controller().post(ANALYZE, &question(flags)?)?;
    Ok(shown(flags, read(&said)?))
}

/// Of files alone.
pub(crate) fn of_files(flags: &AnalyzeFlags) -> Result<Answer> {
    let read = culvert_resources::files::read(&files::read(&flags.files)?);
    if let Some(namespace) = &flags.namespace
        && read.findings.is_empty()
        && !read.objects.iter().any(|(object, _)| belongs_to(object, namespace))
    {
        bail!("--namespace: no object of these files is in a namespace {namespace}");
    }
    let world = World::of_files(&read);
    Ok(shown(flags, world.model(Settings::default()).analyze(&world.findings)))
}

/// Whether an object is in a namespace, or is that namespace.
fn belongs_to(object: &Object, namespace: &str) -> bool {
    let name = object.name();
    *name.namespace == *namespace || (object.kind() == Kind::Namespace && *name.name == *namespace)
}

fn question(flags: &AnalyzeFlags) -> Result<String> {
    Ok(json!({ "files": files::read(&flags.files)? }).to_string())
}

fn read(said: &str) -> Result<Vec<Problem>> {
    serde_json::from_str(said).context("the controller answered what is not understood here")
}

fn shown(flags: &AnalyzeFlags, mut problems: Vec<Problem>) -> Answer {
    if let Some(namespace) = &flags.namespace {
        problems.retain(|problem| is_of(problem, namespace));
    }
    let worst = problems.iter().map(|problem| problem.severity).max();
    let least = match flags.fail_on {
        FailOn::Error => Severity::Error,
        FailOn::Warning => Severity::Warning,
    };
    let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let of = |severity: Severity| match count(severity) {
        1 => format!("1 {}", severity.name()),
        count => format!("{count} {}s", severity.name()),
    };
    let words = format!("{}, {}", of(Severity::Error), of(Severity::Warning));
    let table = Section {
        title: "",
        header: &["severity", "object", "field", "what", "what to do"],
        rows: problems.iter().map(row).collect(),
        when_empty: "nothing is wrong".to_owned(),
    };
    Answer {
        is_well: worst.is_none_or(|worst| worst < least),
        json: json!({ "problems": problems }),
        sections: vec![table, Section::words(words)],
    }
}

/// Whether an object is in a namespace, or is that namespace. What is of no object is said in any case.
fn is_of(problem: &Problem, namespace: &str) -> bool {
    let Some((kind, name)) = problem.object.split_once(' ') else {
        return true;
    };
    match name.split_once('/') {
        Some((home, _)) => home == namespace,
        None => kind == "Namespace" && name == namespace,
    }
}

fn row(problem: &Problem) -> Vec<String> {
    let or = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.to_owned()
        }
    };
    let object = if problem.object.is_empty() {
        &problem.place
    } else {
        &problem.object
    };
    vec![
        problem.severity.name().to_owned(),
        or(object),
        or(&problem.field),
        problem.message.clone(),
        problem.remedy.clone(),
    ]
}

#[cfg(test)]
mod tests;
