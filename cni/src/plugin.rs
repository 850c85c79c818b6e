//! The commands.
//!
//! | command | with the agent | without it |
//! |---|---|---|
//! | ADD | as the agent answers | a pod of an enrolled namespace is told to try again, unless the mesh is gone from this node ([`unattended`]); any other starts |
//! | DEL | the agent is told | succeeds |
//! | CHECK, GC, STATUS | succeed: there is nothing of ours inside the pod that could be missing | the same |
//! | VERSION | what is spoken | the same |
//!
//! STATUS succeeds without the agent on purpose: a failure would make the whole node unready, with all pods that have
//! nothing to do with the mesh.

use std::{io, time::Duration};

use crate::{
    agent::{self, Limits, Silence},
    caller::{Call, Command, Pod},
    config::{Config, ConfigError, VERSIONS, addresses},
    error::{CniError, Code},
    state::{State, StateError},
    unattended::{self, Mesh},
    wire::{self, Answer, Request},
};

/// How long a DEL waits for an agent that hangs. That the pod is gone is noticed anyway.
const FAREWELL: Duration = Duration::from_millis(100);

/// Where to look when the agent does not answer.
const REMEDY: &str = "look at the DaemonSet culvert-node in the namespace culvert-system, and its pod on this node";

/// Carries a command out; what comes back goes to standard output.
///
/// # Errors
/// The error object that goes there instead.
pub fn run(variable: impl Fn(&str) -> Option<String>, input: &[u8]) -> Result<String, CniError> {
    let config = Config::parse(input);
    // An error speaks the caller's version where that is known.
    let version = config
        .as_ref()
        .map_or(VERSIONS[0], |config| &config.cni_version)
        .to_owned();
    let fail = |code, message| CniError {
        cni_version: version.clone(),
        code,
        message,
    };
    let call = Call::read(variable).map_err(|error| fail(Code::InvalidEnvironment, error.to_string()))?;
    if call.command == Command::Version {
        return Ok(versions(&version));
    }
    let config = match config {
        Ok(config) => config,
        // What is taken away must be possible to take away.
        Err(_) if matches!(call.command, Command::Del | Command::Gc) => return Ok(String::new()),
        Err(error) => return Err(fail(code_of(&error), error.to_string())),
    };
    match call.command {
        Command::Add => add(&call, &config).map_err(|(code, message)| fail(code, message)),
        Command::Del => {
            del(&call, &config);
            Ok(String::new())
        }
        Command::Check | Command::Gc | Command::Status | Command::Version => Ok(String::new()),
    }
}

/// Standard input broke off.
pub fn unreadable(error: &io::Error) -> CniError {
    CniError {
        cni_version: VERSIONS[0].to_owned(),
        code: Code::Io,
        message: format!("cannot read the network configuration from standard input: {error}"),
    }
}

fn add(call: &Call, config: &Config<'_>) -> Result<String, (Code, String)> {
    let Some(previous) = config.previous else {
        let message =
            "culvert-cni comes after another plug-in that gives the pod its addresses, and there is no result of \
                       one (prevResult): its place is the end of the list `plugins` of a network configuration"
                .to_owned();
        return Err((Code::InvalidConfiguration, message));
    };
    let through = Ok(previous.text().to_owned());
    let Some(pod) = &call.pod else { return through };
    if pod.namespace == config.system_namespace {
        return through;
    }
    let request = Request {
        addresses: addresses(previous),
        ..request(wire::Command::Add, call, pod)
    };
    match agent::ask(&config.agent_socket, &request, config.limits) {
        Ok(Answer::Error { code, message }) => Err((Code::Agent(code), message)),
        Ok(_) => through,
        Err(silence) => {
            alone(pod, config, &silence)?;
            through
        }
    }
}

/// Decides without the agent.
fn alone(pod: &Pod, config: &Config<'_>, silence: &Silence) -> Result<(), (Code, String)> {
    let Pod { namespace, name, .. } = pod;
    let known = match State::load(&config.state_file) {
        Ok(None) => return Ok(()),
        Ok(Some(state)) if !state.namespaces.contains(namespace) => return Ok(()),
        Ok(Some(_)) => format!("the namespace {namespace} is enrolled"),
        Err(error) => doubt(config, namespace, &error),
    };
    let missing = match unattended::look(&config.agent_socket, &config.pod_logs, &config.system_namespace) {
        // Removed while nobody could clean up here: pods talk directly, as everywhere else on the cluster.
        Mesh::Gone => return Ok(()),
        Mesh::Expected => String::new(),
        Mesh::Missing(time) => format!(
            " (the kubelet has had no pod of it for {} s; after {} s the mesh counts as removed from this node, and pods start)",
            time.as_secs(),
            unattended::GRACE.as_secs()
        ),
    };
    let socket = config.agent_socket.display();
    let message = format!(
        "pod {namespace}/{name} waits: the mesh agent of this node {silence} ({socket}){missing}, and {known}; pods of enrolled \
         namespaces wait until the agent answers, so that nothing of theirs travels in plaintext; {REMEDY}"
    );
    Err((Code::TryAgainLater, message))
}

fn doubt(config: &Config<'_>, namespace: &str, error: &StateError) -> String {
    let file = config.state_file.display();
    format!("whether the namespace {namespace} is enrolled cannot be told, because {file} {error}")
}

fn del(call: &Call, config: &Config<'_>) {
    let Some(pod) = &call.pod else { return };
    if pod.namespace == config.system_namespace {
        return;
    }
    // The agent notices by itself when a network namespace goes; it only learns sooner this way.
    let limits = Limits {
        answer: config.limits.answer.min(FAREWELL),
        ..config.limits
    };
    let _ = agent::ask(&config.agent_socket, &request(wire::Command::Del, call, pod), limits);
}

fn request(command: wire::Command, call: &Call, pod: &Pod) -> Request {
    Request {
        version: wire::VERSION,
        command,
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        netns: call.netns.clone(),
        container_id: call.container_id.clone(),
        addresses: Vec::new(),
    }
}

fn code_of(error: &ConfigError) -> Code {
    match error {
        ConfigError::Undecodable(_) => Code::Undecodable,
        ConfigError::Wrong(_) => Code::InvalidConfiguration,
        ConfigError::Version(_) => Code::IncompatibleVersion,
    }
}

fn versions(spoken: &str) -> String {
    let list = VERSIONS.map(|version| format!("{version:?}")).join(",");
    format!("{{\"cniVersion\":{spoken:?},\"supportedVersions\":[{list}]}}")
}
