//! A running controller.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take that should take a moment.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A controller process on loopback, with directories of its own. Killed when dropped.
pub(crate) struct Controller {
    pub(crate) config: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) xds: SocketAddr,
    pub(crate) monitoring: SocketAddr,
    pub(crate) readiness: SocketAddr,
    child: Child,
    _dirs: Option<(TempDir, TempDir)>,
}

/// The program, not yet started.
pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_culvert-controller"))
}

impl Controller {
    /// Starts one whose configuration is the file `text`.
    pub(crate) fn start(text: &str) -> Self {
        let (config, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        fs::write(config.path().join("all.yaml"), text).unwrap();
        let mut started = Self::start_in(config.path(), state.path(), &[]);
        started._dirs = Some((config, state));
        started
    }

    /// Starts one in directories of the caller's.
    pub(crate) fn start_in(config: &Path, state: &Path, flags: &[&str]) -> Self {
        let mut command = program();
        command
            .args([
                "--config-dir".as_ref(),
                config.as_os_str(),
                "--state-dir".as_ref(),
                state.as_os_str(),
            ])
            .args(flags);
        Self::launch(command, config, state)
    }

    /// Starts one on a cluster.
    pub(crate) fn start_on(kubeconfig: &Path, flags: &[&str]) -> Self {
        let mut command = program();
        command.arg("--kubeconfig").arg(kubeconfig).args(flags);
        Self::launch(command, Path::new(""), Path::new(""))
    }

    fn launch(mut command: Command, config: &Path, state: &Path) -> Self {
        let mut child = command
            .args([
                "--xds-listen",
                "127.0.0.1:0",
                "--monitoring-listen",
                "127.0.0.1:0",
                "--log-format",
                "json",
            ])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = Vec::new();
        let (xds, monitoring, readiness) = loop {
            let line = lines
                .next()
                .unwrap_or_else(|| panic!("it did not start: {log:#?}"))
                .unwrap();
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            if value["message"] == "serving" {
                let address = |key: &str| value[key].as_str().unwrap().parse().unwrap();
                break (address("xds"), address("monitoring"), address("readiness"));
            }
            log.push(line);
        };
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        Self {
            config: config.into(),
            state: state.into(),
            xds,
            monitoring,
            readiness,
            child,
            _dirs: None,
        }
    }

    /// Writes the configuration anew.
    pub(crate) fn write(&self, text: &str) {
        fs::write(self.config.join("all.yaml"), text).unwrap();
    }

    /// The root certificate, PEM.
    pub(crate) fn root(&self) -> Vec<u8> {
        fs::read(self.state.join("ca/root.pem")).unwrap()
    }

    /// A node's token.
    pub(crate) fn token(&self, node: &str) -> String {
        let made = program()
            .arg("node-token")
            .arg(node)
            .arg("--state-dir")
            .arg(&self.state)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        fs::read_to_string(String::from_utf8(made.stdout).unwrap().trim())
            .unwrap()
            .trim()
            .to_owned()
    }

    /// The body of a page.
    pub(crate) fn get(&self, path: &str) -> String {
        page(self.monitoring, path)
    }

    /// A page of JSON, once it is as it should be.
    pub(crate) async fn until(&self, path: &str, what: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let value = serde_json::from_str(&self.get(path)).unwrap();
            if what(&value) {
                return value;
            }
            assert!(begin.elapsed() < PATIENCE, "{path} stays {value:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The value of a metric, given its name and labels as in the text format; 0 if it is not there.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics");
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        found.unwrap_or(0.0)
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The body of a page.
pub(crate) fn page(monitoring: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(monitoring).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
