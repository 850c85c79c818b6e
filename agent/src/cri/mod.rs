//! Where running pods have their network namespaces: asked of the container runtime, or seen in `/proc`.

/// Where container runtimes usually listen.
pub const SOCKETS: [&str; 4] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
    "/var/run/cri-dockerd.sock",
];
