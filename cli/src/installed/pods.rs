//! Pods that should be in the mesh and are not.

use super::membership::Membership;
use crate::{line::Line, survey::Survey};
use kube::ResourceExt;
use std::collections::BTreeMap;

/// A line that counts, one for each pod with a fault of its own, and one for each node whose pods lack their agent.
pub(super) fn judged(survey: &Survey, members: &BTreeMap<(String, String), Membership>) -> Vec<Line> {
    let (mut is_in, mut is_out, mut lines) = (0, 0, Vec::new());
    let mut unserved: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for ((namespace, name), stands) in members {
        let place = format!("{namespace}/{name}");
        match stands {
            Membership::In(None) => is_in += 1,
            Membership::In(Some(fault)) => {
                is_in += 1;
                let remedy = format!("kubectl -n {namespace} describe pod {name}, and the lines of its node");
                lines.push(Line::warn(
                    &place,
                    "pod",
                    format!("in the mesh, with a fault: {fault}"),
                    remedy,
                ));
            }
            Membership::Waiting(why) => {
                is_out += 1;
                lines.push(Line::wait(&place, "pod", format!("not in the mesh yet: {why}")));
            }
            Membership::Failed(why) => {
                is_out += 1;
                let remedy = format!("kubectl -n {namespace} describe pod {name}, and the lines of its node above");
                let found = format!("should be in the mesh and is not: {why}");
                lines.push(Line::fail(&place, "pod", found, remedy));
            }
            Membership::Unserved { node, why } => {
                is_out += 1;
                unserved.entry((node, why)).or_default().push(place);
            }
            Membership::Out | Membership::Unlabelled => {}
        }
    }
    for ((node, why), pods) in unserved {
        let found = format!(
            "{} that should be in the mesh are not, the first is {}: {why}",
            match pods.len() {
                1 => "1 pod".to_owned(),
                count => format!("{count} pods"),
            },
            pods[0]
        );
        let remedy = match survey
            .nodes
            .iter()
            .find(|one| one.name == node)
            .and_then(|one| one.pod.as_ref())
        {
            Some(pod) => format!("kubectl -n culvert-system logs {} -c agent", pod.name_any()),
            None => "let these pods run on other nodes, or opt them out (culvert.dev/mesh: none)".to_owned(),
        };
        lines.push(Line::fail(node, "pods", found, remedy));
    }
    let summary = format!("{is_in} in the mesh, {is_out} that should be and are not");
    lines.insert(0, Line::ok("cluster", "pods", summary));
    lines
}

#[cfg(test)]
mod tests {
    use super::{Membership, judged};
    use crate::{line::Level, survey::Survey};

    #[test]
    fn pods_without_an_agent_are_one_line_for_their_node() {
        let unserved = || Membership::Unserved {
            node: "arm".to_owned(),
            why: "no agent runs there".to_owned(),
        };
        let name = |pod: &str| ("shop".to_owned(), pod.to_owned());
        let members = [
            (name("a"), unserved()),
            (name("b"), unserved()),
            (name("c"), Membership::In(None)),
            (name("d"), Membership::Failed("port 15006 is taken".to_owned())),
            (name("e"), Membership::Waiting("is being started".to_owned())),
            (name("f"), Membership::In(Some("its listeners were closed".to_owned()))),
        ];
        let lines = judged(&Survey::default(), &members.into());
        let levels: Vec<Level> = lines.iter().map(|line| line.level).collect();
        assert_eq!(levels, [Level::Ok, Level::Fail, Level::Wait, Level::Warn, Level::Fail]);
        assert_eq!(lines[0].found, "2 in the mesh, 4 that should be and are not");
        assert!(lines[4].found.starts_with("2 pods"), "{}", lines[4].found);
        assert_eq!(lines[4].place, "arm");
    }
}
