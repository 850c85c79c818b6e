//! What each container and each service account may do, with the reason that stands beside it in the manifests.
//!
//! This is the list that tests go through: they take each capability away in turn and see what fails, and look for each verb
//! in the API server's audit log. It is read from the files themselves, comments included, so that it cannot grow old.

use serde::Serialize;
use serde_json::Value;

use crate::{
    Component, Document, Error,
    files::{self, File},
};

/// Everything that the base and all components grant.
#[derive(Clone, Debug, Serialize)]
pub struct Privileges {
    /// By container.
    pub capabilities: Vec<Capability>,
    /// By role.
    pub permissions: Vec<Permission>,
}

/// A capability of a container. Containers that are not named have none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// For example `DaemonSet culvert-system/culvert-node`.
    pub workload: String,
    /// The container's name.
    pub container: String,
    /// For example `SYS_ADMIN`.
    pub name: String,
    /// The first kernel, major and minor, that does not ask for it any more: the reason begins with "before kernel X.Y:".
    pub before_kernel: Option<(u32, u32)>,
    /// What it is needed for.
    pub reason: String,
}

/// One verb on one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Permission {
    /// The component that grants it; absent in the base.
    pub component: Option<&'static str>,
    /// The role's name, which is also the service account's, with what a component adds after it.
    pub role: String,
    /// Where it holds; absent for the whole cluster.
    pub namespace: Option<String>,
    /// The API group; empty for the core.
    pub group: String,
    /// For example `pods`.
    pub resource: String,
    /// The only names for which it holds; empty for all.
    pub names: Vec<String>,
    /// For example `list`.
    pub verb: String,
    /// Who uses it, and what for.
    pub reason: String,
}

/// Lists them.
///
/// # Errors
/// When a capability or a rule has no reason beside it, or a file is broken: a mistake in the files.
pub fn privileges() -> Result<Privileges, Error> {
    let mut all = Privileges {
        capabilities: Vec::new(),
        permissions: Vec::new(),
    };
    let components = Component::ALL.into_iter().flat_map(|component| {
        component
            .files()
            .resources
            .iter()
            .map(move |file| (Some(component.name()), file))
    });
    for (component, file) in files::BASE.iter().map(|file| (None, file)).chain(components) {
        let (mut beside, mut above) = (reasons_beside(file).into_iter(), reasons_above(file).into_iter());
        for document in file.documents()? {
            for (container, name) in capabilities(&document) {
                let reason = reason(beside.next(), &name, file)?;
                all.capabilities.push(Capability {
                    workload: document.id().to_string(),
                    before_kernel: before_kernel(&reason),
                    reason,
                    container,
                    name,
                });
            }
            for rule in list(document.value(), "/rules") {
                let group = list(rule, "/apiGroups").first().map(text).unwrap_or_default();
                let reason = reason(above.next(), &group, file)?;
                all.permissions
                    .extend(permissions(component, &document, rule, &group, &reason));
            }
        }
        if beside.len() + above.len() != 0 {
            return Err(file.error("a reason that belongs to nothing"));
        }
    }
    Ok(all)
}

fn permissions(
    component: Option<&'static str>,
    role: &Document,
    rule: &Value,
    group: &str,
    reason: &str,
) -> Vec<Permission> {
    let mut permissions = Vec::new();
    for resource in list(rule, "/resources") {
        for verb in list(rule, "/verbs") {
            permissions.push(Permission {
                component,
                role: role.id().name.clone(),
                namespace: role.id().namespace.clone(),
                group: group.to_owned(),
                resource: text(resource),
                names: list(rule, "/resourceNames").iter().map(text).collect(),
                verb: text(verb),
                reason: reason.to_owned(),
            });
        }
    }
    permissions
}

/// Container and capability, in the order of the file.
fn capabilities(document: &Document) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for container in list(document.value(), "/spec/template/spec/containers") {
        for capability in list(container, "/securityContext/capabilities/add") {
            found.push((text(&container["name"]), text(capability)));
        }
    }
    found
}

/// X and Y of a reason that begins with "before kernel X.Y:".
fn before_kernel(reason: &str) -> Option<(u32, u32)> {
    let (version, _) = reason.strip_prefix("before kernel ")?.split_once(':')?;
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What is said beside each item below `add:`; empty where nothing is.
fn reasons_beside(file: &File) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut lines = file.text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "add:" {
            continue;
        }
        let items = lines.by_ref().map(str::trim).filter(|line| !line.starts_with('#'));
        let items = items.take_while(|line| line.starts_with("- "));
        reasons.extend(items.map(|item| {
            item.split_once(" # ")
                .map_or("", |(_, reason)| reason)
                .trim()
                .to_owned()
        }));
    }
    reasons
}

/// What is said in the comment above each rule of a role; empty where nothing is.
fn reasons_above(file: &File) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut comment = Vec::new();
    for line in file.text.lines().map(str::trim) {
        match line.strip_prefix('#') {
            Some(words) => comment.push(words.trim()),
            None => {
                let comment = std::mem::take(&mut comment);
                if line.starts_with("- apiGroups:") {
                    reasons.push(comment.join(" "));
                }
            }
        }
    }
    reasons
}

fn reason(found: Option<String>, what: &str, file: &File) -> Result<String, Error> {
    found
        .filter(|reason| !reason.is_empty())
        .ok_or_else(|| file.error(format!("no reason is given for {what:?}")))
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
