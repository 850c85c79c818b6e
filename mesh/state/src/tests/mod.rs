mod balancing;
mod choice;
mod inbound;
mod outbound;
mod outbound_names;
mod outbound_services;
mod ranges;
mod registry;
mod store;
mod waiting;
mod waypoints;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};

use culvert_identity::SpiffeId;
use culvert_proto::{security, workload as proto};
use prost::Message as _;

use super::{Mesh, Store};
use crate::{Awaited, Denial, Outbound, Pod};

fn bytes(address: &str) -> Vec<u8> {
    match address.parse().unwrap() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// A pod of namespace `shop` and account `web`, in the mesh.
fn workload(name: &str, addresses: &[&str]) -> proto::Workload {
    proto::Workload {
        uid: format!("Kubernetes//Pod/shop/{name}"),
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        addresses: addresses.iter().map(|address| bytes(address)).collect(),
        service_account: "web".to_owned(),
        tunnel_protocol: proto::TunnelProtocol::Hbone as i32,
        node: "node-a".to_owned(),
        ..Default::default()
    }
}

fn ports(list: &[(u32, u32)]) -> Vec<proto::Port> {
    let port = |&(service_port, target_port)| proto::Port {
        service_port,
        target_port,
        app_protocol: 0,
    };
    list.iter().map(port).collect()
}

fn member(mut workload: proto::Workload, service: &str, list: &[(u32, u32)]) -> proto::Workload {
    let list = proto::PortList { ports: ports(list) };
    workload
        .services
        .insert(format!("shop/{service}.shop.svc.cluster.local"), list);
    workload
}

fn service(name: &str, addresses: &[&str], list: &[(u32, u32)]) -> proto::Service {
    let address = |address: &&str| proto::NetworkAddress {
        address: bytes(address),
        ..Default::default()
    };
    proto::Service {
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        hostname: format!("{name}.shop.svc.cluster.local"),
        addresses: addresses.iter().map(address).collect(),
        ports: ports(list),
        ..Default::default()
    }
}

fn policy(
    name: &str,
    scope: security::Scope,
    action: security::Action,
    rules: Vec<security::Rule>,
) -> security::Authorization {
    security::Authorization {
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        scope: scope as i32,
        action: action as i32,
        rules,
        ..Default::default()
    }
}

/// A store and what its snapshots asked for.
struct World {
    store: Store,
    asks: Sender<IpAddr>,
    asked: Receiver<IpAddr>,
}

impl World {
    fn new(on_demand: bool) -> Self {
        let (asks, asked) = channel();
        let mut store = Store::new("", "cluster.local", on_demand);
        store.set_synced();
        Self { store, asks, asked }
    }

    fn with(mut self, workloads: &[proto::Workload], services: &[proto::Service]) -> Self {
        workloads.iter().for_each(|workload| self.put(workload.clone()));
        services.iter().for_each(|service| self.put_service(service.clone()));
        self
    }

    fn put(&mut self, workload: proto::Workload) {
        let name = workload.uid.clone();
        let address = proto::Address {
            r#type: Some(proto::address::Type::Workload(workload)),
        };
        self.store.put_address(&name, &address.encode_to_vec()).unwrap();
    }

    fn put_service(&mut self, service: proto::Service) {
        let name = format!("{}/{}", service.namespace, service.hostname);
        let address = proto::Address {
            r#type: Some(proto::address::Type::Service(service)),
        };
        self.store.put_address(&name, &address.encode_to_vec()).unwrap();
    }

    fn put_policy(&mut self, policy: &security::Authorization) {
        let name = format!("{}/{}", policy.namespace, policy.name);
        self.store.put_policy(&name, &policy.encode_to_vec()).unwrap();
    }

    fn mesh(&mut self) -> Arc<Mesh> {
        self.store.snapshot()
    }

    fn outbound(&mut self, destination: &str) -> Outbound {
        self.outbound_of(&client(), destination)
    }

    fn outbound_of(&mut self, pod: &Pod, destination: &str) -> Outbound {
        let mesh = self.mesh();
        let decision = mesh.outbound(pod, destination.parse().unwrap(), &[]);
        if let Outbound::Pending(Awaited::Answer(address)) = &decision {
            self.asks.send(*address).unwrap();
        }
        decision
    }

    /// The name of the workload that a connection is sent to, and where.
    fn target(&mut self, destination: &str) -> (String, SocketAddr) {
        match self.outbound(destination) {
            Outbound::Tunnel { endpoint, .. } => {
                let target = endpoint.target();
                assert_eq!(endpoint.tunnel, SocketAddr::new(target.ip(), 15008));
                assert_eq!(endpoint.authority, target.into());
                (endpoint.workload.name.to_string(), target)
            }
            Outbound::Direct {
                workload, destination, ..
            } => (
                workload.map(|workload| workload.name.to_string()).unwrap_or_default(),
                destination,
            ),
            other => panic!("{other:?}"),
        }
    }

    fn denial(&mut self, destination: &str) -> String {
        match self.outbound(destination) {
            Outbound::Deny(denial) => denial.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

/// The pod that connects, and is connected to.
fn client() -> Pod {
    Pod {
        uid: "0001".into(),
        name: "client".into(),
        namespace: "shop".into(),
        identity: SpiffeId::new("cluster.local", "shop", "web").unwrap(),
        addresses: vec!["198.18.0.1".parse().unwrap(), "fd00:c01e::1".parse().unwrap()],
        node: "node-a".into(),
    }
}

fn session_affinity(kind: &str) -> proto::Extension {
    culvert_proto::extension_of_text(culvert_proto::SESSION_AFFINITY, kind)
}

fn client_workload() -> proto::Workload {
    let locality = proto::Locality {
        region: "north".into(),
        zone: "n1".into(),
        subzone: "r1".into(),
    };
    proto::Workload {
        locality: Some(locality),
        ..workload("client", &["198.18.0.1", "fd00:c01e::1"])
    }
}

fn denied(denial: Denial) -> String {
    denial.to_string()
}
