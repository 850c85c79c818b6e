//! Programs of others, as Debian packages them, run in pods: servers with data of their own, and clients that are told what to
//! do line by line.

use crate::patience::PATIENCE;
use culvert_lab::{Lab, Pod, Process};
use std::{
    fs::{self, File, Permissions},
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

/// The user that servers run as: some refuse root. `nobody`, which every Debian system has.
const USER: u32 = 65534;

/// A program by its path, and the Debian package that has it. A test that lacks it fails, and says what to install.
pub fn command(path: &str, package: &str) -> Command {
    assert!(
        Path::new(path).exists(),
        "no {path}: `cargo xtask test` installs it as root; by hand: apt-get install --no-install-recommends {package}"
    );
    Command::new(path)
}

/// The same, to be run without privilege.
pub fn unprivileged(path: &str, package: &str) -> Command {
    let program = command(path, package);
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={USER}"))
        .arg(format!("--regid={USER}"))
        .args(["--clear-groups", "--"])
        .arg(program.get_program());
    command
}

/// A new folder in the lab's, which goes with the lab, for a program of [`unprivileged`].
pub fn folder(lab: &Lab, name: &str) -> PathBuf {
    let folder = lab.dir().join(name);
    fs::create_dir(&folder).unwrap();
    give(&folder);
    folder
}

/// A new file that only a program of [`unprivileged`] may read.
pub fn file(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    give(&path);
    path
}

fn give(path: &Path) {
    std::os::unix::fs::chown(path, Some(USER), Some(USER)).unwrap();
}

/// Runs a program to its end, on the test's own side, and returns what it printed; a failure is the test's.
pub fn run(command: &mut Command) -> String {
    let what = format!("{command:?}");
    let output = command.output().unwrap_or_else(|error| panic!("{what}: {error}"));
    printed(&what, &output)
}

/// Runs a program to its end in a pod and returns what it printed; a failure is the test's.
pub fn run_in(pod: &Pod, command: &mut Command) -> String {
    let what = format!("{command:?}");
    let output = pod.output(command).unwrap_or_else(|error| panic!("{what}: {error:#}"));
    printed(&what, &output)
}

fn printed(what: &str, output: &std::process::Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{what}: {}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Starts a server in a pod and waits until it accepts connections there.
pub fn serve(pod: &Pod, name: &str, command: &mut Command, port: u16) -> Process {
    let mut process = pod
        .spawn(name, command)
        .unwrap_or_else(|error| panic!("{name}: {error:#}"));
    let at = SocketAddr::from((pod.ip4(), port));
    let waited = culvert_lab::wait_until(&format!("{name} accepts connections"), PATIENCE, || {
        assert!(process.is_running(), "{name} ended:\n{}", process.log_tail(30));
        pod.connect(at, PATIENCE).is_ok()
    });
    waited.unwrap_or_else(|error| panic!("{error:#}:\n{}", process.log_tail(30)));
    process
}

/// A client program in a pod with one connection, which reads from its standard input what to do next.
pub struct Dialogue {
    process: Process,
    input: File,
}

impl Dialogue {
    /// Starts it. The command must not have a standard input of its own.
    pub fn start(lab: &Lab, pod: &Pod, command: &Command) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("dialogue-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let fifo = lab.dir().join(&name);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        // For both, so that opening it waits for nobody and the program never comes to the end.
        let input = File::options().read(true).write(true).open(&fifo).unwrap();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "input=$1; shift; exec \"$@\" <\"$input\"", "sh"])
            .arg(&fifo)
            .arg(command.get_program())
            .args(command.get_args())
            .envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let process = pod
            .spawn(&name, &mut shell)
            .unwrap_or_else(|error| panic!("{name}: {error:#}"));
        Self { process, input }
    }

    /// Tells it what to do.
    pub fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// Waits until it has printed this.
    pub fn wait_for(&mut self, text: &str) {
        let waited = self.process.wait_for_log(text, PATIENCE);
        waited.unwrap_or_else(|error| panic!("{error:#}:\n{}", self.process.log_tail(30)));
    }

    /// All that it has printed so far.
    pub fn printed(&self) -> String {
        self.process.log()
    }

    /// The program.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// Text that does not compress and repeats nowhere: lines of 64 characters, which any program takes as they are.
pub fn text(lines: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut text = String::with_capacity(lines * 65);
    for _ in 0..lines {
        for _ in 0..4 {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push_str(&format!("{state:016x}"));
        }
        text.push('\n');
    }
    text
}
