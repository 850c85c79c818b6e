//! What holds for the whole mesh.

use ipnet::IpNet;

/// What holds for the whole mesh.
#[derive(Clone, Debug)]
pub struct Settings {
    /// First segment of every workload's uid.
    pub cluster_id: String,
    /// The trust domain of every identity.
    pub trust_domain: String,
    /// Policies in this namespace bind everywhere.
    pub root_namespace: String,
    /// What comes after `svc.` in the names of services.
    pub cluster_domain: String,
    /// The mesh's own namespace, which takes no part in it whatever its labels say.
    pub system_namespace: String,
    /// Ranges of services that no object tells of.
    pub service_cidrs: Vec<IpNet>,
}

impl Default for Settings {
    fn default() -> Self {
        let domain = "cluster.local".to_owned();
        Self {
            cluster_id: "Kubernetes".to_owned(),
            trust_domain: domain.clone(),
            root_namespace: "istio-system".to_owned(),
            cluster_domain: domain,
            system_namespace: "culvert-system".to_owned(),
            service_cidrs: Vec::new(),
        }
    }
}
