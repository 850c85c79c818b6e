//! What the monitor's message about a new pod says: whose it is, and its listeners for each event loop.

use std::{io, net::IpAddr, os::fd::OwnedFd, sync::Arc};

use culvert_identity::{SpiffeError, SpiffeId};
use culvert_proto::zds::SocketRole;
use culvert_state::Pod;

use crate::{seam::ListenerRole, wire::PodAdded};

/// The pod, with the identity that its connections have.
///
/// # Errors
/// Namespace or account make no identity.
pub(super) fn describe(pod: PodAdded, trust_domain: &str, node: &Arc<str>) -> Result<Pod, SpiffeError> {
    let account = if pod.service_account.is_empty() {
        "default"
    } else {
        &pod.service_account
    };
    let address = |bytes: &Vec<u8>| match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
    };
    Ok(Pod {
        identity: SpiffeId::new(trust_domain, &pod.namespace, account)?,
        addresses: pod.addresses.iter().filter_map(address).collect(),
        uid: pod.uid.into(),
        name: pod.name.into(),
        namespace: pod.namespace.into(),
        node: Arc::clone(node),
    })
}

/// What a listener is for; none for one that the worker has nothing to do with.
pub(super) fn role_of(role: i32) -> Option<ListenerRole> {
    match SocketRole::try_from(role) {
        Ok(SocketRole::Outbound) => Some(ListenerRole::Outbound),
        Ok(SocketRole::InboundPlaintext) => Some(ListenerRole::InboundPlaintext),
        Ok(SocketRole::InboundHbone) => Some(ListenerRole::InboundHbone),
        Ok(SocketRole::SynTap) => Some(ListenerRole::SynTap),
        Ok(SocketRole::Dns) => Some(ListenerRole::Dns),
        // The monitor keeps the silent one open.
        Ok(SocketRole::Silent | SocketRole::Unspecified) | Err(_) => None,
    }
}

/// A copy of each listener for each loop.
pub(super) fn for_each_loop(
    listeners: Vec<(ListenerRole, OwnedFd)>,
    loops: usize,
) -> io::Result<Vec<Vec<(ListenerRole, OwnedFd)>>> {
    let copy = |(role, fd): &(ListenerRole, OwnedFd)| Ok((*role, fd.try_clone()?));
    let copies = (1..loops).map(|_| listeners.iter().map(copy).collect::<io::Result<Vec<_>>>());
    let mut all = copies.collect::<io::Result<Vec<_>>>()?;
    all.push(listeners);
    Ok(all)
}
