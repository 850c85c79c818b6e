//! What the loop owns for each connection and each tunnel is counted in bytes, times ten thousand. There is no future among it: a loop has
//! no task for a connection.

use culvert_accounting::{ConnectionRecord, OpenConnection};

use super::super::{
    buffers::Backlog,
    events::Told,
    flow::{Far, Flow},
    socket::Socket,
    tunnel::Tunnel,
};

#[test]
fn what_is_kept_of_each_connection_and_tunnel_grows_by_decision_alone() {
    for (what, bytes, most) in [
        // A connection in a tunnel is a flow with one socket, its record, and its entry in the list of what is open: 1,072 bytes, and
        // some more for its stream. 10,000 of them are to stay within 60 MB with all else.
        ("a flow", size_of::<Flow>(), 704),
        // Inside of a flow.
        ("its far end", size_of::<Far>(), 64),
        ("a socket", size_of::<Socket>(), 64),
        // Two in most flows, empty: no block of its own until there is something to keep.
        ("a backlog", size_of::<Backlog>(), 48),
        ("what a flow counts in", size_of::<ConnectionRecord>(), 80),
        ("an open connection in the list", size_of::<OpenConnection>(), 288),
        // For each peer of a pod, with up to some hundred connections in it.
        ("a tunnel", size_of::<Tunnel>(), 504),
        ("its protocol", size_of::<culvert_hbone::Connection>(), 1288),
        // Up to as many as a read of 1 MiB has frames.
        ("something that a tunnel says", size_of::<Told<'_>>(), 24),
    ] {
        assert!(bytes <= most, "{what}: {bytes} bytes in place of {most}");
    }
}
