//! Who calls, for which pod: the environment that container runtimes set.

use std::path::PathBuf;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A network namespace joins the network.
    Add,
    /// It leaves; may come again and again, and for what was never added.
    Del,
    /// Is it still as it was left?
    Check,
    /// Which versions of the specification are spoken?
    Version,
    /// These attachments exist, no others.
    Gc,
    /// Could an ADD succeed?
    Status,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// `CNI_CONTAINERID`: the sandbox.
    pub container_id: String,
    /// `CNI_NETNS`; may be absent in a DEL.
    pub netns: Option<PathBuf>,
    /// `CNI_IFNAME`.
    pub interface: String,
    /// The pod, if Kubernetes calls.
    pub pod: Option<Pod>,
}

/// The pod, as `CNI_ARGS` names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `K8S_POD_NAMESPACE`.
    pub namespace: String,
    /// `K8S_POD_NAME`.
    pub name: String,
    /// `K8S_POD_UID`; older runtimes do not tell it.
    pub uid: Option<String>,
}

/// A variable of the environment is missing or makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It is not set, or empty.
    #[error("the environment variable {0} is missing: culvert-cni is called by container runtimes, not by hand")]
    Missing(&'static str),
    /// No such command.
    #[error("CNI_COMMAND {0:?} is none of ADD, DEL, CHECK, GC, STATUS, VERSION")]
    Command(String),
}

impl Call {
    /// Reads it; `variable` looks a variable up.
    ///
    /// # Errors
    /// Something is missing that the command needs.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CallError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let command = set("CNI_COMMAND").ok_or(CallError::Missing("CNI_COMMAND"))?;
        let command = Command::parse(&command).ok_or(CallError::Command(command))?;
        let needed = |name: &'static str| match set(name) {
            Some(value) => Ok(value),
            None if command.names_an_attachment() => Err(CallError::Missing(name)),
            None => Ok(String::new()),
        };
        let netns = set("CNI_NETNS").map(PathBuf::from);
        if netns.is_none() && matches!(command, Command::Add | Command::Check) {
            return Err(CallError::Missing("CNI_NETNS"));
        }
        Ok(Self {
            command,
            container_id: needed("CNI_CONTAINERID")?,
            netns,
            interface: needed("CNI_IFNAME")?,
            pod: set("CNI_ARGS").and_then(|args| Pod::parse(&args)),
        })
    }
}

impl Command {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "ADD" => Self::Add,
            "DEL" => Self::Del,
            "CHECK" => Self::Check,
            "VERSION" => Self::Version,
            "GC" => Self::Gc,
            "STATUS" => Self::Status,
            _ => return None,
        })
    }

    fn names_an_attachment(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }
}

impl Pod {
    /// From `KEY=VALUE;KEY=VALUE`; other keys are nobody's business here. None when no pod is named.
    pub fn parse(args: &str) -> Option<Self> {
        let value = |key: &str| {
            args.split(';')
                .filter_map(|pair| pair.split_once('='))
                .find_map(|(name, value)| (name.trim() == key).then(|| value.trim().to_owned()))
                .filter(|value| !value.is_empty())
        };
        Some(Self {
            namespace: value("K8S_POD_NAMESPACE")?,
            name: value("K8S_POD_NAME")?,
            uid: value("K8S_POD_UID"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(variables: &[(&str, &str)]) -> Result<Call, CallError> {
        Call::read(|name| {
            variables
                .iter()
                .find_map(|(key, value)| (*key == name).then(|| (*value).to_owned()))
        })
    }

    #[test]
    fn a_kubelets_call_names_the_pod() {
        let call = call(&[
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/var/run/netns/cni-1"),
            ("CNI_IFNAME", "eth0"),
            (
                "CNI_ARGS",
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=a;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u-1",
            ),
        ])
        .expect("complete");
        let pod = call.pod.expect("pod");
        assert_eq!((pod.namespace.as_str(), pod.name.as_str()), ("shop", "a"));
        assert_eq!(pod.uid.as_deref(), Some("u-1"));
    }

    #[test]
    fn a_call_without_kubernetes_arguments_names_no_pod() {
        for args in [
            "",
            "IgnoreUnknown=1",
            "K8S_POD_NAME=a",
            "K8S_POD_NAMESPACE=;K8S_POD_NAME=a",
            ";;=;=",
        ] {
            assert_eq!(Pod::parse(args), None, "{args:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(call(&[]), Err(CallError::Missing("CNI_COMMAND")));
        assert_eq!(call(&[("CNI_COMMAND", "add")]), Err(CallError::Command("add".into())));
        assert_eq!(call(&[("CNI_COMMAND", "ADD")]), Err(CallError::Missing("CNI_NETNS")));
        assert!(call(&[("CNI_COMMAND", "GC")]).is_ok(), "GC names no attachment");
        let del = [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "c"), ("CNI_IFNAME", "eth0")];
        assert!(call(&del).is_ok(), "the namespace of a DEL may be gone");
    }
}
