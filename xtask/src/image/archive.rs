//! An image as one file that `ctr images import`, `docker load`, `podman load` and `skopeo` take.
//!
//! It is an OCI image layout (`oci-layout`, `index.json`, `blobs/`) that also has the `manifest.json` of Docker's older
//! format, which names the same blobs; `docker save` writes the same mixture.

use super::{catalogue::Recipe, digest, layer::Layer, platform::Platform, source::Source, tree::Tree};
use anyhow::{Context as _, Result};
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
    /// What its programs run on.
    pub(super) platform: Platform,
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
        platform: Platform,
    ) -> Result<Self> {
        let mut config = file_systems(&layers, platform);
        config["created"] = json!(source.created());
        config["config"] = process(recipe, labels);
        Self::assemble(source.reference(recipe.name), &config, layers, labels, platform)
    }

    /// The image that others name as their base: what they share, and nothing that depends on our source.
    pub(super) fn of_base(name: &str, layers: Vec<Rc<Layer>>, source: &Source, platform: Platform) -> Result<Self> {
        let config = file_systems(&layers, platform);
        Self::assemble(source.reference(name), &config, layers, &BTreeMap::new(), platform)
    }

    fn assemble(
        reference: String,
        config: &Value,
        layers: Vec<Rc<Layer>>,
        annotations: &BTreeMap<String, String>,
        platform: Platform,
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
            platform,
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

    /// How the image is named in an index of images.
    fn described(&self) -> Value {
        let mut described = descriptor(MANIFEST, self.digest.trim_start_matches("sha256:"), self.manifest.len());
        described["platform"] = json!({ "architecture": self.platform.architecture(), "os": "linux" });
        described
    }

    /// Its documents and layers, by digest.
    fn blobs(&self) -> impl Iterator<Item = (String, &[u8])> {
        let documents = [&self.manifest, &self.config].map(|bytes| (digest::sha256(bytes), bytes.as_slice()));
        let layers = self.layers.iter();
        let layers = layers.map(|layer| (layer.sha256.clone(), layer.blob.as_slice()));
        documents.into_iter().chain(layers)
    }
}

/// One image for each of several platforms under one name; or for one platform, which is then just that image.
pub(super) struct Bundle<'a> {
    images: &'a [Image],
    /// The index of the platforms, where there are several.
    index: Option<Vec<u8>>,
}

impl<'a> Bundle<'a> {
    /// Puts images of one name together.
    pub(super) fn new(images: &'a [Image]) -> Result<Self> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": images.iter().map(Image::described).collect::<Vec<_>>(),
        });
        Ok(Self {
            images,
            index: (images.len() > 1).then(|| serde_json::to_vec(&index)).transpose()?,
        })
    }

    /// The digest by which registries and container runtimes know it, whatever the platform: `sha256:...`.
    pub(super) fn digest(&self) -> String {
        match (&self.index, self.images.first()) {
            (Some(index), _) => format!("sha256:{}", digest::sha256(index)),
            (None, Some(image)) => image.digest.clone(),
            (None, None) => String::new(),
        }
    }

    /// The whole file.
    pub(super) fn to_archive(&self) -> Result<Vec<u8>> {
        let own = |image: &&Image| image.platform.is_host();
        // Docker's format knows one platform: this machine's, where it is among them.
        let first = self
            .images
            .iter()
            .find(own)
            .or(self.images.first())
            .context("no image")?;
        let mut described = match &self.index {
            Some(index) => descriptor(INDEX, &digest::sha256(index), index.len()),
            None => first.described(),
        };
        let tag = first.reference.rsplit(':').next().unwrap_or_default();
        described["annotations"] = json!({
            // containerd takes the first as the image's whole name; other tools take the second as its tag.
            "io.containerd.image.name": first.reference,
            "org.opencontainers.image.ref.name": tag,
        });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [described] });
        let docker = json!([{
            "Config": blob_path(&digest::sha256(&first.config)),
            "RepoTags": [first.reference],
            "Layers": first.layers.iter().map(|layer| blob_path(&layer.sha256)).collect::<Vec<_>>(),
        }]);

        let mut files = Tree::default();
        let mut add = |path: &str, bytes: Vec<u8>| files.file(path, 0o644, bytes);
        add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())?;
        add("index.json", serde_json::to_vec(&index)?)?;
        add("manifest.json", serde_json::to_vec(&docker)?)?;
        // By name: a blob that is in the images twice is in the archive once.
        let mut blobs: BTreeMap<String, &[u8]> = self.images.iter().flat_map(Image::blobs).collect();
        if let Some(index) = &self.index {
            blobs.insert(digest::sha256(index), index);
        }
        for (sha256, bytes) in blobs {
            add(&blob_path(&sha256), bytes.to_vec())?;
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
fn file_systems(layers: &[Rc<Layer>], platform: Platform) -> Value {
    let diff_ids = layers.iter().map(|layer| format!("sha256:{}", layer.diff_id));
    let history = layers.iter().map(|layer| json!({ "created_by": layer.made_of }));
    json!({
        "architecture": platform.architecture(),
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
        sample_for(Platform::host())
    }

    fn sample_for(platform: Platform) -> Image {
        let layer = |path: &str| {
            let mut tree = Tree::default();
            tree.file(path, 0o644, path.as_bytes().to_vec()).unwrap();
            Rc::new(Layer::new(tree, path.to_owned(), Profile::Release).unwrap())
        };
        let labels = BTreeMap::from([("org.opencontainers.image.title".to_owned(), "Sample".to_owned())]);
        let controller = RECIPES.iter().find(|recipe| recipe.name == "controller").unwrap();
        let source = Source::for_tests();
        Image::new(
            controller,
            vec![layer("base"), layer("program")],
            &labels,
            &source,
            platform,
        )
        .unwrap()
    }

    fn archive(images: &[Image]) -> Vec<u8> {
        Bundle::new(images).unwrap().to_archive().unwrap()
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
        assert_eq!(archive(&[sample()]), archive(&[sample()]));
    }

    #[test]
    fn every_blob_has_the_digest_that_it_is_named_by() {
        let files = files(&archive(&[sample()]));
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
        let images = [sample()];
        let files = files(&archive(&images));
        let [image] = images;
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

    #[test]
    fn an_archive_of_two_platforms_names_both_under_one_name_and_holds_what_they_share_once() {
        let images = [Platform::Amd64, Platform::Arm64].map(sample_for);
        let bundle = Bundle::new(&images).unwrap();
        let files = files(&bundle.to_archive().unwrap());
        let parse = |path: &str| -> Value { serde_json::from_slice(&files[path]).unwrap() };
        let blob = |descriptor: &Value| blob_path(descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:"));

        let described = &parse("index.json")["manifests"][0];
        assert_eq!(
            (&described["mediaType"], &described["digest"]),
            (&json!(INDEX), &json!(bundle.digest()))
        );
        let index = parse(&blob(described));
        for (one, image) in index["manifests"].as_array().unwrap().iter().zip(&images) {
            let architecture = image.platform.architecture();
            assert_eq!(one["platform"], json!({ "architecture": architecture, "os": "linux" }));
            let manifest = parse(&blob(one));
            assert_eq!(parse(&blob(&manifest["config"]))["architecture"], architecture);
            for layer in manifest["layers"].as_array().unwrap() {
                assert!(files.contains_key(&blob(layer)));
            }
        }
        let docker = &parse("manifest.json")[0];
        assert_eq!(
            parse(docker["Config"].as_str().unwrap())["architecture"],
            Platform::host().architecture()
        );
        // The layers are the same bytes here; index, two manifests, two configurations, two layers.
        assert_eq!(
            files
                .keys()
                .filter(|path| path.starts_with("blobs/sha256/") && path.len() > 13)
                .count(),
            7
        );
    }
}
