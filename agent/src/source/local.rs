//! Pods that no cluster runs: described in a directory of Kubernetes objects, each with the annotation
//! `culvert.dev/netns`, which names the network namespace that something else made.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use culvert_objects::{
    Directory, DnsCapture, Enrolment, FALLBACK_ANNOTATION, Fallback, Findings, HOLD_ANNOTATION, Hold, Loaded,
    ObjectName, Objects, OpenError, Pod, SAME_NODE_ANNOTATION, SameNode,
};
use tokio::sync::watch;

use super::{Outside, PodName, PodSource, PodSpec, Snapshot};

/// Where `ip netns` keeps named network namespaces.
const NAMED: &str = "/run/netns";

/// The source; see the module.
#[derive(Debug)]
pub struct LocalPods {
    node: String,
    loaded: watch::Receiver<Arc<Loaded>>,
    findings: Findings,
    last: Option<Arc<Snapshot>>,
}

impl LocalPods {
    /// Follows the directory for pods of `node`.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn open(directory: &Path, node: &str) -> Result<Self, OpenError> {
        let mut loaded = Directory::open(directory)?.watch();
        loaded.mark_changed();
        Ok(Self {
            node: node.to_owned(),
            loaded,
            findings: Findings::new(),
            last: None,
        })
    }

    fn take(&mut self) -> Snapshot {
        let loaded = Arc::clone(&self.loaded.borrow_and_update());
        for finding in loaded.findings.keys() {
            if !self.findings.contains_key(finding) {
                tracing::error!(%finding, "configuration");
            }
        }
        for finding in self
            .findings
            .keys()
            .filter(|finding| !loaded.findings.contains_key(*finding))
        {
            tracing::info!(%finding, "configuration: no longer wrong");
        }
        self.findings.clone_from(&loaded.findings);
        Snapshot {
            complete: loaded.findings.is_empty(),
            ..snapshot(&loaded.objects, &self.node)
        }
    }
}

impl PodSource for LocalPods {
    async fn next(&mut self) -> Option<Arc<Snapshot>> {
        loop {
            self.loaded.changed().await.ok()?;
            let snapshot = Arc::new(self.take());
            if self.last.as_ref() != Some(&snapshot) {
                self.last = Some(Arc::clone(&snapshot));
                return Some(snapshot);
            }
        }
    }
}

/// What the objects say about the pods of a node.
fn snapshot(objects: &Objects, node: &str) -> Snapshot {
    let mut snapshot = Snapshot {
        complete: true,
        ..Snapshot::default()
    };
    for (name, pod) in &objects.pods {
        if *pod.node != *node || pod.has_ended {
            continue;
        }
        match spec(objects, name, pod) {
            Ok(spec) => {
                let namespace = objects.namespace(&spec.name.namespace);
                let annotations = namespace.and_then(|namespace| namespace.metadata.annotations.as_ref());
                if culvert_objects::closes_open_connections(annotations) {
                    snapshot.closing.insert(spec.name.namespace.clone());
                }
                snapshot.wanted.push(spec);
            }
            Err(problem) => snapshot.outside.push(Outside {
                uid: uid(pod),
                name: pod_name(name),
                addresses: culvert_objects::pod_addresses(pod),
                problem,
            }),
        }
    }
    snapshot
}

/// The error is why it stays outside, if that is a mistake.
fn spec(objects: &Objects, name: &ObjectName, pod: &Pod) -> Result<PodSpec, Option<String>> {
    let namespace = objects.namespace(&name.namespace);
    let labels = namespace.and_then(|namespace| namespace.metadata.labels.as_ref());
    match culvert_objects::enrolment(labels, pod) {
        Ok(Enrolment::Ambient) => {}
        Ok(Enrolment::None) => return Err(None),
        Err(error) if error.on_namespace => return Err(Some(format!("namespace {}: {error}", name.namespace))),
        Err(error) => return Err(Some(error.to_string())),
    }
    let addresses = culvert_objects::pod_addresses(pod);
    if addresses.is_empty() {
        return Err(Some("status.podIPs names no address yet".into()));
    }
    let Some(netns) = culvert_objects::netns(pod).filter(|netns| !netns.is_empty()) else {
        return Err(Some(
            "the annotation culvert.dev/netns is missing: its network namespace is not known".into(),
        ));
    };
    if !netns.starts_with('/') && netns.contains('/') {
        return Err(Some(format!(
            "annotation culvert.dev/netns: {netns:?} is neither a name nor an absolute path"
        )));
    }
    let of_namespace = |annotation: &str| {
        let annotations = namespace.and_then(|namespace| namespace.metadata.annotations.as_ref())?;
        annotations.get(annotation).map(String::as_str)
    };
    Ok(PodSpec {
        uid: uid(pod),
        name: pod_name(name),
        service_account: culvert_objects::service_account(pod).to_owned(),
        addresses,
        // Joining an absolute path gives that path.
        netns: PathBuf::from(NAMED).join(netns),
        hold: Hold::None,
        hold_problem: None,
        fallback: Fallback::None,
        fallback_problem: None,
        same_node: SameNode::Proxy,
        same_node_problem: None,
        dns: None,
        dns_problem: None,
    }
    .with_hold(Hold::of(
        of_namespace(HOLD_ANNOTATION),
        pod.annotations.get(HOLD_ANNOTATION),
    ))
    .with_fallback(Fallback::of(
        of_namespace(FALLBACK_ANNOTATION),
        pod.annotations.get(FALLBACK_ANNOTATION),
    ))
    .with_same_node(SameNode::of(
        of_namespace(SAME_NODE_ANNOTATION),
        pod.annotations.get(SAME_NODE_ANNOTATION),
    ))
    .with_dns(DnsCapture::of(of_namespace, |annotation| {
        pod.annotations.get(annotation)
    })))
}

fn pod_name(name: &ObjectName) -> PodName {
    PodName {
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
    }
}

fn uid(pod: &Pod) -> Arc<str> {
    (*pod.uid).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: &str =
        "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {culvert.dev/mesh: LABEL}}}";

    fn pod(name: &str, node: &str, rest: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, annotations: {{culvert.dev/netns: \
             ns-{name}}}}}, spec: {{nodeName: {node}, containers: [{{name: c, image: i}}]}}, status: {{{rest}}}}}"
        )
    }

    fn write(folder: &Path, label: &str, pods: &[String]) {
        let text = [NAMESPACE.replace("LABEL", label)]
            .iter()
            .chain(pods)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n---\n");
        std::fs::write(folder.join(".draft"), text).expect("write");
        std::fs::rename(folder.join(".draft"), folder.join("all.yaml")).expect("rename");
    }

    #[tokio::test]
    async fn labelled_pods_of_this_node_are_wanted_and_the_others_say_why_not() {
        let folder = tempfile::tempdir().expect("folder");
        let pods = [
            pod(
                "a",
                "one",
                "podIP: 198.18.0.1, podIPs: [{ip: 198.18.0.1}, {ip: 'fd00:c01e::1'}]",
            ),
            pod("b", "two", "podIP: 198.18.0.2"),
            pod("c", "one", ""),
            pod("d", "one", "phase: Succeeded, podIP: 198.18.0.4"),
        ];
        write(folder.path(), "ambient", &pods);
        let mut source = LocalPods::open(folder.path(), "one").expect("open");
        let first = source.next().await.expect("first");
        assert!(first.complete);
        assert_eq!(first.wanted.len(), 1, "{first:?}");
        let wanted = &first.wanted[0];
        assert_eq!(
            (wanted.name.to_string().as_str(), wanted.addresses.len()),
            ("shop/a", 2)
        );
        assert_eq!(
            (wanted.netns.as_path(), wanted.service_account.as_str()),
            (Path::new("/run/netns/ns-a"), "default")
        );
        assert!(!wanted.uid.is_empty());
        assert_eq!(first.outside.len(), 1, "{first:?}");
        assert!(
            first.outside[0]
                .problem
                .as_ref()
                .is_some_and(|problem| problem.contains("no address"))
        );

        write(folder.path(), "Ambient", &pods);
        let second = source.next().await.expect("second");
        assert_eq!((second.wanted.len(), second.outside.len()), (0, 2));
        let problem = second.outside[0]
            .problem
            .as_deref()
            .expect("an unknown label value is a mistake");
        assert!(
            problem.contains("namespace shop") && problem.contains("\"Ambient\""),
            "{problem}"
        );

        write(folder.path(), "none", &pods);
        let third = source.next().await.expect("third");
        assert!(third.wanted.is_empty() && third.outside.iter().all(|outside| outside.problem.is_none()));

        std::fs::write(folder.path().join("bad.yaml"), "kind: [").expect("write");
        assert!(
            !source.next().await.expect("fourth").complete,
            "a broken file means that something may be missing"
        );
    }
}
