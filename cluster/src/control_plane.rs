//! The control plane: etcd, the API server, the controllers, the scheduler, and the forwarder that leads to them.
//!
//! All of it runs in the control plane's network namespace and talks over its loopback; only nodes use its address.

use crate::{
    Error, addresses,
    error::Doing,
    layout::Layout,
    process::{self, Process, Start},
    record::Record,
    wait,
};
use rustix::process::Signal;
use std::{fs, net::TcpListener, os::fd::OwnedFd, path::PathBuf, process::Stdio, time::Duration};

const POLICY_FILE: &str = "audit-policy.json";
/// Who asked for what, without the contents: of service accounts outside `kube-system`, whose rights a test compares with what
/// they use.
const AUDIT_POLICY: &str = r#"{
  "apiVersion": "audit.k8s.io/v1",
  "kind": "Policy",
  "rules": [
    {"level": "None", "userGroups": ["system:serviceaccounts:kube-system", "system:masters", "system:nodes"]},
    {"level": "Metadata", "userGroups": ["system:serviceaccounts"], "omitStages": ["RequestReceived"]},
    {"level": "None"}
  ]
}
"#;

/// A program of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The store.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// Carries connections from the machine's loopback to the API server.
    Forwarder,
}

impl Component {
    /// Every component, in the order in which they start.
    pub const ALL: [Self; 5] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Forwarder,
    ];

    /// The program's name, which is also that of its log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Forwarder => "forwarder",
        }
    }
}

/// The control plane of one cluster.
pub(crate) struct ControlPlane<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) record: &'a Record,
}

impl ControlPlane<'_> {
    /// Starts a component that does not run.
    pub(crate) fn start(&self, component: Component) -> Result<(), Error> {
        if self.process(component).is_some_and(|process| process.is_alive()) {
            return Ok(());
        }
        let input = match component {
            // The listening socket belongs to the caller's network namespace wherever the forwarder runs.
            Component::Forwarder => Stdio::from(OwnedFd::from(self.listen()?)),
            Component::ApiServer => {
                let policy = self.layout.control_plane().join(POLICY_FILE);
                fs::write(&policy, AUDIT_POLICY).doing(|| format!("write {}", policy.display()))?;
                Stdio::null()
            }
            _ => Stdio::null(),
        };
        let name = component.name();
        Process::start(Start {
            launcher: &self.record.launcher,
            group: &self.layout.control_plane_group(),
            netns: &self.layout.control_plane_netns(),
            program: self.arguments(component),
            log: &self.log(component),
            record: &self.layout.process_record(name),
            input,
        })?;
        Ok(())
    }

    fn listen(&self) -> Result<TcpListener, Error> {
        let port = self.record.port;
        TcpListener::bind(("127.0.0.1", port)).doing(|| format!("listen on 127.0.0.1:{port}"))
    }

    /// Ends a component: with SIGTERM, or at once.
    ///
    /// The API server would wait a minute for open watches after one SIGTERM; a second one ends it. Signals that are the same do
    /// not queue: the second must come when the first has been taken.
    pub(crate) fn stop(&self, component: Component, signal: Signal) -> Result<(), Error> {
        const GRACE: Duration = Duration::from_secs(2);
        let Some(process) = self.process(component) else {
            return Ok(());
        };
        process.signal(signal)?;
        let ended = wait::wait_until(component.name(), GRACE, || !process.is_alive());
        ended.or_else(|_| process.end(signal, component.name()))
    }

    pub(crate) fn process(&self, component: Component) -> Option<Process> {
        Process::recorded(&self.layout.process_record(component.name()))
    }

    pub(crate) fn log(&self, component: Component) -> PathBuf {
        self.layout.control_plane_log(component.name())
    }

    /// What the API server writes down about requests of service accounts; see [`AUDIT_POLICY`].
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.layout.control_plane().join("audit.log")
    }

    /// An error if one of the components has ended by itself.
    pub(crate) fn check(&self, components: &[Component]) -> Result<(), Error> {
        let ended = components
            .iter()
            .find(|component| !self.process(**component).is_some_and(|process| process.is_alive()));
        let Some(component) = ended else {
            return Ok(());
        };
        let log = self.log(*component);
        Err(Error::Component {
            component: component.name().to_owned(),
            what: "ended".into(),
            tail: process::tail(&log),
            log,
        })
    }

    fn arguments(&self, component: Component) -> Vec<String> {
        let mut arguments = match component {
            Component::Forwarder => vec![
                self.record.launcher.to_string_lossy().into_owned(),
                "forward".into(),
                format!("127.0.0.1:{}", addresses::API_PORT),
            ],
            _ => vec![
                self.record
                    .programs
                    .join(component.name())
                    .to_string_lossy()
                    .into_owned(),
            ],
        };
        arguments.extend(match component {
            Component::Etcd => self.etcd(),
            Component::ApiServer => self.api_server(),
            Component::ControllerManager => self.controller_manager(),
            Component::Scheduler => self.scheduler(),
            Component::Forwarder => Vec::new(),
        });
        arguments
    }

    fn etcd(&self) -> Vec<String> {
        let (clients, peers) = ("http://127.0.0.1:2379", "http://127.0.0.1:2380");
        vec![
            "--name=cluster".into(),
            format!("--data-dir={}", self.layout.control_plane().join("etcd").display()),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=cluster={peers}"),
            // A test cluster's data need not outlive the machine.
            "--unsafe-no-fsync".into(),
        ]
    }

    fn api_server(&self) -> Vec<String> {
        let pki = self.layout.pki();
        vec![
            "--etcd-servers=http://127.0.0.1:2379".into(),
            "--bind-address=0.0.0.0".into(),
            format!("--advertise-address={}", addresses::CONTROL_PLANE),
            format!("--secure-port={}", addresses::API_PORT),
            format!("--tls-cert-file={}", pki.file("apiserver.crt")),
            format!("--tls-private-key-file={}", pki.file("apiserver.key")),
            format!("--client-ca-file={}", pki.file("ca.crt")),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            "--allow-privileged".into(),
            "--anonymous-auth=true".into(),
            format!(
                "--kubelet-client-certificate={}",
                pki.file("apiserver-kubelet-client.crt")
            ),
            format!("--kubelet-client-key={}", pki.file("apiserver-kubelet-client.key")),
            format!("--kubelet-certificate-authority={}", pki.file("ca.crt")),
            "--kubelet-preferred-address-types=InternalIP".into(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
            format!("--service-account-key-file={}", pki.file("service-accounts.pub")),
            format!(
                "--service-account-signing-key-file={}",
                pki.file("service-accounts.key")
            ),
            format!("--service-cluster-ip-range={}", self.services()),
            "--service-node-port-range=30000-32767".into(),
            format!("--requestheader-client-ca-file={}", pki.file("front-proxy-ca.crt")),
            "--requestheader-allowed-names=front-proxy-client".into(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
            "--requestheader-group-headers=X-Remote-Group".into(),
            "--requestheader-username-headers=X-Remote-User".into(),
            format!("--proxy-client-cert-file={}", pki.file("front-proxy-client.crt")),
            format!("--proxy-client-key-file={}", pki.file("front-proxy-client.key")),
            // Webhooks and aggregated APIs are reached at their pods: there is no kube-proxy in this namespace.
            "--enable-aggregator-routing".into(),
            format!("--cert-dir={}", self.layout.control_plane().join("certs").display()),
            format!(
                "--audit-policy-file={}",
                self.layout.control_plane().join(POLICY_FILE).display()
            ),
            format!("--audit-log-path={}", self.audit_log().display()),
            "--v=1".into(),
        ]
    }

    fn controller_manager(&self) -> Vec<String> {
        let pki = self.layout.pki();
        let mut arguments = self.client("controller-manager");
        arguments.extend([
            "--use-service-account-credentials".into(),
            format!(
                "--service-account-private-key-file={}",
                pki.file("service-accounts.key")
            ),
            format!("--root-ca-file={}", pki.file("ca.crt")),
            format!("--cluster-signing-cert-file={}", pki.file("ca.crt")),
            format!("--cluster-signing-key-file={}", pki.file("ca.key")),
            format!(
                "--cluster-cidr={}",
                addresses::both(addresses::PODS, addresses::PODS_V6, self.record.dual_stack)
            ),
            "--allocate-node-cidrs=false".into(),
            format!("--service-cluster-ip-range={}", self.services()),
            "--node-monitor-grace-period=20s".into(),
            // A namespace that waits for a pod with a long grace period is looked at again after half of that, or then.
            "--namespace-sync-period=10s".into(),
            "--horizontal-pod-autoscaler-sync-period=2s".into(),
        ]);
        arguments
    }

    fn scheduler(&self) -> Vec<String> {
        self.client("scheduler")
    }

    /// What the two clients of the API server have in common.
    fn client(&self, name: &str) -> Vec<String> {
        let kubeconfig = self.layout.pki().file(&format!("{name}.conf"));
        let certs = self.layout.control_plane().join(format!("certs-{name}"));
        vec![
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            "--bind-address=127.0.0.1".into(),
            "--leader-elect=false".into(),
            format!("--cert-dir={}", certs.display()),
            "--v=1".into(),
        ]
    }

    fn services(&self) -> String {
        addresses::both(addresses::SERVICES, addresses::SERVICES_V6, self.record.dual_stack)
    }
}
