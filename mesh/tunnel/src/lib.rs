//! Tunnels to peers: their pool, attempts, turns and budgets, over a source of sockets.
#![forbid(unsafe_code)]
