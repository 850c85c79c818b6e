//! One proxy with everything that it needs: a namespace with a client on node 1, the waypoint and the server on node 2, and the Services.
//!
//! The client's connections are captured by its node's ztunnel, which brings them to the waypoint inside HBONE; the waypoint's go to
//! the server through the ztunnel of node 2. Both sides share these two.

use super::{
    ask::Asker,
    cases::Service,
    objects::{self, GATEWAY},
    options::Other,
    token::{self, Token},
};
use anyhow::{Context, Result, ensure};
use culvert_lab::{Ads, Lab, Mesh, Pod, PodSpec, Process, ServiceSpec, WaypointPlace, wait_until};
use std::{
    collections::HashMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// Which proxy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Proxy {
    Culvert,
    /// Envoy, or another build.
    Other,
}

impl Proxy {
    pub(super) const BOTH: [Self; 2] = [Self::Culvert, Self::Other];

    /// In names.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Culvert => "culvert",
            Self::Other => "other",
        }
    }
}

/// One proxy and what is around it.
pub(super) struct Side {
    pub(super) proxy: Proxy,
    pub(super) client: Pod,
    /// The running proxy.
    process: Process,
    place: WaypointPlace,
    services: HashMap<&'static str, Ipv4Addr>,
    token_file: PathBuf,
    other: Other,
    _server: Process,
}

impl Side {
    /// Makes all of it, with the objects that the loads need but those of [`Side::guard_and_multiply`], and waits until it serves.
    pub(super) fn start(lab: &Lab, mesh: &Mesh<'_>, proxy: Proxy, other: &Other, token: &Token) -> Result<Self> {
        let namespace = proxy.name();
        lab.namespace(namespace)?;
        lab.label(namespace, Some("ambient"))?;
        let pod = |name: &str, node: u8| {
            lab.pod(
                PodSpec::new(namespace, name)
                    .on(node)
                    .service_account(name)
                    .label("app", name),
            )
        };
        let (client, server) = (pod("client", 1)?, pod("server", 2)?);
        let listen = |port: u16| format!("0.0.0.0:{port}");
        let mut application = server.spawn(
            "serve",
            Command::new(std::env::current_exe()?)
                .args(["http-serve", "--http1", &listen(objects::HTTP1)])
                .args(["--http2", &listen(objects::HTTP2)]),
        )?;
        application.wait_for_log("listening", PATIENCE)?;
        mesh.wait_enrolled(&[&client, &server], true, PATIENCE)?;
        let backends = [
            ("v1", Service::Weighted),
            ("v2", Service::Weighted),
            ("v1-http2", Service::WeightedHttp2),
            ("v2-http2", Service::WeightedHttp2),
        ];
        let spec = |name: &str, of: Service| {
            ServiceSpec::new(namespace, name)
                .port_object(objects::port(of))
                .selector("app", "server")
        };
        for (name, of) in backends {
            lab.service(spec(name, of))?;
        }
        let mut services = HashMap::new();
        for service in Service::ALL {
            let spec = spec(service.name(), service).label("culvert.dev/use-waypoint", GATEWAY);
            services.insert(service.name(), lab.service(spec)?.ip4());
        }
        for service in [Service::Weighted, Service::WeightedHttp2] {
            lab.apply(&objects::weighted(namespace, service))?;
        }
        let token_file = lab.dir().join(format!("{namespace}.jwt"));
        fs::write(&token_file, &token.token)?;
        let place = WaypointPlace::make(lab, namespace, GATEWAY)?;
        let process = start(&place, mesh, proxy, other)?;
        let side = Self {
            proxy,
            client,
            process,
            place,
            services,
            token_file,
            other: other.clone(),
            _server: application,
        };
        side.wait_served(Service::Weighted)?;
        side.wait_served(Service::WeightedHttp2)?;
        Ok(side)
    }

    /// Adds what [`Service::Guarded`] and [`Service::Many`] are for, and waits until it holds.
    pub(super) fn guard_and_multiply(&self, lab: &Lab, token: &Token, rules: usize) -> Result<()> {
        let namespace = self.proxy.name();
        for object in objects::guard(namespace, token::ISSUER, &token.keys) {
            lab.apply(&object)?;
        }
        for object in objects::many(namespace, Service::Many.name(), rules) {
            lab.apply(&object)?;
        }
        self.wait_refused("the policy holds", Service::Guarded, "/r0")?;
        self.wait_refused("the routes hold", Service::Many, "/none")?;
        self.wait_served(Service::Guarded)?;
        self.wait_served(Service::Many)
    }

    /// Where a Service is.
    pub(super) fn target(&self, service: Service) -> SocketAddr {
        let address = self.services.get(service.name());
        SocketAddr::from((*address.unwrap_or(&Ipv4Addr::UNSPECIFIED), 80))
    }

    /// What a load says to reach a Service.
    pub(super) fn arguments(&self, service: Service, paths: usize) -> Vec<String> {
        let mut arguments = vec![
            "--to".to_owned(),
            self.target(service).to_string(),
            "--host".to_owned(),
            self.host(service.name()),
        ];
        match service {
            Service::Many => arguments.extend(["--paths".to_owned(), paths.to_string()]),
            Service::Guarded => arguments.extend(["--token".to_owned(), self.token_file.display().to_string()]),
            Service::Weighted | Service::WeightedHttp2 => {}
        }
        arguments
    }

    /// The process that all others of the proxy descend from.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Starts the proxy anew, and waits until it serves.
    pub(super) fn restart(&mut self, mesh: &Mesh<'_>) -> Result<()> {
        self.process.kill()?;
        self.process = start(&self.place, mesh, self.proxy, &self.other)?;
        self.wait_served(Service::Weighted)
    }

    /// Asks once, on a connection of its own: status and head of the answer.
    pub(super) fn ask(&self, to: SocketAddr, service: &str, path: &str, token: Option<&str>) -> Result<(u16, String)> {
        Asker::connect(&self.client, to, &self.host(service))?.ask(path, token)
    }

    /// The authority of a Service.
    pub(super) fn host(&self, service: &str) -> String {
        format!("{service}.{}", self.proxy.name())
    }

    /// What the proxy said last.
    pub(super) fn last_words(&self) -> String {
        self.process.log_tail(20)
    }

    /// Waits until a request without a token is answered by such a status. Why it was not is said in the end: it may not even have been
    /// sent.
    pub(super) fn wait_answered(
        &self,
        what: &str,
        to: SocketAddr,
        service: &str,
        path: &str,
        is_expected: impl Fn(u16) -> bool,
    ) -> Result<()> {
        let mut last = String::new();
        let waited = wait_until(what, PATIENCE, || {
            match self.ask(to, service, path, None) {
                Ok((status, _)) if is_expected(status) => return true,
                Ok((status, _)) => last = format!("status {status}"),
                Err(error) => last = format!("{error:#}"),
            }
            false
        });
        waited.with_context(|| format!("at last: {last}\n{}", self.last_words()))
    }

    fn wait_refused(&self, what: &str, service: Service, path: &str) -> Result<()> {
        self.wait_answered(what, self.target(service), service.name(), path, |status| status >= 400)
    }

    fn wait_served(&self, service: Service) -> Result<()> {
        let mut last = String::new();
        let what = format!("{} serves {}", self.proxy.name(), service.name());
        let waited = wait_until(&what, PATIENCE, || match self.try_load(service) {
            Ok(()) => true,
            Err(error) => {
                last = format!("{error:#}");
                false
            }
        });
        waited.with_context(|| format!("at last: {last}\n{}", self.last_words()))
    }

    /// A few requests, as a load sends them.
    fn try_load(&self, service: Service) -> Result<()> {
        let kind = match service {
            Service::WeightedHttp2 => "http2",
            Service::Weighted | Service::Many | Service::Guarded => "http1",
        };
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["http-load", "--kind", kind, "--connections", "1"])
            .args(["--seconds", "0.02", "--warm-up", "0"])
            .args(self.arguments(service, 1));
        let output = self.client.output(&mut command)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", said.trim());
        let figures = crate::load::ended(&String::from_utf8_lossy(&output.stdout))?;
        ensure!(figures.failed == 0, "{}", figures.first_failure.unwrap_or_default());
        Ok(())
    }
}

/// Starts the proxy and waits for its tunnel port. Only warnings are logged: writing a line for each request is no work that both do.
fn start(place: &WaypointPlace, mesh: &Mesh<'_>, proxy: Proxy, other: &Other) -> Result<Process> {
    let process = match (proxy, other) {
        (Proxy::Culvert, _) => place.start(mesh)?,
        (Proxy::Other, Other::Before(program)) => place.start_build(mesh, program)?,
        (Proxy::Other, Other::Envoy(program)) => {
            place.start_envoy(mesh, program, Ads::Delta, &["--log-level", "warn"])?
        }
    };
    place.wait_open(&process, PATIENCE)?;
    Ok(process)
}
