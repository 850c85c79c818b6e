//! Questions to any controller of a cluster: each knows all objects.

use crate::{
    cluster::{Cluster, Failure, Unanswered, list, names},
    pod::is_ready,
};
use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::ListParams};

/// What the first controller that answers says to a question.
pub(crate) async fn ask(cluster: &Cluster, path: &str, question: &str) -> Result<String> {
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/name={}", names::CONTROLLER));
    let pods: Vec<Pod> = list(&cluster.ours(), &ours, "listing our controllers").await?;
    if pods.is_empty() && cluster.deployment_is_missing().await? {
        return Err(Failure::NotInstalled.into());
    }
    let mut last = Unanswered("no controller is ready".to_owned());
    for pod in pods.iter().filter(|pod| is_ready(pod)) {
        match cluster
            .post_admin_page(&pod.name_any(), names::ports::CONTROLLER, path, question)
            .await
        {
            Ok(page) if page.status == 200 => return Ok(page.body),
            // What is wrong with the question is so for every controller.
            Ok(page) if page.status == 400 => bail!("{}", page.body.trim()),
            Ok(page) if page.status == 404 => {
                last = Unanswered(format!("{} is of a version that has no page {path}", pod.name_any()));
            }
            Ok(page) => {
                last = Unanswered(format!(
                    "{} answered {}: {}",
                    pod.name_any(),
                    page.status,
                    page.body.trim()
                ))
            }
            Err(error) => last = Unanswered(format!("{}: {error}", pod.name_any())),
        }
    }
    Err(last.into())
}
