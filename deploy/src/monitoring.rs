//! What is installed for those who watch the mesh, and is no part of it.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{Document, Error, Monitoring, NAMESPACE, files, files::File};

impl Monitoring {
    /// The objects, as `kubectl apply -k deploy/dashboards` and the chart bring them.
    pub(crate) fn documents(self) -> Result<Vec<Document>, Error> {
        let mut documents = Vec::new();
        if self.dashboards {
            for file in files::DASHBOARDS {
                documents.push(dashboard(file)?);
            }
        }
        if self.operator {
            for file in files::OPERATOR {
                documents.extend(file.documents()?);
            }
        }
        Ok(documents)
    }
}

/// A dashboard as a ConfigMap.
fn dashboard(file: &File) -> Result<Document, Error> {
    let path = Path::new(file.path);
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let data = Map::from_iter([(text(path.file_name()), Value::from(file.text))]);
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": format!("culvert-dashboard-{}", text(path.file_stem())),
            "namespace": NAMESPACE,
            "labels": {
                "app.kubernetes.io/name": "culvert",
                "app.kubernetes.io/part-of": "culvert",
                "grafana_dashboard": "1",
            },
        },
        "data": data,
    });
    Document::new(object).map_err(|reason| file.error(reason))
}
