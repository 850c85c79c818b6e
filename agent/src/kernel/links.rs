//! Links: the attachments of programs. Each is held open and pinned, so that it outlives this process, and does not end
//! when somebody removes its pin.

use super::{
    KernelError,
    names::{GuardName, Name},
    pins::{self, Pin, failed},
    sys::{self, Hook, Target},
};
use std::{
    collections::HashMap,
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

/// The attachments of one version of the programs, and the folder with their pins.
#[derive(Debug)]
pub(super) struct Links {
    folder: PathBuf,
    /// What this process attached or took over, by file name.
    held: HashMap<String, Held>,
}

#[derive(Debug)]
struct Held {
    name: Name,
    pin: Pin,
    target: Target,
}

/// What [`Links::audit`] found.
#[derive(Debug, Default)]
pub(super) struct LinksAudit {
    /// Pins that were missing, or named something else, and are back.
    pub(super) pinned: Vec<PathBuf>,
    /// What is not attached any more. It is forgotten here.
    pub(super) detached: Vec<Name>,
    /// Pins that could not be brought back, and why.
    pub(super) failed: Vec<KernelError>,
}

impl Links {
    /// Uses a folder, made if absent.
    pub(super) fn open(folder: PathBuf) -> Result<Self, KernelError> {
        fs::create_dir_all(&folder).map_err(|source| failed("make", &folder, source))?;
        Ok(Self {
            folder,
            held: HashMap::new(),
        })
    }

    /// Attaches a program, or puts it in the place of the one that an earlier process attached there. True if so.
    pub(super) fn attach(
        &mut self,
        name: Name,
        program: BorrowedFd<'_>,
        at: BorrowedFd<'_>,
        target: Target,
        hook: Hook,
    ) -> Result<bool, KernelError> {
        self.attach_by(name, program, target, || sys::link_create(program, at, hook))
    }

    /// As [`Links::attach`], where making the link takes more than a call.
    pub(super) fn attach_by(
        &mut self,
        name: Name,
        program: BorrowedFd<'_>,
        target: Target,
        create: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> Result<bool, KernelError> {
        let file = name.file();
        let path = self.folder.join(&file);
        let earlier = match self.held.remove(&file) {
            Some(held) => Some(held.pin),
            None => Pin::open(path.clone())?,
        };
        if let Some(pin) = earlier {
            let same = sys::link_target(pin.as_fd()).is_ok_and(|found| found == target);
            if same && sys::link_update(pin.as_fd(), program).is_ok() {
                self.held.insert(file, Held { name, pin, target });
                return Ok(true);
            }
        }
        // Attached before the pin of the old one goes, so that there is no gap.
        let link = create().map_err(|source| failed("attach", &path, source))?;
        let pin = Pin::make(link, path)?;
        self.held.insert(file, Held { name, pin, target });
        Ok(false)
    }

    /// Ends an attachment at once. Nothing happens if there is none.
    pub(super) fn detach(&mut self, name: Name) -> Result<(), KernelError> {
        let file = name.file();
        if let Some(held) = self.held.remove(&file) {
            // Fails when the target is gone already, which is as good.
            let _ = sys::link_detach(held.pin.as_fd());
        }
        let path = self.folder.join(file);
        if let Some(pin) = Pin::open(path)? {
            let _ = sys::link_detach(pin.as_fd());
            pin.unpin()?;
        }
        Ok(())
    }

    /// Ends all attachments, capture first. What another version attached goes before its pins do, because letting go of
    /// a pin detaches some time later.
    pub(super) fn detach_all(&mut self) -> Result<(), KernelError> {
        let is_capture = |file: &String| file.contains("connect") || file.contains("sendmsg");
        let mut files = self.files()?;
        files.extend(self.held.keys().cloned());
        files.sort_by_key(|file| !is_capture(file));
        files.dedup();
        for file in files {
            if let Some(held) = self.held.remove(&file) {
                let _ = sys::link_detach(held.pin.as_fd());
            }
            if let Some(pin) = Pin::open(self.folder.join(file))? {
                let _ = sys::link_detach(pin.as_fd());
                pin.unpin()?;
            }
        }
        Ok(())
    }

    /// The cookies of pods with an attachment, and whether their network namespace still exists.
    pub(super) fn pods(&self) -> Result<Vec<(u64, bool)>, KernelError> {
        let mut pods = Vec::new();
        for file in self.files()? {
            if let Some(Name::Pod(cookie)) = Name::of_pod(&file) {
                pods.push((cookie, self.is_attached(&file)?));
            }
        }
        for held in self.held.values() {
            if let Name::Pod(cookie) = held.name
                && !pods.iter().any(|(known, _)| *known == cookie)
            {
                pods.push((cookie, is_attached(&held.pin)?));
            }
        }
        Ok(pods)
    }

    /// Whether a pod has an attachment that is in force.
    pub(super) fn has_pod(&self, cookie: u64) -> Result<bool, KernelError> {
        self.is_attached(&Name::Pod(cookie).file())
    }

    /// Puts a program in the place of the ones attached to pods that are still there.
    pub(super) fn update_pods(&mut self, program: BorrowedFd<'_>) -> Result<(), KernelError> {
        for file in self.files()? {
            if let Some(name) = Name::of_pod(&file) {
                self.update(name, file, program)?;
            }
        }
        Ok(())
    }

    /// Puts a program in the place of an attachment's, if it is in force.
    fn update(&mut self, name: Name, file: String, program: BorrowedFd<'_>) -> Result<(), KernelError> {
        let Some(pin) = Pin::open(self.folder.join(&file))? else {
            return Ok(());
        };
        let updated = sys::link_update(pin.as_fd(), program);
        let target = sys::link_target(pin.as_fd()).unwrap_or(Target::Nothing);
        match updated {
            Ok(()) => drop(self.held.insert(file, Held { name, pin, target })),
            // A namespace or an interface that is gone, which may happen at any moment, has nothing to update.
            Err(_) if target == Target::Nothing => {}
            Err(source) => return Err(failed("update", pin.path(), source)),
        }
        Ok(())
    }

    /// Puts a program in the place of a guard's.
    pub(super) fn update_guard(&mut self, guard: GuardName, program: BorrowedFd<'_>) -> Result<(), KernelError> {
        let name = Name::Guard(guard);
        self.update(name, name.file(), program)
    }

    /// The guards that are pinned or held, in force or not.
    pub(super) fn guards(&self) -> Result<Vec<GuardName>, KernelError> {
        let held = self.held.keys().cloned();
        let mut files: Vec<String> = self.files()?.into_iter().chain(held).collect();
        files.sort_unstable();
        files.dedup();
        Ok(files.iter().filter_map(|file| Name::of_guard(file)).collect())
    }

    /// Those of one pod.
    pub(super) fn guards_of(&self, cookie: u64) -> Result<Vec<GuardName>, KernelError> {
        let mut guards = self.guards()?;
        guards.retain(|guard| guard.cookie == cookie);
        Ok(guards)
    }

    /// Whether a guard is in force.
    pub(super) fn has_guard(&self, guard: GuardName) -> Result<bool, KernelError> {
        self.is_attached(&Name::Guard(guard).file())
    }

    /// The cgroups with an attached `setsockopt` program: the proxies'.
    pub(super) fn proxies(&self) -> Result<Vec<u64>, KernelError> {
        let mut ids = Vec::new();
        for file in self.files()? {
            if let Some(Name::Setsockopt(id)) = Name::of_sockopt(&file)
                && self.is_attached(&file)?
            {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// The cgroups with a pinned socket option program.
    pub(super) fn sockopts(&self) -> Result<Vec<u64>, KernelError> {
        let names = self.files()?.into_iter().filter_map(|file| Name::of_sockopt(&file));
        let ids = names.filter_map(|name| match name {
            Name::Getsockopt(id) | Name::Setsockopt(id) => Some(id),
            Name::Node(_) | Name::Pod(_) | Name::Guard(_) => None,
        });
        Ok(ids.collect())
    }

    /// Takes over the socket option programs that another version attached to cgroups where this one has none: the cgroup's
    /// folder may be gone, while sockets that were made in it are still accepted from. `program` tells what to put in their
    /// place.
    pub(super) fn take_over_sockopts<'a>(
        &mut self,
        other: &Self,
        program: impl Fn(Name) -> Result<BorrowedFd<'a>, KernelError>,
    ) -> Result<usize, KernelError> {
        let mut taken = 0;
        for file in other.files()? {
            let Some(name) = Name::of_sockopt(&file) else { continue };
            if self.is_attached(&file)? {
                continue;
            }
            let from = other.folder.join(&file);
            let Some(pin) = Pin::open(from.clone())? else { continue };
            let target = sys::link_target(pin.as_fd()).map_err(|source| failed("look at", &from, source))?;
            if target == Target::Nothing {
                continue;
            }
            sys::link_update(pin.as_fd(), program(name)?).map_err(|source| failed("update", &from, source))?;
            let to = self.folder.join(&file);
            fs::rename(&from, &to).map_err(|source| failed("move", &from, source))?;
            if let Some(pin) = Pin::open(to)? {
                self.held.insert(file, Held { name, pin, target });
            }
            taken += 1;
        }
        Ok(taken)
    }

    /// Removes the pins of socket option programs whose cgroup is gone, or is not in `keep`.
    pub(super) fn collect_sockopts(&mut self, keep: impl Fn(u64) -> bool) -> Result<(), KernelError> {
        for file in self.files()? {
            let Some(Name::Getsockopt(id) | Name::Setsockopt(id)) = Name::of_sockopt(&file) else {
                continue;
            };
            if !keep(id) && !self.is_attached(&file)? {
                self.held.remove(&file);
                pins::remove(&self.folder.join(file))?;
            }
        }
        Ok(())
    }

    /// The node's programs, and whether each is attached.
    pub(super) fn node(&self, programs: &[&'static str]) -> Vec<(&'static str, bool)> {
        let is_there = |program: &&'static str| self.is_attached(program).unwrap_or(false);
        programs.iter().map(|program| (*program, is_there(program))).collect()
    }

    /// Compares what this process attached with what is attached and pinned, and brings pins back.
    pub(super) fn audit(&mut self) -> LinksAudit {
        let mut audit = LinksAudit::default();
        self.held.retain(|_, held| {
            let is_attached = sys::link_target(held.pin.as_fd()).is_ok_and(|target| target == held.target);
            if !is_attached {
                audit.detached.push(held.name);
                return false;
            }
            match held.pin.restore() {
                Ok(false) => {}
                Ok(true) => audit.pinned.push(held.pin.path().to_owned()),
                Err(error) => audit.failed.push(error),
            }
            true
        });
        audit
    }

    /// By what this process holds, or else by what the pin names.
    fn is_attached(&self, file: &str) -> Result<bool, KernelError> {
        if let Some(held) = self.held.get(file) {
            return is_attached(&held.pin);
        }
        match Pin::open(self.folder.join(file))? {
            Some(pin) => is_attached(&pin),
            None => Ok(false),
        }
    }

    /// The names of the pins. A folder that is gone has none.
    fn files(&self) -> Result<Vec<String>, KernelError> {
        let reading = |source| failed("read", &self.folder, source);
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(reading)?,
        };
        let name = |entry: std::io::Result<fs::DirEntry>| Ok(entry.map_err(reading)?.file_name());
        let names = entries.map(name).collect::<Result<Vec<_>, KernelError>>()?;
        Ok(names.iter().map(|name| name.to_string_lossy().into_owned()).collect())
    }
}

fn is_attached(pin: &Pin) -> Result<bool, KernelError> {
    let target = sys::link_target(pin.as_fd()).map_err(|source| failed("look at", pin.path(), source))?;
    Ok(target != Target::Nothing)
}
