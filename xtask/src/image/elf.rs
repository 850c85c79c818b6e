//! What a program asks of the system that it starts on: an interpreter, and shared libraries.
//!
//! An image without a shell is hard to look into when a library is missing, so that is found out here.

use super::{
    platform::Platform,
    tree::{Content, Tree},
};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;

/// The parts of an ELF file's headers that the dynamic linker reads first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Elf {
    /// `e_machine`: the processor that it is for.
    pub(super) machine: u64,
    /// Absent in static programs and in libraries.
    pub(super) interpreter: Option<String>,
    /// Names of shared libraries.
    pub(super) needed: Vec<String>,
}

const LOAD: u64 = 1;
const DYNAMIC: u64 = 2;
const INTERPRETER: u64 = 3;
const TAG_NEEDED: u64 = 1;
const TAG_STRINGS: u64 = 5;

impl Elf {
    /// Reads a 64-bit little-endian ELF file; `None` for any other file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        if !bytes.starts_with(b"\x7fELF\x02\x01") {
            return Ok(None);
        }
        let segments = segments(bytes).context("broken program headers")?;
        let mut elf = Self {
            machine: number(bytes, 18, 2).context("a broken header")?,
            ..Self::default()
        };
        for segment in &segments {
            match segment.kind {
                INTERPRETER => elf.interpreter = text(bytes, segment.offset),
                DYNAMIC => elf.needed = needed(bytes, segment, &segments).context("a broken dynamic section")?,
                _ => {}
            }
        }
        Ok(Some(elf))
    }

    /// Whether the program runs on a system that has no library at all.
    pub(super) fn is_static(&self) -> bool {
        self.interpreter.is_none() && self.needed.is_empty()
    }
}

/// Fails when a program or library in these trees, laid over one another, needs what is not there, or is for another platform.
pub(super) fn check(trees: &[&Tree], platform: Platform) -> Result<()> {
    let paths: BTreeSet<&str> = trees
        .iter()
        .flat_map(|tree| tree.entries().map(|(path, _)| path))
        .collect();
    let names: BTreeSet<&str> = paths.iter().filter_map(|path| path.rsplit('/').next()).collect();
    let mut missing = Vec::new();
    for (path, entry) in trees.iter().flat_map(|tree| tree.entries()) {
        let Content::File(bytes) = &entry.content else {
            continue;
        };
        let Some(elf) = Elf::parse(bytes).with_context(|| path.to_owned())? else {
            continue;
        };
        if elf.machine != platform.machine() {
            bail!("/{path} is not for {platform}");
        }
        if let Some(interpreter) = elf.interpreter
            && !paths.contains(interpreter.trim_start_matches('/'))
        {
            missing.push(format!("/{path} needs {interpreter}"));
        }
        let absent = elf.needed.iter().filter(|name| !names.contains(name.as_str()));
        missing.extend(absent.map(|name| format!("/{path} needs {name}")));
    }
    if !missing.is_empty() {
        bail!(
            "no package of this image has what its programs need:\n    {}",
            missing.join("\n    ")
        );
    }
    Ok(())
}

struct Segment {
    kind: u64,
    offset: usize,
    address: u64,
    size: usize,
}

fn segments(bytes: &[u8]) -> Option<Vec<Segment>> {
    let table = usize::try_from(number(bytes, 32, 8)?).ok()?;
    let (length, count) = (number(bytes, 54, 2)?, number(bytes, 56, 2)?);
    let one = |index: u64| {
        let at = table.checked_add(usize::try_from(index * length).ok()?)?;
        Some(Segment {
            kind: number(bytes, at, 4)?,
            offset: usize::try_from(number(bytes, at + 8, 8)?).ok()?,
            address: number(bytes, at + 16, 8)?,
            size: usize::try_from(number(bytes, at + 32, 8)?).ok()?,
        })
    };
    (0..count).map(one).collect()
}

fn needed(bytes: &[u8], dynamic: &Segment, segments: &[Segment]) -> Option<Vec<String>> {
    let section = bytes.get(dynamic.offset..dynamic.offset.checked_add(dynamic.size)?)?;
    let entries: Vec<(u64, u64)> = section
        .chunks_exact(16)
        .filter_map(|entry| Some((number(entry, 0, 8)?, number(entry, 8, 8)?)))
        .collect();
    let Some((_, strings)) = entries.iter().find(|(tag, _)| *tag == TAG_STRINGS) else {
        return Some(Vec::new());
    };
    // The table is known by its address in memory; the segment that is loaded there says where it is in the file.
    let loaded = segments.iter().find(|segment| {
        segment.kind == LOAD && (0..segment.size as u64).contains(&strings.wrapping_sub(segment.address))
    })?;
    let strings = loaded.offset + usize::try_from(strings - loaded.address).ok()?;
    let names = entries.iter().filter(|(tag, _)| *tag == TAG_NEEDED);
    names
        .map(|(_, at)| text(bytes, strings.checked_add(usize::try_from(*at).ok()?)?))
        .collect()
}

/// A little-endian number of `length` bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let digits = bytes.get(at..at.checked_add(length)?)?;
    Some(
        digits
            .iter()
            .rev()
            .fold(0, |value, digit| value << 8 | u64::from(*digit)),
    )
}

/// A text that ends with a zero byte.
fn text(bytes: &[u8], at: usize) -> Option<String> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    String::from_utf8(rest[..end].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn this_program() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn a_dynamic_program_names_its_interpreter_and_libraries() {
        let elf = Elf::parse(&this_program()).unwrap().unwrap();
        assert!(elf.interpreter.as_ref().unwrap().contains("ld-linux"), "{elf:?}");
        assert!(elf.needed.iter().any(|name| name == "libc.so.6"), "{elf:?}");
        assert!(!elf.is_static());
    }

    #[test]
    fn other_files_are_none_and_cut_off_ones_are_errors() {
        assert_eq!(Elf::parse(b"#!/bin/sh\n").unwrap(), None);
        assert!(Elf::parse(&this_program()[..100]).is_err());
    }

    #[test]
    fn a_program_without_its_libraries_is_refused_by_name() {
        let mut programs = Tree::default();
        programs.file("program", 0o755, this_program()).unwrap();
        let said = check(&[&programs], Platform::host()).unwrap_err().to_string();
        assert!(said.contains("/program needs libc.so.6"), "{said}");

        let mut libraries = Tree::default();
        let elf = Elf::parse(&this_program()).unwrap().unwrap();
        libraries.file(&elf.interpreter.unwrap(), 0o755, Vec::new()).unwrap();
        for name in elf.needed.iter().filter(|name| !name.contains("ld-linux")) {
            libraries.file(&format!("lib/{name}"), 0o755, Vec::new()).unwrap();
        }
        check(&[&libraries, &programs], Platform::host()).unwrap();
    }

    #[test]
    fn a_program_for_another_platform_is_refused_by_name() {
        let other = match Platform::host() {
            Platform::Amd64 => Platform::Arm64,
            Platform::Arm64 => Platform::Amd64,
        };
        let mut tree = Tree::default();
        tree.file("program", 0o755, this_program()).unwrap();
        let said = check(&[&tree], other).unwrap_err().to_string();
        assert_eq!(said, format!("/program is not for {other}"));
    }
}
