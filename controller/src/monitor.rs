//! What people and programs can ask: `/metrics`, `/status`, `/config_dump`, `/findings`, `/policy-test`, `/rules`, `/analyze`, `/healthz/ready`; and
//! `/logging`, `/debug/pprof/profile`, `POST /quitquitquit`.

use std::sync::Arc;

use culvert_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use culvert_telemetry::prometheus::metrics::counter::Counter;
use culvert_telemetry::prometheus::metrics::gauge::Gauge;
use culvert_telemetry::prometheus::registry::Registry;
use culvert_telemetry::{Logging, Response, Routes};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::authority::{Signer, SigningMetrics};
use crate::cluster::lease::Standing;
use crate::inquiry::{self, Inquiries};
use crate::model::Changes;
use crate::policy_test::{self, Trials};
use crate::serve::Callers;
use crate::source::About;
use crate::state::State;

/// What the model counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct ModelMetrics {
    objects: Gauge,
    resources: Gauge,
    findings: Gauge,
    changes: Counter,
    derived: Counter,
    refused: Gauge,
}

impl ModelMetrics {
    /// Registers the metrics.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let own = Self::default();
        registry.register("culvert_controller_objects", "Objects in force", own.objects.clone());
        registry.register(
            "culvert_controller_resources",
            "Resources made from them",
            own.resources.clone(),
        );
        registry.register(
            "culvert_controller_findings",
            "Things wrong in the configuration",
            own.findings.clone(),
        );
        registry.register(
            "culvert_controller_resource_changes",
            "Resources that were new, different or gone after a change of the objects",
            own.changes.clone(),
        );
        registry.register(
            "culvert_controller_derivations",
            "Objects whose resources were made again because they, or what they depend on, changed",
            own.derived.clone(),
        );
        registry.register(
            "culvert_controller_xds_refused_resources",
            "Resources that proxies of all replicas refuse at present, each for each proxy",
            own.refused.clone(),
        );
        own
    }

    /// Takes in how many resources proxies refuse now.
    pub(crate) fn set_refused(&self, refusals: usize) {
        self.refused.set(i64::try_from(refusals).unwrap_or(i64::MAX));
    }

    /// Takes a new state in.
    pub(crate) fn set(&self, state: &State, changes: &Changes) {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        self.changes.inc_by(count(changes.resources.len()));
        self.derived.inc_by(count(changes.derived));
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.objects.set(number(state.loaded.objects.len()));
        self.resources.set(number(state.snapshot.len()));
        self.findings.set(number(state.loaded.findings.len()));
    }
}

/// Where the pages take their facts from.
pub(crate) struct Sources {
    pub(crate) state: watch::Receiver<Arc<State>>,
    pub(crate) source: About,
    /// Who of several replicas writes; none where there is only one.
    pub(crate) standing: Option<watch::Receiver<Standing>>,
    pub(crate) callers: Callers,
    pub(crate) signing: SigningMetrics,
    pub(crate) trust_domain: String,
    pub(crate) signer: watch::Receiver<Option<Arc<Signer>>>,
    pub(crate) roots: watch::Receiver<Arc<str>>,
    /// What is wrong with the signing certificate, if something is.
    pub(crate) ca_problem: watch::Receiver<Option<String>>,
    /// Why what is revoked is not what the file says, if it is not.
    pub(crate) revocation_problem: watch::Receiver<Option<String>>,
    /// Where the trust bundle cannot be written, if there is such a place.
    pub(crate) bundle_problem: watch::Receiver<Option<String>>,
    pub(crate) trials: Trials,
    pub(crate) inquiries: Inquiries,
    pub(crate) stop: watch::Receiver<bool>,
}

/// The pages.
pub(crate) fn routes(sources: Sources, registry: Registry, logging: Option<Logging>) -> Routes {
    let trials = sources.trials.clone();
    let of_rules = inquiry::Pages::new(sources.inquiries.clone());
    let of_all = of_rules.clone();
    let sources = Arc::new(sources);
    let (status, findings, ready) = (Arc::clone(&sources), Arc::clone(&sources), Arc::clone(&sources));
    let dump = Arc::clone(&sources);
    let routes = match logging {
        Some(logging) => Routes::new().logging(logging),
        None => Routes::new(),
    };
    routes
        .metrics(Arc::new(registry))
        .profiles()
        .quit()
        .get_local("/status", move |_| Response::json(&status.status()))
        .get_local("/config_dump", move |_| Response::json(&dump.configuration()))
        .get_local("/findings", move |_| Response::json(&findings.findings()))
        .post_local("/policy-test", policy_test::LONGEST_QUESTION, move |request| {
            policy_test::answer(request, trials.clone())
        })
        .post_local("/rules", inquiry::LONGEST_QUESTION, move |request| {
            of_rules.clone().rules(request)
        })
        .post_local("/analyze", inquiry::LONGEST_QUESTION, move |request| {
            of_all.clone().analyze(request)
        })
        .get("/healthz/live", |_| Response::text("alive\n"))
        .get("/healthz/ready", move |_| match ready.missing() {
            None => Response::text("ready\n"),
            Some(missing) => Response::status(culvert_telemetry::StatusCode::SERVICE_UNAVAILABLE, missing),
        })
        .get("/root.pem", move |_| Response::text(sources.roots.borrow().to_string()))
}

impl Sources {
    /// Why nobody should be sent here.
    fn missing(&self) -> Option<String> {
        let missing = self.source.missing();
        let why = if *self.stop.borrow() {
            "stopping".to_owned()
        } else if !missing.is_empty() {
            format!("not all is known yet: {}", missing.join(", "))
        } else if self.state.borrow().loaded.generation == 0 {
            "nothing is made of it yet".to_owned()
        } else if self.signer.borrow().is_none() {
            "there is no signing certificate yet".to_owned()
        } else {
            return None;
        };
        Some(why + "\n")
    }

    fn status(&self) -> Value {
        let state = Arc::clone(&self.state.borrow());
        let objects = &state.loaded.objects;
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "trust_domain": self.trust_domain,
            "generation": state.loaded.generation,
            "source": self.source.describe(),
            "election": self.standing.as_ref().map(|standing| {
                let standing = standing.borrow();
                json!({"leads": standing.leads, "holder": standing.holder})
            }),
            "objects": {
                "namespaces": objects.namespaces.len(),
                "pods": objects.pods.len(),
                "services": objects.services.len(),
                "service_accounts": objects.service_accounts.len(),
                "endpoint_slices": objects.endpoint_slices.len(),
                "nodes": objects.nodes.len(),
                "service_cidrs": objects.service_cidrs.len(),
            },
            "resources": state.snapshot.len(),
            "findings": self.findings(),
            "nodes": self.callers.nodes(),
            "workloads": self.callers.workloads(),
            "certificates_signed": self.signing.signed(),
            "authority": self.authority(),
        })
    }

    /// What proxies may ask for: each resource by its name, with the number of the change that made it what it is.
    fn configuration(&self) -> Value {
        let state = Arc::clone(&self.state.borrow());
        let snapshot = &state.snapshot;
        let listed = |type_url: &str, names: &mut dyn Iterator<Item = String>| -> Value {
            names
                .map(|name| json!({"name": name, "version": snapshot.version(type_url, &name)}))
                .collect()
        };
        json!({
            "generation": state.loaded.generation,
            "addresses": listed(ADDRESS_TYPE, &mut snapshot.addresses().into_keys()),
            "authorizations": listed(AUTHORIZATION_TYPE, &mut snapshot.authorizations().into_keys()),
            "findings": self.findings(),
        })
    }

    fn authority(&self) -> Value {
        let signer = self.signer.borrow().clone();
        json!({
            "origin": signer.as_ref().map(|signer| signer.origin().to_owned()),
            "certificate": signer.as_ref().map(|signer| signer.own().short()),
            "not_after": signer.as_ref().map(|signer| signer.not_after().to_string()),
            "roots": self.roots.borrow().matches("BEGIN CERTIFICATE").count(),
            "problem": *self.ca_problem.borrow(),
            "revocation_problem": *self.revocation_problem.borrow(),
        })
    }

    fn findings(&self) -> Value {
        let state = Arc::clone(&self.state.borrow());
        let finding = |finding: &culvert_objects::Finding| {
            let mut value = serde_json::to_value(finding).unwrap_or_default();
            value["text"] = finding.to_string().into();
            value
        };
        let problem = self.bundle_problem.borrow().clone();
        let problem = problem.map(|text| json!({"object": "ConfigMap culvert-ca-root-cert", "text": text}));
        let revocations = self.revocation_problem.borrow().clone();
        let revocations = revocations.map(|text| json!({"object": "--ca-crl", "text": text}));
        let findings = state.loaded.findings.keys().map(|found| finding(found));
        findings.chain(problem).chain(revocations).collect()
    }
}
