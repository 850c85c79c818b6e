//! What the kernel starts from: a busybox, the modules without which there are no files, and a script that mounts all and goes on
//! with the guest's own.

use super::package::Kernel;
use crate::shell;
use anyhow::{Context as _, Result};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Modules that must be there before the machine's files are; the kernel loads all others by itself, from those files.
const MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

const INIT: &str = include_str!("init.sh");

/// Where Debian's package `busybox-static` has it.
const BUSYBOX: &str = "/bin/busybox";

/// Builds it below `folder`, and returns the file.
pub(super) fn build(kernel: &Kernel, folder: &Path) -> Result<PathBuf> {
    let tree = folder.join("initramfs");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    }
    for name in ["bin", "dev", "host", "modules", "new", "proc", "sys", "written"] {
        let place = tree.join(name);
        fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    }
    copy(Path::new(BUSYBOX), &tree.join("bin/busybox"))?;
    let index = kernel.modules.join("modules.dep");
    let index = fs::read_to_string(&index).with_context(|| format!("cannot read {}", index.display()))?;
    let mut order = String::new();
    for (number, module) in in_order(&index, &MODULES)?.into_iter().enumerate() {
        let name = format!("{number}.ko");
        copy(&kernel.modules.join(module), &tree.join("modules").join(&name))?;
        order.push_str(&name);
        order.push('\n');
    }
    write(&tree.join("modules/order"), &order)?;
    // As the guest sees this machine's files.
    write(&tree.join("modules/all"), &format!("{}\n", kernel.modules.display()))?;
    let init = tree.join("init");
    write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).with_context(|| init.display().to_string())?;
    let file = folder.join("initramfs.cpio");
    let mut pack = Command::new("sh");
    pack.current_dir(&tree)
        .args([
            "-c",
            "find . | cpio --create --quiet --format=newc --owner=0:0 >\"$1\"",
            "sh",
        ])
        .arg(&file);
    shell::run("pack what the kernel starts from", &mut pack)?;
    Ok(file)
}

/// The files of modules and of what they need, each after what it needs. The index is depmod's: `file: what it needs, the nearest first`.
fn in_order<'a>(index: &'a str, modules: &[&str]) -> Result<Vec<&'a str>> {
    let mut order: Vec<&str> = Vec::new();
    for module in modules {
        let file = format!("/{module}.ko");
        let line = index.lines().find_map(|line| {
            let (path, needs) = line.split_once(':')?;
            path.ends_with(&file).then_some((path, needs))
        });
        let (path, needs) = line.with_context(|| format!("the kernel has no module {module}"))?;
        for one in needs.split_whitespace().rev().chain([path]) {
            if !order.contains(&one) {
                order.push(one);
            }
        }
    }
    Ok(order)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::in_order;

    const INDEX: &str = "kernel/a/virtio_pci.ko: kernel/a/modern.ko kernel/a/virtio.ko kernel/a/ring.ko\n\
                         kernel/a/ring.ko:\n\
                         kernel/b/9p.ko: kernel/b/9pnet.ko kernel/a/ring.ko\n";

    #[test]
    fn a_module_comes_after_what_it_needs_and_once() {
        let order = in_order(INDEX, &["virtio_pci", "9p"]).unwrap();
        let names: Vec<&str> = order.iter().filter_map(|path| path.rsplit('/').next()).collect();
        let expected = [
            "ring.ko",
            "virtio.ko",
            "modern.ko",
            "virtio_pci.ko",
            "9pnet.ko",
            "9p.ko",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_module_that_the_kernel_lacks_is_named() {
        let error = in_order(INDEX, &["overlay"]).unwrap_err();
        assert!(error.to_string().contains("overlay"), "{error}");
    }
}
