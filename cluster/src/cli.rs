//! The commands, those for people and those for the cluster's own processes.

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use culvert_cluster::{Cluster, Component, Node, Options, inside};
use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
    time::Instant,
};

#[derive(Parser)]
#[command(
    name = "cargo xtask cluster",
    bin_name = "cargo xtask cluster",
    about = "A real Kubernetes cluster on this machine",
    version
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Bring a cluster up
    Up(Up),
    /// Take a cluster down, also one that is up in part only
    Down(Which),
    /// Show what runs, and where
    Status(Which),
    /// A shell with kubectl for the cluster, or inside one of its nodes
    Shell(Shell),
    #[command(hide = true)]
    Run {
        #[arg(long)]
        group: String,
        #[arg(long)]
        netns: PathBuf,
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
    #[command(hide = true)]
    Node { folder: PathBuf },
    #[command(hide = true)]
    Init { folder: PathBuf },
    #[command(hide = true)]
    Enter {
        folder: PathBuf,
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
    #[command(hide = true)]
    Forward { target: SocketAddr },
}

/// Which cluster.
#[derive(Args)]
struct Which {
    /// Name of the cluster; several can be up at the same time
    #[arg(long, default_value = "culvert")]
    name: String,
    /// Folder below which each cluster has a folder of its name [default: cluster in cargo's target folder]
    #[arg(long, env = "CULVERT_CLUSTER_STATE")]
    state: Option<PathBuf>,
}

#[derive(Args)]
struct Up {
    #[command(flatten)]
    which: Which,
    /// Number of nodes; 0 is a control plane alone
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=9))]
    nodes: u8,
    /// Give nodes, pods and services IPv6 addresses too
    #[arg(long)]
    dual_stack: bool,
    /// Folder of image archives for every node [default: images/dev in cargo's target folder]
    #[arg(long)]
    images: Option<PathBuf>,
    /// Folder of the programs kube and coredns [default: cluster/bin in cargo's target folder]
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Leave everything as it is when something does not start
    #[arg(long)]
    keep: bool,
}

#[derive(Args)]
struct Shell {
    #[command(flatten)]
    which: Which,
    /// Enter this node's namespaces, for example node1
    #[arg(long)]
    node: Option<String>,
    /// What to run instead of an interactive shell
    #[arg(last = true)]
    program: Vec<OsString>,
}

impl Cli {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.command {
            Action::Up(options) => up(options)?,
            Action::Down(which) => down(&which)?,
            Action::Status(which) => return status(&which),
            Action::Shell(shell) => return self::shell(&shell),
            Action::Run { group, netns, program } => match inside::run(&group, &netns, &program)? {},
            Action::Node { folder } => inside::node(&folder)?,
            Action::Init { folder } => inside::init(&folder)?,
            Action::Enter { folder, program } => return Ok(inside::enter(&folder, &program)?.into()),
            Action::Forward { target } => inside::forward(target)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Which {
    fn state(&self) -> Result<PathBuf> {
        match &self.state {
            Some(state) => Ok(state.clone()),
            None => Ok(Options::new(&self.name, 0)?.state),
        }
    }

    fn attach(&self) -> Result<Cluster> {
        Ok(Cluster::attach(&self.state()?, &self.name)?)
    }
}

fn up(wanted: Up) -> Result<()> {
    let mut options = Options::new(&wanted.which.name, wanted.nodes)?;
    let target = options.state.parent().unwrap_or(Path::new(".")).to_path_buf();
    options.state = wanted.which.state()?;
    options.programs = wanted.programs.unwrap_or(options.programs);
    options.dual_stack = wanted.dual_stack;
    options.keep = wanted.keep;
    let options = options.images_of(&wanted.images.unwrap_or_else(|| target.join("images/dev")));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&options.interrupted))?;
    }
    let started = Instant::now();
    let cluster = Cluster::up_with(&options, &mut |step, took| {
        eprintln!("{:6.1} s  {step}", took.as_secs_f32());
    })?;
    eprintln!(
        "{:6.1} s  in all: cluster {:?} is up",
        started.elapsed().as_secs_f32(),
        wanted.which.name
    );
    eprintln!("export KUBECONFIG={}", cluster.kubeconfig().display());
    Ok(())
}

fn down(which: &Which) -> Result<()> {
    let started = Instant::now();
    Cluster::down(&which.state()?, &which.name)?;
    eprintln!(
        "{:6.1} s  cluster {:?} is down",
        started.elapsed().as_secs_f32(),
        which.name
    );
    Ok(())
}

fn status(which: &Which) -> Result<ExitCode> {
    let cluster = which.attach()?;
    println!("cluster     {}", cluster.name());
    println!("state       {}", cluster.folder().display());
    println!("kubeconfig  {}", cluster.kubeconfig().display());
    println!("API server  {}", cluster.api_url());
    let version = cluster.kubectl_client().run(&["version", "--output=json"]).ok();
    let version = version.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let server = version
        .as_ref()
        .and_then(|version| version["serverVersion"]["gitVersion"].as_str());
    println!("Kubernetes  {}", server.unwrap_or("does not answer"));
    for component in Component::ALL {
        let state = cluster
            .component(component)
            .map_or("down".into(), |process| format!("process {}", process.pid()));
        println!("{:<24} {state}", component.name());
    }
    for node in cluster.nodes() {
        println!("{:<24} {}", node.name(), describe(node));
    }
    if cluster.check().is_ok() && server.is_some() {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

fn describe(node: &Node) -> String {
    let mut words = vec![
        if node.is_up() { "up" } else { "down" }.to_owned(),
        node.address().to_string(),
    ];
    words.extend(node.address_v6().map(|address| address.to_string()));
    for component in culvert_cluster::NodeComponent::ALL {
        let running = node.pids_of(component.name()).unwrap_or_default();
        let state = running
            .first()
            .map_or("down".into(), |process| process.pid().to_string());
        words.push(format!("{} {state}", component.name()));
    }
    words.join("  ")
}

fn shell(shell: &Shell) -> Result<ExitCode> {
    let cluster = shell.which.attach()?;
    let usual = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let (program, arguments) = match shell.program.split_first() {
        Some((program, arguments)) => (program.clone(), arguments),
        None => (usual, [].as_slice()),
    };
    let mut command = match &shell.node {
        None => Command::new(&program),
        Some(name) => {
            let Some(program) = program.to_str() else {
                bail!("the program's name is not UTF-8");
            };
            cluster.node(name)?.command(program)
        }
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(cluster.programs().to_path_buf()).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders).context("PATH")?);
    match shell.node {
        None => command.env("KUBECONFIG", cluster.kubeconfig()),
        Some(_) => command.env("KUBECONFIG", cluster.kubeconfig_inside()),
    };
    let status = command.args(arguments).status().context("cannot start the shell")?;
    Ok(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1).into())
}
