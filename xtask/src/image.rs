//! `cargo xtask image`: container images of everything that runs in a cluster, without Docker and without a registry.
//!
//! [`catalogue`] says what is in each image; read it first. An image is a few layers ([`layer`]): one or two made of Debian
//! packages ([`debian`]), which images share, and one of its own with programs built here ([`programs`]). Before anything is
//! written, every program's libraries are looked for in the layers below it ([`elf`]), because an image without a shell
//! is a bad place to miss one. [`archive`] writes the image as one file that container runtimes import, and beside it
//! [`sbom`] lists what is inside.
//!
//! The same programs and packages give the same bytes.

mod archive;
mod catalogue;
mod crates;
mod cross;
mod debian;
mod digest;
mod elf;
pub(crate) mod foreign;
mod layer;
mod platform;
mod profile;
mod programs;
mod sbom;
mod source;
mod tree;

use crate::shell;
use anyhow::{Context, Result, bail};
use archive::{Bundle, Image};
use catalogue::{Base, Program, RECIPES, Recipe};
use crates::{Graph, Metadata};
pub(crate) use cross::Tools;
use culvert_cluster::Cluster;
use layer::Layer;
pub(crate) use platform::Platform;
pub(crate) use profile::Profile;
use source::Source;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    rc::Rc,
};

/// Options of `cargo xtask image`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which images to make; all of them when none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// How programs are built: `release` for use, `dev` for tests, which is built sooner and not compressed
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
    /// Platforms that the images are for, each with its own programs under one name; this machine's when none is named
    #[arg(long, value_name = "linux/amd64,linux/arm64", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Import the images into every node of a test cluster that is up
    #[arg(long, value_name = "CLUSTER")]
    load: Option<String>,
}

/// An image that was made.
#[derive(Debug)]
pub(crate) struct Made {
    /// `culvert.dev/NAME:VERSION`.
    pub(crate) reference: String,
    /// The file to import.
    pub(crate) file: PathBuf,
    /// `sha256:...`, by which registries and runtimes know the image.
    pub(crate) digest: String,
    /// Bytes of its files, the layers that it shares with others included.
    pub(crate) unpacked: u64,
    stored: u64,
}

/// Makes the images that were asked for, and prints a table of them.
pub(crate) fn run(options: &Options) -> Result<()> {
    // Looked for before anything is built, because building takes minutes.
    let cluster = options.load.as_deref().map(attach).transpose()?;
    let made = build_for(&options.platform, options.profile, &options.names)?;
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(["image", "unpacked MB", "stored MB", "digest", "file"]);
    let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    for image in &made {
        table.add_row([
            &image.reference,
            &megabytes(image.unpacked),
            &megabytes(image.stored),
            image.digest.get(..19).unwrap_or(&image.digest),
            &shown(&image.file),
        ]);
    }
    println!("{table}");
    cluster.map_or(Ok(()), |cluster| load(&cluster, &made))
}

/// A test cluster that `cargo xtask cluster up` made.
fn attach(name: &str) -> Result<Cluster> {
    let state =
        std::env::var_os("CULVERT_CLUSTER_STATE").map_or_else(|| shell::target().join("cluster"), PathBuf::from);
    Ok(Cluster::attach(&shell::root().join(state), name)?)
}

/// Imports images into every node.
fn load(cluster: &Cluster, made: &[Made]) -> Result<()> {
    for node in cluster.nodes() {
        shell::say(&format!("importing {} images into {}", made.len(), node.name()));
        for image in made {
            node.import(&image.file)
                .with_context(|| format!("{} into {}", image.reference, node.name()))?;
        }
    }
    Ok(())
}

/// A path as one would type it in the repository's root.
fn shown(file: &Path) -> String {
    file.strip_prefix(shell::root()).unwrap_or(file).display().to_string()
}

/// Where the images of a profile are: `NAME.tar`, and `NAME.spdx.json` beside it.
pub(crate) fn folder(profile: Profile) -> PathBuf {
    images().join(profile.name())
}

/// Makes images for this machine, all of them when no name is given. What is in the folder already is replaced when it is ready.
pub(crate) fn build(profile: Profile, names: &[String]) -> Result<Vec<Made>> {
    build_for(&[], profile, names)
}

fn build_for(platforms: &[Platform], profile: Profile, names: &[String]) -> Result<Vec<Made>> {
    let recipes = choose(names)?;
    let out = folder(profile);
    let mut programs: Vec<&Program> = Vec::new();
    for program in recipes.iter().flat_map(|recipe| recipe.programs) {
        if !programs.contains(&program) {
            programs.push(program);
        }
    }
    let mut platforms = match platforms {
        [] => vec![Platform::host()],
        named => named.to_vec(),
    };
    platforms.sort_unstable();
    platforms.dedup();
    let mut kitchens = Vec::new();
    for platform in platforms {
        let tools = Tools::find(platform)?;
        let built = images()
            .join("build")
            .join(profile.name())
            .join(platform.architecture());
        kitchens.push(Kitchen {
            built: programs::build(&programs, profile, &tools, platform, &built)?,
            packages: fetch(&recipes, platform)?,
            metadata: metadata(&programs, platform)?,
            source: Source::find()?,
            profile,
            platform,
            bases: BTreeMap::new(),
        });
    }
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let make = |recipe: &&Recipe| make(recipe, &mut kitchens, &out).with_context(|| format!("image {}", recipe.name));
    recipes.iter().map(make).collect()
}

/// Makes one image of every kitchen's platform, and writes them as one file, with a list of contents for each.
fn make(recipe: &Recipe, kitchens: &mut [Kitchen], out: &Path) -> Result<Made> {
    let several = kitchens.len() > 1;
    let mut images = Vec::new();
    for kitchen in kitchens {
        let (image, contents) = kitchen.make(recipe)?;
        let file = if several {
            format!("{}.{}.spdx.json", recipe.name, image.platform.architecture())
        } else {
            format!("{}.spdx.json", recipe.name)
        };
        write(&out.join(file), &contents)?;
        images.push(image);
    }
    let bundle = Bundle::new(&images)?;
    let file = out.join(format!("{}.tar", recipe.name));
    write(&file, &bundle.to_archive()?)?;
    let first = images.first().context("no platform")?;
    Ok(Made {
        reference: first.reference.clone(),
        digest: bundle.digest(),
        unpacked: images.iter().map(Image::unpacked).sum(),
        stored: images.iter().map(Image::stored).sum(),
        file,
    })
}

/// The recipes of these names, in the catalogue's order.
fn choose(names: &[String]) -> Result<Vec<&'static Recipe>> {
    let known = |name: &String| RECIPES.iter().any(|recipe| recipe.name == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let all: Vec<&str> = RECIPES.iter().map(|recipe| recipe.name).collect();
        bail!("there is no image {unknown:?}; there are: {}", all.join(", "));
    }
    let chosen = |recipe: &&Recipe| names.is_empty() || names.iter().any(|name| name == recipe.name);
    Ok(RECIPES.iter().filter(chosen).collect())
}

fn images() -> PathBuf {
    shell::root().join(shell::target()).join("images")
}

fn fetch(recipes: &[&Recipe], platform: Platform) -> Result<Vec<debian::Package>> {
    let bases = recipes.iter().flat_map(|recipe| recipe.base);
    let names: BTreeSet<&str> = bases
        .flat_map(|base| base.packages.iter().map(|package| package.name))
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    debian::Archive::of(platform, &images())?.fetch(&names)
}

/// What cargo says of the workspaces that the programs are from.
struct Workspaces {
    ours: Metadata,
    kernel: Metadata,
    compiler: String,
}

/// The package of the kernel programs, which are inside the agent.
const KERNEL_PROGRAMS: &str = "culvert-ebpf";

fn metadata(programs: &[&Program], platform: Platform) -> Result<Option<Workspaces>> {
    if programs.is_empty() {
        return Ok(None);
    }
    let version = shell::output(shell::command("rustc").arg("--version"))?;
    Ok(Some(Workspaces {
        ours: Metadata::read("Cargo.toml", platform.triple())?,
        kernel: Metadata::read("ebpf/Cargo.toml", "bpfel-unknown-none")?,
        compiler: version.split(' ').nth(1).unwrap_or_default().to_owned(),
    }))
}

/// All that one platform's images are made of.
struct Kitchen {
    built: BTreeMap<&'static str, PathBuf>,
    packages: Vec<debian::Package>,
    metadata: Option<Workspaces>,
    source: Source,
    profile: Profile,
    platform: Platform,
    /// Layers that images share, made when the first image asks for them.
    bases: BTreeMap<&'static str, Rc<Layer>>,
}

impl Kitchen {
    /// Makes one image, and the list of its contents.
    fn make(&mut self, recipe: &Recipe) -> Result<(Image, Vec<u8>)> {
        let mut layers = Vec::new();
        for base in recipe.base {
            layers.push(self.base(base)?);
        }
        let below = layers.clone();
        layers.push(Rc::new(Layer::of_recipe(recipe, &self.built, self.profile)?));
        let trees: Vec<_> = layers.iter().map(|layer| &layer.tree).collect();
        elf::check(&trees, self.platform)?;

        let debian = self.packages_of(recipe.base);
        let labels = self.labels(recipe, &below, &debian)?;
        let image = Image::new(recipe, layers, &labels, &self.source, self.platform)?;
        let contents = sbom::document(&image, recipe, &debian, &self.graphs(recipe)?, &self.source)?;
        Ok((image, contents))
    }

    fn base(&mut self, base: &'static Base) -> Result<Rc<Layer>> {
        if let Some(layer) = self.bases.get(base.name) {
            return Ok(Rc::clone(layer));
        }
        let layer = Rc::new(Layer::of_packages(base, &self.packages, self.profile)?);
        self.bases.insert(base.name, Rc::clone(&layer));
        Ok(layer)
    }

    fn packages_of(&self, bases: &[&Base]) -> Vec<&debian::Package> {
        let wanted = |package: &&debian::Package| {
            let mut all = bases.iter().flat_map(|base| base.packages);
            all.any(|one| one.name == package.name)
        };
        self.packages.iter().filter(wanted).collect()
    }

    fn labels(
        &self,
        recipe: &Recipe,
        below: &[Rc<Layer>],
        debian: &[&debian::Package],
    ) -> Result<BTreeMap<String, String>> {
        let names: Vec<&str> = recipe.base.iter().map(|base| base.name).collect();
        let base = Image::of_base(&names.join("-"), below.to_vec(), &self.source, self.platform)?;
        let packages: Vec<String> = debian
            .iter()
            .map(|package| format!("{}={}", package.name, package.version))
            .collect();
        let labels = [
            ("org.opencontainers.image.title", recipe.title.to_owned()),
            ("org.opencontainers.image.description", recipe.description.to_owned()),
            ("org.opencontainers.image.version", self.source.version.clone()),
            ("org.opencontainers.image.revision", self.source.revision.clone()),
            ("org.opencontainers.image.created", self.source.created()),
            ("org.opencontainers.image.source", self.source.url.clone()),
            (
                "org.opencontainers.image.licenses",
                env!("CARGO_PKG_LICENSE").to_owned(),
            ),
            ("org.opencontainers.image.base.name", base.reference),
            ("org.opencontainers.image.base.digest", base.digest),
            ("culvert.dev/debian-packages", packages.join(" ")),
        ];
        Ok(labels.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// The crates of each program of an image.
    fn graphs(&self, recipe: &Recipe) -> Result<Vec<Graph>> {
        let Some(workspaces) = &self.metadata else {
            return Ok(Vec::new());
        };
        let mut graphs = Vec::new();
        for program in recipe.programs {
            let graph = workspaces.ours.graph(program.package)?;
            graphs.push(graph.with_standard_library(&workspaces.compiler));
            if program.package == "culvert-agent" {
                graphs.push(workspaces.kernel.graph(KERNEL_PROGRAMS)?);
            }
        }
        Ok(graphs)
    }
}

/// Renamed into place: a cluster may be importing the one that is there.
fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let partial = file.with_extension("partial");
    fs::write(&partial, bytes)
        .and_then(|()| fs::rename(&partial, file))
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests;
