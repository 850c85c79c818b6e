//! An image as one file that `ctr images import`, `docker load`, `podman load` and `skopeo` take.
//!
//! It is an OCI image layout (`oci-layout`, `index.json`, `blobs/`) that also has the `manifest.json` of Docker's older
//! format, which names the same blobs; `docker save` writes the same mixture.

use super::{
    catalogue::Recipe,
    digest,
    layer::Layer,
    source::{self, Source},
    tree::Tree,
};
use anyhow::Result;
use serde_json::{Value, json};
use std::{collections::BTreeMap, rc::Rc};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image in memory.
pub(super) struct Image {
    /// `culvert.dev/NAME:VERSION`.
    pub(super) reference: String,
    /// The digest by which registries and container runtimes know it: `sha256:...`.
    pub(super) digest: String,
    manifest: Vec<u8>,
    config: Vec<u8>,
    layers: Vec<Rc<Layer>>,
}

impl Image {
    /// Puts an image together from its layers, lowest first.
    pub(super) fn new(
        recipe: &Recipe,
        layers: Vec<Rc<Layer>>,
        labels: &BTreeMap<String, String>,
        source: &Source,
    ) -> Result<Self> {
        let mut config = file_systems(&layers);
        config["created"] = json!(source.created());
        config["config"] = process(recipe, labels);
        Self::assemble(source.reference(recipe.name), &config, layers, labels)
    }

    /// The image that others name as their base: what they share, and nothing that depends on our source.
    pub(super) fn of_base(name: &str, layers: Vec<Rc<Layer>>, source: &Source) -> Result<Self> {
        let config = file_systems(&layers);
        Self::assemble(source.reference(name), &config, layers, &BTreeMap::new())
    }

    fn assemble(
        reference: String,
        config: &Value,
        layers: Vec<Rc<Layer>>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let config = serde_json::to_vec(config)?;
        let descriptors: Vec<Value> = layers
            .iter()
            .map(|layer| {
                let media = if layer.compressed {
                    format!("{LAYER}+gzip")
                } else {
                    LAYER.to_owned()
                };
                descriptor(&media, &layer.sha256, layer.blob.len())
            })
            .collect();
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &digest::sha256(&config), config.len()),
            "layers": descriptors,
            "annotations": annotations,
        }))?;
        Ok(Self {
            reference,
            digest: format!("sha256:{}", digest::sha256(&manifest)),
            manifest,
            config,
            layers,
        })
    }

    /// How many bytes its files have.
    pub(super) fn unpacked(&self) -> u64 {
        self.layers.iter().map(|layer| layer.tree.size()).sum()
    }

    /// How many bytes a registry sends: the layers as they are stored.
    pub(super) fn stored(&self) -> u64 {
        self.layers.iter().map(|layer| layer.blob.len() as u64).sum()
    }

    /// The whole file.
    pub(super) fn to_archive(&self) -> Result<Vec<u8>> {
        let mut described = descriptor(MANIFEST, self.digest.trim_start_matches("sha256:"), self.manifest.len());
        let tag = self.reference.rsplit(':').next().unwrap_or_default();
        described["annotations"] = json!({
            // containerd takes the first as the image's whole name; other tools take the second as its tag.
            "io.containerd.image.name": self.reference,
            "org.opencontainers.image.ref.name": tag,
        });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [described] });
        let docker = json!([{
            "Config": blob_path(&digest::sha256(&self.config)),
            "RepoTags": [self.reference],
            "Layers": self.layers.iter().map(|layer| blob_path(&layer.sha256)).collect::<Vec<_>>(),
        }]);

        let mut files = Tree::default();
        let mut add = |path: &str, bytes: Vec<u8>| files.file(path, 0o644, bytes);
        add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())?;
        add("index.json", serde_json::to_vec(&index)?)?;
        add("manifest.json", serde_json::to_vec(&docker)?)?;
        let documents = [&self.manifest, &self.config].map(|bytes| (digest::sha256(bytes), bytes));
        let layers = self.layers.iter().map(|layer| (layer.sha256.clone(), &layer.blob));
        // By name: a blob that is in the image twice is in the archive once.
        let blobs: BTreeMap<String, &Vec<u8>> = documents.into_iter().chain(layers).collect();
        for (sha256, bytes) in blobs {
            add(&blob_path(&sha256), bytes.clone())?;
        }
        files.to_tar()
    }
}

fn blob_path(sha256: &str) -> String {
    format!("blobs/sha256/{sha256}")
}

fn descriptor(media: &str, sha256: &str, size: usize) -> Value {
    json!({ "mediaType": media, "digest": format!("sha256:{sha256}"), "size": size })
}

/// The part of the configuration that says what the image is made of.
fn file_systems(layers: &[Rc<Layer>]) -> Value {
    let diff_ids = layers.iter().map(|layer| format!("sha256:{}", layer.diff_id));
    let history = layers.iter().map(|layer| json!({ "created_by": layer.made_of }));
    json!({
        "architecture": source::architecture(),
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": diff_ids.collect::<Vec<_>>() },
        "history": history.collect::<Vec<_>>(),
    })
}

/// The part of the configuration that says what the container runtime starts, and how.
fn process(recipe: &Recipe, labels: &BTreeMap<String, String>) -> Value {
    let path = "PATH=/usr/local/bin:/usr/bin:/bin:/".to_owned();
    let environment: Vec<String> = std::iter::once(path)
        .chain(recipe.environment.iter().map(|(name, value)| format!("{name}={value}")))
        .collect();
    let mut process = json!({
        "User": recipe.user.numbers(),
        "Env": environment,
        "Entrypoint": recipe.entrypoint,
        "WorkingDir": "/",
        "StopSignal": "SIGTERM",
        "Labels": labels,
    });
    if !recipe.ports.is_empty() {
        let ports = recipe.ports.iter().map(|port| (format!("{port}/tcp"), json!({})));
        process["ExposedPorts"] = Value::Object(ports.collect());
    }
    process
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Profile, catalogue::RECIPES};
    use std::io::Read;

    fn sample() -> Image {
        let layer = |path: &str| {
            let mut tree = Tree::default();
            tree.file(path, 0o644, path.as_bytes().to_vec()).unwrap();
            Rc::new(Layer::new(tree, path.to_owned(), Profile::Release).unwrap())
        };
        let labels = BTreeMap::from([("org.opencontainers.image.title".to_owned(), "Sample".to_owned())]);
        let controller = RECIPES.iter().find(|recipe| recipe.name == "controller").unwrap();
        let source = Source::for_tests();
        Image::new(controller, vec![layer("base"), layer("program")], &labels, &source).unwrap()
    }

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(entry.path().unwrap().to_string_lossy().into_owned(), bytes);
        }
        files
    }

    #[test]
    fn the_same_layers_give_the_same_bytes() {
        assert_eq!(sample().to_archive().unwrap(), sample().to_archive().unwrap());
    }

    #[test]
    fn every_blob_has_the_digest_that_it_is_named_by() {
        let files = files(&sample().to_archive().unwrap());
        let blobs: Vec<_> = files
            .iter()
            .filter_map(|(path, bytes)| Some((path.strip_prefix("blobs/sha256/")?, bytes)))
            .filter(|(sha256, _)| !sha256.is_empty())
            .collect();
        assert_eq!(blobs.len(), 4);
        for (sha256, bytes) in blobs {
            assert_eq!(digest::sha256(bytes), sha256);
        }
    }

    #[test]
    fn both_formats_lead_to_the_same_configuration_and_layers() {
        let image = sample();
        let files = files(&image.to_archive().unwrap());
        let parse = |path: &str| -> Value { serde_json::from_slice(&files[path]).unwrap() };
        let blob = |descriptor: &Value| blob_path(descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:"));

        let described = &parse("index.json")["manifests"][0];
        assert_eq!(described["digest"], image.digest);
        let manifest = parse(&blob(described));
        let docker = &parse("manifest.json")[0];
        assert_eq!(docker["Config"], blob(&manifest["config"]));
        let layers: Vec<String> = manifest["layers"].as_array().unwrap().iter().map(blob).collect();
        assert_eq!(docker["Layers"], json!(layers));
        assert_eq!(docker["RepoTags"], json!([image.reference]));
        assert_eq!(described["annotations"]["io.containerd.image.name"], image.reference);

        let config = parse(&blob(&manifest["config"]));
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"], json!(["/culvert-controller"]));
        assert!(config["config"]["Cmd"].is_null());
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
    }
}
