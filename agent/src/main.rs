//! `culvert-agent`: wires the rooms of the agent together; see the library for what they do.

mod cli;

use std::{
    process::ExitCode,
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use culvert_agent::{
    enrolment::Enrolment, handover::server::Server, kernel::Kernel, monitoring, source::local::LocalPods,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use crate::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = culvert_telemetry::init("culvert-agent", cli.log_format, &cli.log) {
        eprintln!("culvert-agent: {error}");
        return ExitCode::from(2);
    }
    match start(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the agent ends");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: &Cli) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(run(cli))
}

async fn run(cli: &Cli) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("receive signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("receive signals")?;
    let source = LocalPods::open(&cli.config_dir, &cli.node).context("--config-dir")?;
    let listener = TcpListener::bind(cli.monitoring_listen)
        .await
        .with_context(|| format!("--monitoring-listen {}", cli.monitoring_listen))?;
    let server = Server::bind(&cli.zds_socket).with_context(|| format!("--zds-socket {}", cli.zds_socket.display()))?;
    let mut kernel = Kernel::open(&cli.kernel_config()).context("load the kernel programs")?;
    kernel.spawn_log().context("follow the kernel programs' log")?;
    let kernel = Arc::new(Mutex::new(kernel));

    let (events, heard) = mpsc::unbounded_channel();
    let (enrolment, status) = Enrolment::new(source, Arc::clone(&kernel), heard, cli.settings());
    let pages = monitoring::routes(cli.node.clone(), kernel, status);
    tracing::info!(node = cli.node, zds = %cli.zds_socket.display(), monitoring = %cli.monitoring_listen, "the agent runs");
    tokio::select! {
        () = enrolment.run() => {}
        () = server.run(events) => {}
        served = culvert_telemetry::serve(listener, pages) => served.context("serve --monitoring-listen")?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("the agent ends; what is captured stays captured");
    Ok(())
}
