//! The bookstore in the lab: does for its Kubernetes YAML what a cluster's scheduler and kubelets would do.

use crate::shell;
use anyhow::{Context, Result, bail};
use culvert_lab::{Lab, Pod, PodSpec, Process, Service, ServiceSpec, get, wait_until};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// The shop's Kubernetes namespace.
pub(super) const NAMESPACE: &str = "bookstore";
/// The shop's port.
pub(super) const PORT: u16 = 9080;

/// A running shop; dropping it ends its programs, unless the lab is kept.
pub(super) struct Shop {
    pub(super) pods: Vec<Pod>,
    pub(super) services: Vec<Service>,
    programs: Vec<Process>,
}

impl Shop {
    /// Makes services and pods, starts the programs, and waits until each is ready.
    pub(super) fn open(lab: &Lab) -> Result<Self> {
        lab.namespace(NAMESPACE)?;
        let objects = read_objects("kube")?;
        let of_kind = |kind: &str| {
            objects
                .iter()
                .filter(move |object| object["kind"] == kind)
                .collect::<Vec<_>>()
        };
        let services = of_kind("Service")
            .into_iter()
            .map(|object| lab.service(service_spec(object)?))
            .collect::<Result<Vec<_>>>()?;
        let mut shop = Self {
            pods: Vec::new(),
            services,
            programs: Vec::new(),
        };
        for deployment in of_kind("Deployment") {
            let name = text(deployment, "/metadata/name")?;
            shop.run(lab, deployment)
                .with_context(|| format!("deployment {name}"))?;
        }
        shop.wait_until_ready()?;
        Ok(shop)
    }

    /// Makes the services and pods of another folder of the bookstore's, too, and waits until each is ready.
    pub(super) fn add(&mut self, lab: &Lab, folder: &str) -> Result<()> {
        let objects = read_objects(folder)?;
        for object in objects.iter().filter(|object| object["kind"] == "Service") {
            self.services.push(lab.service(service_spec(object)?)?);
        }
        for deployment in objects.iter().filter(|object| object["kind"] == "Deployment") {
            self.run(lab, deployment)?;
        }
        self.wait_until_ready()
    }

    /// The pod whose name begins with this.
    pub(super) fn pod(&self, name: &str) -> Result<&Pod> {
        self.pods
            .iter()
            .find(|pod| pod.name().starts_with(name))
            .with_context(|| format!("no pod {name}"))
    }

    /// The service of this name.
    pub(super) fn service(&self, name: &str) -> Result<&Service> {
        self.services
            .iter()
            .find(|service| service.name() == name)
            .with_context(|| format!("no service {name}"))
    }

    /// What a pod's program has logged.
    pub(super) fn log(&self, pod: &Pod) -> Result<String> {
        let at = self
            .pods
            .iter()
            .position(|other| other.name() == pod.name())
            .context("no such pod")?;
        Ok(self.programs[at].log())
    }

    fn run(&mut self, lab: &Lab, deployment: &Value) -> Result<()> {
        let name = text(deployment, "/metadata/name")?;
        let template = deployment.pointer("/spec/template").context("no pod template")?;
        let container = template.pointer("/spec/containers/0").context("no container")?;
        let account = text(template, "/spec/serviceAccountName")?;
        let mut spec = PodSpec::new(NAMESPACE, name).on(node_of(name)).service_account(account);
        for (key, value) in strings(template.pointer("/metadata/labels")) {
            spec = spec.label(&key, &value);
        }
        let pod = lab.pod(spec.containers(vec![container.clone()]))?;
        let mut command = self.command(container)?;
        self.programs.push(pod.spawn("app", &mut command)?);
        self.pods.push(pod);
        Ok(())
    }

    /// A container's command, with Kubernetes' variables for services, in the folder of its sources.
    fn command(&self, container: &Value) -> Result<Command> {
        let words = container["command"]
            .as_array()
            .context("the container has no command")?;
        let mut words = words.iter().filter_map(Value::as_str);
        let program = words.next().context("the container's command is empty")?;
        let built = shell::target().join("debug").join(program);
        let mut command = Command::new(if built.is_file() { built } else { PathBuf::from(program) });
        command.args(words);
        let sources = bookstore().join(text(container, "/name")?);
        if sources.is_dir() {
            command.current_dir(sources);
        }
        let services = self.service_variables();
        for variable in container["env"].as_array().into_iter().flatten() {
            command.env(text(variable, "/name")?, expand(text(variable, "/value")?, &services));
        }
        command.envs(services);
        Ok(command)
    }

    fn service_variables(&self) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        for service in &self.services {
            let name = service.name().to_uppercase().replace('-', "_");
            variables.insert(format!("{name}_SERVICE_HOST"), service.ip4().to_string());
            variables.insert(format!("{name}_SERVICE_PORT"), PORT.to_string());
        }
        variables
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        for (pod, program) in self.pods.iter().zip(&mut self.programs) {
            if pod.name().starts_with("visitor") {
                continue;
            }
            let health = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
            let patience = Duration::from_secs(20);
            let mut ended = false;
            wait_until(&format!("{} is ready", pod.name()), patience, || {
                ended = !program.is_running();
                let asked = pod.run(|| get(health, "/health", Duration::from_secs(2)));
                ended || asked.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status == 200))
            })
            .with_context(|| program.log_tail(20))?;
            if ended {
                bail!("{} ended at once:\n{}", program.name(), program.log_tail(20));
            }
        }
        Ok(())
    }
}

/// The scheduler: connections of the shop go across the link, except those to details, which show the way within a node.
fn node_of(deployment: &str) -> u8 {
    match deployment.split('-').next() {
        Some("visitor" | "reviews") => 2,
        _ => 1,
    }
}

fn bookstore() -> PathBuf {
    shell::root().join("examples/bookstore")
}

/// All objects of a folder of the bookstore's.
pub(super) fn read_objects(folder: &str) -> Result<Vec<Value>> {
    let folder = bookstore().join(folder);
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let mut objects = Vec::new();
    for file in files {
        objects.extend(read(&file)?);
    }
    Ok(objects)
}

/// All objects of one file of the bookstore's.
pub(super) fn read_file(path: &str) -> Result<Vec<Value>> {
    read(&bookstore().join(path))
}

/// One file of the bookstore's as it is.
pub(super) fn read_text(path: &str) -> Result<String> {
    let file = bookstore().join(path);
    fs::read_to_string(&file).with_context(|| file.display().to_string())
}

fn read(file: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let documents = serde_yaml_ng::Deserializer::from_str(&text);
    let object = |document| serde::Deserialize::deserialize(document).with_context(|| file.display().to_string());
    documents.map(object).collect()
}

fn service_spec(object: &Value) -> Result<ServiceSpec> {
    let mut spec = ServiceSpec::new(NAMESPACE, text(object, "/metadata/name")?);
    for (key, value) in strings(object.pointer("/spec/selector")) {
        spec = spec.selector(&key, &value);
    }
    for (key, value) in strings(object.pointer("/metadata/labels")) {
        spec = spec.label(&key, &value);
    }
    for port in object
        .pointer("/spec/ports")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        spec = spec.port_object(port.clone());
    }
    Ok(spec)
}

fn text<'a>(object: &'a Value, pointer: &str) -> Result<&'a str> {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .with_context(|| format!("no text at {pointer}"))
}

fn strings(object: Option<&Value>) -> Vec<(String, String)> {
    let entries = object.and_then(Value::as_object).into_iter().flatten();
    entries
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Replaces `$(NAME)` as Kubernetes does; names that are not known stay as they are.
fn expand(value: &str, variables: &BTreeMap<String, String>) -> String {
    variables.iter().fold(value.to_owned(), |value, (name, known)| {
        value.replace(&format!("$({name})"), known)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded() {
        let known = BTreeMap::from([("A_SERVICE_HOST".to_owned(), "198.19.0.1".to_owned())]);
        assert_eq!(
            expand("http://$(A_SERVICE_HOST):1/$(B)", &known),
            "http://198.19.0.1:1/$(B)"
        );
    }

    #[test]
    fn the_manifests_have_four_services_and_seven_deployments() {
        let objects = read_objects("kube").unwrap();
        let count = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).count();
        assert_eq!((count("Service"), count("Deployment"), count("Namespace")), (4, 7, 1));
    }
}
