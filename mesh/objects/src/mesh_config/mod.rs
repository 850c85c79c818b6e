//! What holds for the mesh as a whole and may change while it runs: Istio's `MeshConfig`, of which the providers are read.
//!
//! It is the key `mesh` of the ConfigMap [`NAME`], or else of Istio's own [`ISTIO`], so that users can move over.
//!
//! | module | what |
//! |---|---|
//! | `provider` | what policies name: who is asked about requests, and where telemetry goes |
//! | `reading` | fields that are not known are noted, each by its name |

mod provider;
mod reading;

pub use provider::{
    AuthzGrpc, AuthzHttp, BodyInCheck, DefaultProviders, Exporter, FileAccessLog, LogFormat, OpenTelemetry, Provider,
    ProviderKind, RateLimit, TraceContext, Zipkin,
};
use reading::Fields;
pub use reading::{BadYaml, Note};

/// The ConfigMap of the mesh.
pub const NAME: &str = "culvert-mesh";
/// That of Istio.
pub const ISTIO: &str = "istio";

/// What is said of the mesh as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeshConfig {
    /// What policies and telemetry may name, in the order of the text. Names are unique.
    pub providers: Vec<Provider>,
    /// Which of them hold where nothing is said; none where this is not written, which is not the same as no provider.
    pub default_providers: Option<DefaultProviders>,
    /// What of it is not in force, and why.
    pub notes: Vec<Note>,
}

impl MeshConfig {
    /// Reads the text of the key `mesh`.
    ///
    /// # Errors
    /// Where it is not YAML, or not a map of fields. Anything that is wrong below that is noted, and the rest is in force.
    pub fn parse(text: &str) -> Result<Self, BadYaml> {
        let value: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).map_err(|error| BadYaml(error.to_string()))?;
        let value = crate::yaml::to_json(value);
        let mut notes = Vec::new();
        let fields = match &value {
            serde_json::Value::Null => return Ok(Self::default()),
            serde_json::Value::Object(fields) => fields,
            _ => return Err(BadYaml("it is not a map of fields".to_owned())),
        };
        let mut fields = Fields::new(fields, String::new(), &mut notes);
        let providers = provider::all(&mut fields);
        let default_providers = provider::defaults(&mut fields);
        for (name, why) in ELSEWHERE {
            fields.pass_over(name, why);
        }
        fields.finish("the mesh does not read it");
        Ok(Self {
            providers,
            default_providers,
            notes,
        })
    }

    /// The provider of a name: one that is written, or one that Istio's users know without.
    pub fn provider(&self, name: &str) -> Option<&Provider> {
        let mut all = self.providers.iter().chain(provider::BUILT_IN.iter());
        all.find(|provider| *provider.name == *name)
    }

    /// About how many bytes it holds beside its own structure.
    pub(crate) fn heap(&self) -> usize {
        self.providers.len() * size_of::<Provider>() + self.notes.len() * size_of::<Note>()
    }
}

/// Fields of Istio's that have another place here.
const ELSEWHERE: [(&str, &str); 2] = [
    (
        "rootNamespace",
        "not read here: it is `root-namespace` of ConfigMap culvert-config",
    ),
    (
        "trustDomain",
        "not read here: it is `trust-domain` of ConfigMap culvert-config",
    ),
];

#[cfg(test)]
mod tests;
