//! What whoever installs must be allowed to do: asked one by one, so that each missing permission is named.

use crate::{
    cluster::{Cluster, Failure, for_each_limited, names},
    kinds::KINDS,
    line::Line,
};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{
    Api,
    api::PostParams,
    core::{ApiResource, GroupVersionKind},
};

/// A verb on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Permission {
    pub(super) verb: &'static str,
    pub(super) group: String,
    pub(super) resource: String,
    pub(super) subresource: Option<&'static str>,
    /// In culvert-system only, or everywhere.
    pub(super) is_ours_only: bool,
    pub(super) is_allowed: bool,
}

/// Asks for everything that installing, checking and uninstalling take.
pub(super) async fn asked(cluster: &Cluster) -> Result<Vec<Permission>, Failure> {
    let answers = for_each_limited(needed(), |right| review(cluster, right)).await;
    answers.into_iter().collect()
}

async fn review(cluster: &Cluster, mut right: Permission) -> Result<Permission, Failure> {
    let reviews: Api<SelfSubjectAccessReview> = cluster.all();
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(right.verb.to_owned()),
                group: Some(right.group.clone()),
                resource: Some(right.resource.clone()),
                subresource: right.subresource.map(str::to_owned),
                namespace: right.is_ours_only.then(|| names::NAMESPACE.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = reviews
        .create(&PostParams::default(), &review)
        .await
        .map_err(|error| Failure::of("asking what we are allowed to do", error))?;
    right.is_allowed = answer.status.is_some_and(|status| status.allowed);
    Ok(right)
}

fn needed() -> Vec<Permission> {
    let right = |verb, group: &str, resource: &str, subresource, is_ours_only| Permission {
        verb,
        group: group.to_owned(),
        resource: resource.to_owned(),
        subresource,
        is_ours_only,
        is_allowed: false,
    };
    let applied = KINDS
        .into_iter()
        .filter(|(_, _, kind)| !matches!(*kind, "PriorityClass" | "CustomResourceDefinition" | "Secret"))
        .flat_map(|(group, version, kind)| {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind)).plural;
            let is_ours_only = !matches!(kind, "Namespace" | "ClusterRole" | "ClusterRoleBinding");
            ["create", "patch", "delete"].map(|verb| right(verb, group, &resource, None, is_ours_only))
        });
    let roles = "rbac.authorization.k8s.io";
    // The kinds of policies, where the cluster lacks them.
    let kinds = ["get", "create", "patch"]
        .map(|verb| right(verb, "apiextensions.k8s.io", "customresourcedefinitions", None, false));
    let others = [
        // What the programs are granted, nobody may grant who does not have it, unless he has these.
        right("escalate", roles, "clusterroles", None, false),
        right("bind", roles, "clusterroles", None, false),
        right("list", "", "nodes", None, false),
        right("list", "", "pods", None, false),
        right("list", "", "namespaces", None, false),
        right("get", "", "pods", Some("proxy"), true),
        right("create", "", "pods", Some("portforward"), true),
        right("get", "coordination.k8s.io", "leases", None, true),
        // Which of the nodes' pods are of the newest version.
        right("list", "apps", "controllerrevisions", None, true),
    ];
    applied.chain(kinds).chain(others).collect()
}

/// One good line, or a line for each resource that lacks a right.
pub(super) fn judged(rights: &[Permission]) -> Vec<Line> {
    let mut missing: Vec<(String, Vec<&str>)> = Vec::new();
    for right in rights.iter().filter(|right| !right.is_allowed) {
        let name = right.name();
        match missing.iter_mut().find(|(known, _)| *known == name) {
            Some((_, verbs)) => verbs.push(right.verb),
            None => missing.push((name, vec![right.verb])),
        }
    }
    if missing.is_empty() {
        return vec![Line::ok(
            "cluster",
            "permissions",
            format!("all {} that are needed", rights.len()),
        )];
    }
    // Escalating and binding are needed only by those who do not hold the programs' rights themselves.
    let line = |(name, verbs): (String, Vec<&str>)| {
        let found = format!("missing: {} {name}", verbs.join(", "));
        let is_about_granting = verbs.iter().all(|verb| matches!(*verb, "escalate" | "bind"));
        if is_about_granting {
            let remedy = "needed only if you lack a right that the roles of the programs grant: then ask a cluster administrator";
            return Line::warn("cluster", "permissions", found, remedy);
        }
        Line::fail(
            "cluster",
            "permissions",
            found,
            "install as a cluster administrator, or ask one for this right",
        )
    };
    missing.into_iter().map(line).collect()
}

impl Permission {
    fn name(&self) -> String {
        let mut name = self.resource.clone();
        if let Some(subresource) = self.subresource {
            name += &format!("/{subresource}");
        }
        if !self.group.is_empty() {
            name += &format!(".{}", self.group);
        }
        match self.is_ours_only {
            true => format!("{name} in {}", names::NAMESPACE),
            false => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{judged, needed};
    use crate::line::Level;

    #[test]
    fn missing_rights_are_named_with_verb_and_resource() {
        let mut rights = needed();
        rights.iter_mut().for_each(|right| right.is_allowed = true);
        assert_eq!(judged(&rights)[0].level, Level::Ok);
        for right in rights.iter_mut().filter(|right| right.resource == "daemonsets") {
            right.is_allowed = false;
        }
        let lines = judged(&rights);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].level, Level::Fail);
        assert_eq!(
            lines[0].found,
            "missing: create, patch, delete daemonsets.apps in culvert-system"
        );
    }

    #[test]
    fn granting_is_only_a_warning_since_the_rights_themselves_do_too() {
        let mut rights = needed();
        rights
            .iter_mut()
            .for_each(|right| right.is_allowed = right.verb != "escalate");
        let lines = judged(&rights);
        assert_eq!(lines.iter().map(|line| line.level).collect::<Vec<_>>(), [Level::Warn]);
    }
}
