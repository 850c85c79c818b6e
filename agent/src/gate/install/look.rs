//! One look: is the gate in what the container runtime takes, and if not, putting it there.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    InstallError, Places, Standing, conflist,
    contest::Contest,
    files,
    folder::{Candidate, Folder},
    layouts,
    meta::{self, Delegation},
    program, remove, step,
};

/// How long programs that a CNI replaces may be missing before a list that names them is taken away.
const REPLACED: Duration = Duration::from_secs(10);

/// What one look remembers for the next.
#[derive(Debug, Default)]
pub struct Memory {
    program: program::Memory,
    /// The configuration that the list of ours was made of.
    source: Option<PathBuf>,
    contest: Contest,
    /// Whose entry of an earlier version has been taken out: once, so that nobody is fought who made a list of ours his own.
    migrated: HashSet<PathBuf>,
    missing_since: Option<Instant>,
}

/// Where the gate goes.
enum Place<'a> {
    /// Into a list of ours, made of this configuration, which container runtimes take first.
    First(&'a Candidate),
    /// Into a list of ours, made of what a plug-in such as Multus delegates to, and into the delegation.
    Delegate {
        master: &'a Candidate,
        source: &'a Candidate,
    },
    /// Into this configuration itself.
    Within(&'a Candidate),
}

/// Looks once, and puts right what is not. Writes nothing when all is right.
pub fn look(places: &Places, memory: &mut Memory, now: Instant) -> Standing {
    match try_look(places, memory, now) {
        Ok(standing) => standing,
        Err(error) => Standing::wrong(format!("{error}: {}", error.source)),
    }
}

fn try_look(places: &Places, memory: &mut Memory, now: Instant) -> Result<Standing, InstallError> {
    // The program first: an entry without it would keep every pod from starting.
    program::place(&places.plugin, &places.bin_dir, &mut memory.program)?;
    let folder = Folder::read(&places.conf_dir, &places.host_root)?;
    if let Some(standing) = being_rewritten(&folder, memory) {
        return Ok(standing);
    }
    let (in_force, problem) = in_force(&folder, places);
    let Some(in_force) = in_force else {
        if folder.others.is_empty() {
            // Nothing that it could be made of: it would give pods a network that is gone.
            remove::entries(places, &folder).map_err(|mut errors| errors.remove(0))?;
            memory.source = None;
        }
        return Ok(Standing {
            configuration: None,
            original: None,
            problem: Some(problem.unwrap_or_else(|| nothing_there(places))),
        });
    };
    let place = match place(&folder, in_force, places) {
        Ok(place) => place,
        Err(problem) => return Ok(Standing::wrong(problem)),
    };
    if let Some(standing) = programs_missing(&place, &folder, places, memory, now)? {
        return Ok(standing);
    }
    let mut standing = match &place {
        Place::First(source) => own_list(&folder, source, false, places, memory, now)?,
        Place::Delegate { master, source } => {
            let standing = own_list(&folder, source, true, places, memory, now)?;
            if let Some(own) = &standing.configuration {
                delegate(master, own, places)?;
            }
            standing
        }
        Place::Within(source) => within(source, places)?,
    };
    if standing.is_installed() {
        tidy(&folder, &place, &standing, places, memory)?;
        standing.problem = problem;
    }
    memory.source = Some(place.source().path.clone());
    Ok(standing)
}

impl<'a> Place<'a> {
    fn source(&self) -> &'a Candidate {
        match self {
            Place::First(source) | Place::Delegate { source, .. } | Place::Within(source) => source,
        }
    }
}

/// The configuration that our list follows is there and does not parse: it is being written, or was damaged. Our list, which
/// is in force, stays as it is until it parses again or goes.
fn being_rewritten(folder: &Folder, memory: &Memory) -> Option<Standing> {
    let followed = memory.source.as_ref()?;
    let original = folder.others.iter().find(|other| other.path == *followed)?;
    let reason = original.text.as_ref().err()?;
    let own = folder.ours.first()?;
    Some(Standing {
        configuration: Some(own.clone()),
        original: Some(followed.clone()),
        problem: Some(format!(
            "{} is no CNI configuration: {reason}. {} stays as it was until it is one again",
            followed.display(),
            own.display()
        )),
    })
}

/// The configuration of another program that container runtimes take if there is none of ours, and what is wrong with those
/// before it.
fn in_force<'a>(folder: &'a Folder, places: &Places) -> (Option<&'a Candidate>, Option<String>) {
    let mut problem = None;
    let mut is_named = false;
    for other in &folder.others {
        match &other.text {
            Ok(text) => {
                let name = conflist::network(text);
                if places
                    .network
                    .as_ref()
                    .is_none_or(|wanted| name.as_ref() == Some(wanted))
                {
                    return (Some(other), problem);
                }
                is_named = true;
            }
            Err(reason) => {
                let file = other.path.display();
                problem.get_or_insert_with(|| {
                    format!(
                        "{file} is no CNI configuration: {reason}. containerd stops at it unless another comes first"
                    )
                });
            }
        }
    }
    if let (true, Some(network)) = (is_named, &places.network) {
        let folder = places.conf_dir.display();
        problem = Some(format!(
            "no CNI configuration in {folder} is for the network {network} (--cni-network)"
        ));
    }
    (None, problem)
}

fn nothing_there(places: &Places) -> String {
    let folder = places.conf_dir.display();
    let hint = layouts::configured(&places.host_root).map(|layout| {
        format!(
            "; the node has some in {} ({}): Helm's hostPaths.cniConf, or the volume cni-conf, may be meant to be that",
            layout.conf_dir, layout.name
        )
    });
    format!(
        "{folder} has no CNI configuration yet: waiting for the node's CNI to write one{}",
        hint.unwrap_or_default()
    )
}

fn place<'a>(folder: &'a Folder, in_force: &'a Candidate, places: &Places) -> Result<Place<'a>, String> {
    let Some(delegation) = in_force.delegation() else {
        return Ok(Place::First(in_force));
    };
    if let Delegation::File(path) = &delegation
        && !path
            .parent()
            .is_some_and(|parent| is_same_folder(parent, &places.conf_dir))
    {
        return Ok(Place::First(in_force));
    }
    let named = |other: &&Candidate| match &delegation {
        Delegation::File(path) => path.file_name().is_some_and(|name| name == other.name.as_str()),
        _ => false,
    };
    let mut eligible = folder.others.iter().filter(|other| other.is_eligible());
    let first = eligible.clone().next();
    let Some(source) = eligible.find(named).or(first) else {
        return Err(format!(
            "{} delegates to another CNI configuration of this folder, and there is none yet",
            in_force.path.display()
        ));
    };
    Ok(match delegation {
        Delegation::Own => Place::Within(source),
        _ => Place::Delegate {
            master: in_force,
            source,
        },
    })
}

/// The folder of configurations may be mounted elsewhere in the other program's container, such as `/host/etc/cni/net.d`.
fn is_same_folder(theirs: &Path, ours: &Path) -> bool {
    theirs.ends_with(ours.strip_prefix("/").unwrap_or(ours))
}

/// Whether the runtime looks for programs where we put ours: the others that the configuration names must be there.
fn programs_missing(
    place: &Place<'_>,
    folder: &Folder,
    places: &Places,
    memory: &mut Memory,
    now: Instant,
) -> Result<Option<Standing>, InstallError> {
    let source = place.source();
    let programs = conflist::programs(source.text(), source.is_list()).unwrap_or_default();
    let missing = layouts::missing(&places.bin_dir, &programs);
    if missing.is_empty() {
        memory.missing_since = None;
        return Ok(None);
    }
    let since = *memory.missing_since.get_or_insert(now);
    let hint = match layouts::holding(&places.host_root, &programs) {
        Some(layout) => format!("the node has them in {} ({})", layout.bin_dir, layout.name),
        None => "the container runtime's own configuration says where".to_owned(),
    };
    let problem = format!(
        "{} does not hold {}, which {} names: the container runtime looks elsewhere, and with an entry of ours no pod would \
         start. {hint}: Helm's hostPaths.cniBin, or the volume cni-bin, must be that folder",
        places.bin_dir.display(),
        missing.join(", "),
        source.path.display(),
    );
    let is_being_replaced = memory.source.as_ref() == Some(&source.path) && now.duration_since(since) < REPLACED;
    if let (true, Some(own)) = (is_being_replaced, folder.ours.first()) {
        return Ok(Some(Standing {
            configuration: Some(own.clone()),
            original: Some(source.path.clone()),
            problem: Some(problem),
        }));
    }
    remove::entries(places, folder).map_err(|mut errors| errors.remove(0))?;
    memory.source = None;
    Ok(Some(Standing::wrong(problem)))
}

/// Writes the list of ours if it is not as it must be.
fn own_list(
    folder: &Folder,
    source: &Candidate,
    is_beside: bool,
    places: &Places,
    memory: &mut Memory,
    now: Instant,
) -> Result<Standing, InstallError> {
    let path = places.conf_dir.join(folder.own_name(source, is_beside));
    let present = fs::read_to_string(&path).unwrap_or_default();
    let others = conflist::chained_by_others(&present, source.text(), source.is_list());
    let wanted = conflist::chained(source.text(), source.is_list(), &places.entry(), &others);
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(malformed) => {
            let file = source.path.display();
            return Ok(Standing::wrong(format!("{file} is no CNI configuration: {malformed}")));
        }
    };
    if !conflist::same(&present, &wanted) {
        if !memory.contest.may_write(&wanted, now) {
            return Ok(Standing::wrong(contested(&path, folder)));
        }
        let mode = files::mode_of(&source.path).unwrap_or(0o644);
        files::replace(&path, wanted.as_bytes(), mode).map_err(step("cannot write", &path))?;
        tracing::info!(file = %path.display(), of = %source.path.display(), "the CNI plug-in stands in a list of its own");
    }
    Ok(Standing {
        configuration: Some(path),
        original: Some(source.path.clone()),
        problem: None,
    })
}

fn contested(path: &Path, folder: &Folder) -> String {
    let file = path.display();
    match folder.put_aside.first() {
        Some(aside) => format!(
            "Cilium keeps putting {file} aside (as {}), because it is set to be the only CNI: set cni.exclusive=false in Cilium's \
             Helm values (cni-exclusive: \"false\" in the ConfigMap cilium-config). New pods start without waiting for the mesh \
             until then; trying again later",
            aside.display()
        ),
        None => format!(
            "another program on this node keeps removing or rewriting {file}: new pods start without waiting for the mesh; \
             trying again later"
        ),
    }
}

/// Puts the gate into what Multus delegates to.
fn delegate(master: &Candidate, own: &Path, places: &Places) -> Result<(), InstallError> {
    let own = own.file_name().unwrap_or_default().to_string_lossy();
    let path = &master.path;
    let edited = meta::with_gate(master.text(), &own, &places.entry());
    let edited = edited.map_err(|malformed| {
        let source = io::Error::new(io::ErrorKind::InvalidData, malformed);
        step("cannot find what is delegated to in", path)(source)
    })?;
    if let Some(edited) = edited {
        let text = master.text();
        files::exchange(path, text.as_bytes(), edited.as_bytes()).map_err(step("cannot write", path))?;
        tracing::info!(file = %path.display(), to = %own, "what it delegates to has the CNI plug-in");
    }
    Ok(())
}

/// Puts the entry into another program's list, where nothing else will do.
fn within(source: &Candidate, places: &Places) -> Result<Standing, InstallError> {
    let path = &source.path;
    if !source.is_list() {
        let file = path.display();
        return Ok(Standing::wrong(format!(
            "{file} is a single plug-in, to which no other can be chained"
        )));
    }
    let text = source.text();
    match conflist::with_entry(text, &places.entry()) {
        Ok(Some(wanted)) => {
            files::exchange(path, text.as_bytes(), wanted.as_bytes()).map_err(step("cannot write", path))?;
            tracing::info!(file = %path.display(), "the CNI plug-in stands in the node's CNI configuration");
        }
        Ok(None) => {}
        Err(malformed) => {
            let file = path.display();
            return Ok(Standing::wrong(format!("{file} is no CNI configuration: {malformed}")));
        }
    }
    Ok(Standing {
        configuration: Some(path.clone()),
        original: None,
        problem: None,
    })
}

/// Takes away what earlier looks and versions left elsewhere; after the list in force is written, so that there is always one.
fn tidy(
    folder: &Folder,
    place: &Place<'_>,
    standing: &Standing,
    places: &Places,
    memory: &mut Memory,
) -> Result<(), InstallError> {
    for path in folder
        .ours
        .iter()
        .filter(|path| Some(*path) != standing.configuration.as_ref())
    {
        fs::remove_file(path).map_err(step("cannot delete", path))?;
        tracing::info!(file = %path.display(), "a list of ours that is not in force any more is deleted");
    }
    let master = match place {
        Place::Delegate { master, .. } => Some(&master.path),
        _ => None,
    };
    for other in &folder.others {
        let is_in_use = Some(&other.path) == standing.configuration.as_ref() || Some(&other.path) == master;
        if !is_in_use
            && other.text().contains(culvert_cni::config::PLUGIN_TYPE)
            && memory.migrated.insert(other.path.clone())
        {
            remove::entry_of(other, folder, &places.host_root)?;
        }
    }
    Ok(())
}
