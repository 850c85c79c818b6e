//! The connection to the API server, and lists of its objects.

use super::{
    failure::{Failure, first_line},
    names,
};
use crate::target::Target;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client, Config, Resource,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::de::DeserializeOwned;
use std::{env, fmt::Debug, path::Path, time::Duration};

/// How long the API server may take to connect and to answer a first question.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many objects a list asks for at a time.
const CHUNK: u32 = 500;

/// A cluster that answered.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    /// Where its API server is.
    pub(crate) server: String,
    /// What its API server calls its version, such as `v1.34.4`.
    pub(crate) version: String,
}

impl Cluster {
    /// Whether flags, environment or files name a cluster at all.
    pub(crate) fn is_configured(target: &Target) -> bool {
        let named = target.kubeconfig.is_some() || target.context.is_some();
        let in_environment = env::var_os("KUBECONFIG").is_some_and(|paths| !paths.is_empty());
        let at_home = env::var_os("HOME").is_some_and(|home| Path::new(&home).join(".kube/config").is_file());
        let within = env::var_os("KUBERNETES_SERVICE_HOST").is_some()
            && Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token").is_file();
        named || in_environment || at_home || within
    }

    /// Connects, and asks for the version, so that what is wrong with the way there is told before anything else.
    pub(crate) async fn connect(target: &Target) -> Result<Self, Failure> {
        if !Self::is_configured(target) {
            return Err(Failure::NoConfiguration);
        }
        // An error means that a provider was installed already, by a test for example: it is the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut config = configuration(target).await?;
        config.connect_timeout = Some(PATIENCE);
        // Every caller has a time limit of its own, and a page that answers 503 is an answer.
        config.default_retry = false;
        let server = config.cluster_url.to_string();
        // What the kubeconfig names: certificates, keys, tokens, programs that give credentials. Only the whole says which one it is.
        let client = Client::try_from(config).map_err(|error| unusable(target, &error))?;
        let asked = tokio::time::timeout(PATIENCE, client.apiserver_version()).await;
        let version = asked
            .map_err(|_| Failure::Unreachable {
                server: server.clone(),
                cause: format!("no answer within {} s", PATIENCE.as_secs()),
            })?
            .map_err(|error| Failure::of("asking for the version", error).at(&server))?;
        Ok(Self {
            client,
            server,
            version: version.git_version,
        })
    }

    /// Whether nothing of ours is here.
    pub(crate) async fn deployment_is_missing(&self) -> Result<bool, Failure> {
        let found = self.ours::<Deployment>().get_metadata_opt(names::CONTROLLER).await;
        let found = found.map_err(|error| Failure::of("looking for the controller", error))?;
        Ok(found.is_none())
    }

    /// Objects of one kind in all namespaces, or without one.
    pub(crate) fn all<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = ()>,
    {
        Api::all(self.client.clone())
    }

    /// Objects of one kind in our own namespace.
    pub(crate) fn ours<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), names::NAMESPACE)
    }
}

/// Everything that a selector names, a chunk at a time.
pub(crate) async fn list<K>(api: &Api<K>, parameters: &ListParams, doing: &str) -> Result<Vec<K>, Failure>
where
    K: Clone + Debug + DeserializeOwned,
{
    let mut parameters = parameters.clone().limit(CHUNK);
    let mut found = Vec::new();
    loop {
        let page = api.list(&parameters).await.map_err(|error| Failure::of(doing, error))?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(found),
        }
    }
}

async fn configuration(target: &Target) -> Result<Config, Failure> {
    let options = KubeConfigOptions {
        context: target.context.clone(),
        ..KubeConfigOptions::default()
    };
    let unusable = |error: &dyn std::error::Error| unusable(target, error);
    if let Some(path) = &target.kubeconfig {
        let file = Kubeconfig::read_from(path).map_err(|error| unusable(&error))?;
        return Config::from_custom_kubeconfig(file, &options)
            .await
            .map_err(|error| unusable(&error));
    }
    match Config::from_kubeconfig(&options).await {
        Ok(config) => Ok(config),
        Err(error) => Config::incluster().map_err(|_| unusable(&error)),
    }
}

/// Names what the configuration was read from.
fn unusable(target: &Target, error: &dyn std::error::Error) -> Failure {
    let in_environment = || env::var("KUBECONFIG").ok().filter(|paths| !paths.is_empty());
    let file = match &target.kubeconfig {
        Some(path) => format!("the kubeconfig {}", path.display()),
        None => match in_environment() {
            Some(paths) => format!("the kubeconfig {paths} (KUBECONFIG)"),
            None => "the kubeconfig ~/.kube/config".to_owned(),
        },
    };
    Failure::BadConfiguration {
        file,
        cause: first_line(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{Cluster, Target};
    use std::fs;

    /// Seen: "No such file or directory", and neither which nor of which kubeconfig.
    #[tokio::test]
    async fn an_unusable_kubeconfig_is_named_with_the_file_that_it_lacks_in_one_line_and_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let of = |user: &str| {
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n\
                 clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:9'}}}}]\nusers: [{{name: u, user: {user}}}]\n"
            )
        };
        for (text, culprit) in [
            ("a: 1\na: 2\n".to_owned(), "duplicate"),
            (String::new(), "current context"),
            (of("{tokenFile: /nope/token}"), "/nope/token"),
            (
                of("{client-certificate: /nope/crt, client-key: /nope/key}"),
                "/nope/crt",
            ),
            (
                of("{client-certificate-data: aGVsbG8=, client-key-data: aGVsbG8=}"),
                "private key",
            ),
            (
                of(
                    "{exec: {apiVersion: client.authentication.k8s.io/v1, command: /nope/login, interactiveMode: Never}}",
                ),
                "auth exec",
            ),
        ] {
            fs::write(&path, &text).unwrap();
            let target = Target {
                kubeconfig: Some(path.clone()),
                ..Target::default()
            };
            let failure = Cluster::connect(&target).await.err().unwrap().to_string();
            assert!(failure.contains(&path.display().to_string()), "{failure}");
            assert!(failure.contains(culprit), "{culprit}: {failure}");
            assert_eq!(failure.lines().count(), 2, "{failure}");
        }
    }
}
