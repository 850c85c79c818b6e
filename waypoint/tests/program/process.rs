//! The program as a process of its own.

use std::{
    net::IpAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    controller::Controller,
    mesh::{CertificateAuthority, DEADLINE, fresh_address},
};

pub(crate) struct Process {
    child: Child,
    pub(crate) address: IpAddr,
    _files: tempfile::TempDir,
}

impl Process {
    pub(crate) fn start(authority: &CertificateAuthority, controller: &Controller) -> Self {
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("token"), "a-token").unwrap();
        std::fs::write(files.path().join("ca.pem"), authority.root_pem()).unwrap();
        let address = fresh_address();
        let child = Command::new(env!("CARGO_BIN_EXE_culvert-waypoint"))
            .env_clear()
            .args(["--gateway", "wp", "--namespace", "shop", "--pod-name", "wp-0"])
            .args(["--service-account", "waypoint", "--threads", "2"])
            .args(["--controller", &format!("https://localhost:{}", controller.port)])
            .arg("--controller-ca")
            .arg(files.path().join("ca.pem"))
            .arg("--token-file")
            .arg(files.path().join("token"))
            .args(["--listen", &format!("{address}:15008")])
            .args(["--admin-listen", &format!("{address}:15000")])
            .args(["--metrics-listen", &format!("{address}:15020")])
            .args(["--readiness-listen", &format!("{address}:15021")])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            address,
            _files: files,
        }
    }

    /// A page, once its port is there.
    pub(crate) async fn page(&self, port: u16, path: &str) -> String {
        let read = async {
            let mut socket = loop {
                match TcpStream::connect((self.address, port)).await {
                    Ok(socket) => break socket,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            };
            let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            answer
        };
        tokio::time::timeout(DEADLINE, read).await.unwrap()
    }

    pub(crate) async fn until_ready(&self) {
        let mut last = String::new();
        let ready = async {
            loop {
                last = self.page(15021, "/healthz/ready").await;
                if last.starts_with("HTTP/1.1 200") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, ready).await.is_ok();
        assert!(in_time, "not ready: {last}");
    }

    pub(crate) fn terminate(&self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits for its end: whether it was a good one.
    pub(crate) async fn ended(&mut self) -> bool {
        let wait = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.success();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.expect("it ends in time")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
