//! Whole images. What is tested of the parts is beside the parts.

use super::*;
use std::collections::BTreeSet;

/// A kitchen whose programs are this test program, so that nothing has to be built.
fn kitchen(profile: Profile, recipes: &[&Recipe]) -> Kitchen {
    let this = std::env::current_exe().unwrap();
    let programs = recipes.iter().flat_map(|recipe| recipe.programs);
    Kitchen {
        built: programs.map(|program| (program.binary, this.clone())).collect(),
        packages: fetch(recipes, Platform::host()).unwrap(),
        metadata: None,
        source: Source::for_tests(),
        profile,
        platform: Platform::host(),
        bases: BTreeMap::new(),
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

#[test]
fn an_image_made_twice_has_the_same_bytes_and_so_has_its_list_of_contents() {
    let names = ["controller", "bookstore-details"].map(ToOwned::to_owned);
    let recipes = choose(&names).unwrap();
    for profile in [Profile::Dev, Profile::Release] {
        let [first, second] = [(), ()].map(|()| {
            let folder = tempfile::tempdir().unwrap();
            for recipe in &recipes {
                let kitchen = kitchen(profile, &recipes);
                make(recipe, &mut [kitchen], folder.path()).unwrap();
            }
            files(folder.path())
        });
        let names: Vec<&String> = first.keys().collect();
        assert_eq!(
            names,
            [
                "bookstore-details.spdx.json",
                "bookstore-details.tar",
                "controller.spdx.json",
                "controller.tar"
            ]
        );
        assert!(first == second, "{profile:?}");
    }
}

#[test]
fn images_share_the_layers_below_their_own() {
    let names = ["agent", "controller", "bookstore-ratings"].map(ToOwned::to_owned);
    let recipes = choose(&names).unwrap();
    let mut kitchens = [kitchen(Profile::Dev, &recipes)];
    let folder = tempfile::tempdir().unwrap();
    for recipe in &recipes {
        make(recipe, &mut kitchens, folder.path()).unwrap();
    }
    let layers = |name: &str| -> BTreeSet<String> {
        let archive = fs::read(folder.path().join(format!("{name}.tar"))).unwrap();
        let mut files = tree::Tree::default();
        files.add_tar(archive.as_slice(), |_| true).unwrap();
        files
            .entries()
            .filter(|(path, _)| path.starts_with("blobs/sha256/"))
            .map(|(path, _)| path.to_owned())
            .collect()
    };
    let base = format!("blobs/sha256/{}", kitchens[0].bases["base"].sha256);
    for name in names {
        assert!(layers(&name).contains(&base), "{name}");
    }
}

#[test]
fn the_plug_in_that_is_copied_to_hosts_is_static_and_small() {
    let programs: Vec<&Program> = RECIPES.iter().flat_map(|recipe| recipe.programs).collect();
    let fixed = |program: &&&Program| program.linkage == catalogue::Linkage::Static;
    let plug_in = *programs.iter().find(fixed).unwrap();
    assert_eq!(plug_in.path, "culvert-cni");
    let folder = tempfile::tempdir().unwrap();
    let host = Platform::host();
    let tools = Tools::find(host).unwrap();
    let built = programs::build(&[plug_in], Profile::Release, &tools, host, folder.path()).unwrap();
    let bytes = fs::read(&built["culvert-cni"]).unwrap();
    assert!(elf::Elf::parse(&bytes).unwrap().unwrap().is_static());
    assert!(bytes.len() < 3_000_000, "{} bytes", bytes.len());
}

#[test]
fn an_unknown_name_is_answered_with_the_known_ones() {
    let said = choose(&["agent".to_owned(), "agnet".to_owned()])
        .unwrap_err()
        .to_string();
    assert!(said.starts_with("there is no image \"agnet\"; there are: agent, ztunnel, controller, "));
}

#[test]
fn without_names_every_image_is_made() {
    assert_eq!(choose(&[]).unwrap().len(), RECIPES.len());
}

#[test]
fn names_and_entrypoints_of_the_catalogue_fit_together() {
    let names: BTreeSet<&str> = RECIPES.iter().map(|recipe| recipe.name).collect();
    assert_eq!(names.len(), RECIPES.len(), "two images have one name");
    for recipe in RECIPES {
        let starts = recipe.entrypoint[0].trim_start_matches('/');
        let own = recipe.programs.iter().any(|program| program.path == starts);
        assert!(own || starts == "usr/bin/python3.11", "{}", recipe.name);
        for (from, to) in recipe.files {
            assert!(shell::root().join(from).is_file(), "{from}");
            assert!(recipe.entrypoint.contains(&format!("/{to}").as_str()), "{to}");
        }
    }
}
