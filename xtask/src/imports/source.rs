//! A crate's files, read into modules: which modules each has, and which names it takes from where.

use anyhow::{Context as _, Result, bail};
use proc_macro2::{TokenStream, TokenTree};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

/// The segments of a path, as written.
pub(super) type Segments = Vec<String>;

/// A crate: its modules by their path from the root, which is the empty one.
#[derive(Debug, Default)]
pub(super) struct Crate {
    pub(super) modules: BTreeMap<Segments, Module>,
}

/// A module that has a file of its own.
#[derive(Debug, Default)]
pub(super) struct Module {
    pub(super) file: PathBuf,
    /// Names that the file defines, those of inline modules among them.
    pub(super) defines: BTreeSet<String>,
    /// What a `use` brought, by the name that it has here.
    pub(super) brought: BTreeMap<String, Segments>,
    /// Modules whose names a `use` brought all of.
    pub(super) globs: Vec<Segments>,
    /// What is imported: by `use` (without re-exports), or by paths in the code.
    pub(super) takes: BTreeSet<Segments>,
}

impl Crate {
    /// Reads the crate that begins with this file.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut found = Self::default();
        let folder = root.parent().context("a file without a folder")?;
        found.read_module(root, folder, Vec::new())?;
        Ok(found)
    }

    fn read_module(&mut self, file: &Path, folder: &Path, path: Segments) -> Result<()> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let parsed = syn::parse_file(&text).with_context(|| format!("cannot parse {}", file.display()))?;
        let mut module = Module {
            file: file.to_owned(),
            ..Module::default()
        };
        let mut children = Vec::new();
        module.take(parsed.items, 0, &mut children);
        self.modules.insert(path.clone(), module);
        for name in children {
            let mut below = path.clone();
            below.push(name.clone());
            let flat = folder.join(format!("{name}.rs"));
            let nested = folder.join(&name).join("mod.rs");
            let file = match (flat.is_file(), nested.is_file()) {
                (true, _) => flat,
                (false, true) => nested,
                (false, false) => bail!("{}: module {name} has no file", file.display()),
            };
            self.read_module(&file, &folder.join(&name), below)?;
        }
        Ok(())
    }
}

impl Module {
    /// Takes in what stands in the file, `depth` inline modules deep.
    fn take(&mut self, items: Vec<Item>, depth: usize, children: &mut Vec<String>) {
        for item in items {
            if attributes(&item).iter().any(is_for_tests) {
                continue;
            }
            match item {
                Item::Use(item) => self.bring(&item, depth),
                Item::Mod(ItemMod {
                    ident, content: None, ..
                }) => children.push(ident.to_string()),
                Item::Mod(ItemMod {
                    ident,
                    content: Some((_, items)),
                    ..
                }) => {
                    self.defines.insert(ident.to_string());
                    self.take(items, depth + 1, children);
                }
                other => {
                    self.defines.extend(defined(&other));
                    self.scan(quote::ToTokens::into_token_stream(other), depth);
                }
            }
        }
    }

    fn bring(&mut self, item: &ItemUse, depth: usize) {
        let is_private = matches!(item.vis, Visibility::Inherited);
        let mut leaves = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut leaves);
        for (name, path) in leaves {
            let path = from_file(path, depth);
            match name {
                Some(name) => {
                    self.brought.insert(name, path.clone());
                }
                None => self.globs.push(path.clone()),
            }
            if is_private {
                self.takes.insert(path);
            }
        }
    }

    /// Finds paths in code, macros' arguments included.
    fn scan(&mut self, tokens: TokenStream, depth: usize) {
        let mut path: Segments = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.found(&mut path, depth);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => colons += 1,
                TokenTree::Group(group) => {
                    self.found(&mut path, depth);
                    colons = 0;
                    self.scan(group.stream(), depth);
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.found(&mut path, depth);
                    colons = 0;
                }
            }
        }
        self.found(&mut path, depth);
    }

    fn found(&mut self, path: &mut Segments, depth: usize) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.takes.insert(from_file(path, depth));
        }
    }
}

/// A path that is written `depth` inline modules deep, as the file would write it.
fn from_file(mut path: Segments, depth: usize) -> Segments {
    let above = path.iter().take_while(|segment| *segment == "super").count().min(depth);
    if above > 0 {
        path.splice(..above, ["self".to_owned()]);
    }
    path
}

/// The leaves of a `use`: the name here, or none for a glob, and the path.
fn flatten(tree: &UseTree, above: &mut Segments, leaves: &mut Vec<(Option<String>, Segments)>) {
    match tree {
        UseTree::Path(path) => {
            above.push(path.ident.to_string());
            flatten(&path.tree, above, leaves);
            above.pop();
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, above, leaves);
            }
        }
        UseTree::Glob(_) => leaves.push((None, above.clone())),
        UseTree::Name(_) | UseTree::Rename(_) => {
            let (name, here) = match tree {
                UseTree::Rename(rename) => (rename.ident.to_string(), rename.rename.to_string()),
                UseTree::Name(name) => (name.ident.to_string(), name.ident.to_string()),
                _ => return,
            };
            let mut path = above.clone();
            // `use a::{self}` is `use a`.
            let here = match (name.as_str(), here.as_str()) {
                ("self", "self") => path.last().cloned().unwrap_or_default(),
                _ => here,
            };
            if name != "self" {
                path.push(name);
            }
            leaves.push((Some(here), path));
        }
    }
}

fn defined(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether this is `#[cfg(test)]`, alone or among other conditions that must all hold, or `#[cfg(doc)]`.
fn is_for_tests(attribute: &Attribute) -> bool {
    let is_cfg = attribute.path().is_ident("cfg");
    let list = attribute.meta.require_list();
    let words = list.map(|list| list.tokens.to_string()).unwrap_or_default();
    is_cfg && (words == "test" || words == "doc" || words.starts_with("all (test") || words.starts_with("all(test"))
}
