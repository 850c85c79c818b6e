//! Another node proxy in place of ours, which is Istio's ztunnel: the same agent and controller, the same pods.
//!
//! It lives in a lab of its own, since a node has one proxy. Its program is none of the product's: whoever wants this mode
//! names it.

use anyhow::{Context, Result, ensure};
use culvert_lab::{CONTROL_IP4, Lab, Mesh, MeshOptions, Process, wait_until};
use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Agents and controller of a lab, and Istio's ztunnel on each node.
pub(super) struct PeerMesh<'lab> {
    /// Without our own proxies.
    pub(super) mesh: Mesh<'lab>,
    /// Istio's ztunnel of node 1 and node 2.
    pub(super) proxies: Vec<Process>,
}

/// Starts all of it in a lab whose namespace is labelled already.
///
/// # Errors
/// When the program does not start, ends, or is not ready in time.
pub(super) fn start<'lab>(
    lab: &'lab Lab,
    program: &Path,
    options: MeshOptions,
    patience: Duration,
) -> Result<PeerMesh<'lab>> {
    let mesh = Mesh::start(
        lab,
        MeshOptions {
            without_ztunnels: true,
            ..options
        },
    )?;
    let mut proxies = Vec::new();
    for node in [1, 2] {
        let place = lab.node(node);
        let mut command = Command::new(program);
        command.args(["proxy", "ztunnel"]);
        for (name, value) in [
            ("XDS_ADDRESS", format!("https://{CONTROL_IP4}:15012")),
            ("CA_ADDRESS", format!("https://{CONTROL_IP4}:15012")),
            ("XDS_ROOT_CA", lab.state_dir().join("ca/root.pem").display().to_string()),
            ("CA_ROOT_CA", lab.state_dir().join("ca/root.pem").display().to_string()),
            (
                "AUTH_TOKEN",
                token_without_newline(lab, &mesh.token(node)?)?.display().to_string(),
            ),
            ("PROXY_MODE", "shared".to_owned()),
            ("INPOD_UDS", place.zds_socket().display().to_string()),
            ("NODE_NAME", place.name().to_owned()),
            ("CLUSTER_ID", "Kubernetes".to_owned()),
            ("POD_NAME", format!("ztunnel-{node}")),
            ("POD_NAMESPACE", "istio-system".to_owned()),
            ("SERVICE_ACCOUNT", "ztunnel".to_owned()),
            ("INSTANCE_IP", place.ip4().to_string()),
            // Packet rules would be needed for that; our kernel programs tell the application who its client is.
            ("ENABLE_ORIG_SRC", "false".to_owned()),
            // With the access log, as for all others.
            ("RUST_LOG", "warn,access=info".to_owned()),
        ] {
            command.env(name, value);
        }
        let mut proxy = place.spawn("peer-ztunnel", "proxy", &mut command)?;
        wait_until("Istio's ztunnel is ready", patience, || {
            !proxy.is_running() || is_ready(lab, node)
        })
        .with_context(|| proxy.log_tail(20))?;
        ensure!(proxy.is_running(), "Istio's ztunnel ended: {}", proxy.log_tail(20));
        proxies.push(proxy);
    }
    Ok(PeerMesh { mesh, proxies })
}

/// Istio's ztunnel sends the file's content as it is, and a newline cannot be in a header.
fn token_without_newline(lab: &Lab, file: &Path) -> Result<PathBuf> {
    let token = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let name = file.file_name().unwrap_or_default();
    let copy = lab.dir().join("run").join(name).with_extension("token");
    let mut open = std::fs::OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(0o600);
    open.open(&copy)?.write_all(token.trim().as_bytes())?;
    Ok(copy)
}

fn is_ready(lab: &Lab, node: u8) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 15021));
    let answer = lab
        .node(node)
        .run(|| culvert_lab::get(address, "/healthz/ready", Duration::from_secs(2)));
    matches!(answer, Ok(Ok(response)) if response.status == 200)
}
