//! MariaDB and PostgreSQL, as Debian packages them: a server that speaks first, TLS inside of ours, connections that are kept.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Lab, Pod, Process};
use culvert_tests::{Town, authority::Authority, lab, programs, programs::Dialogue};
use std::{fs, path::Path, process::Command};

/// 64 characters each, and the end of the line: 4 MiB and a little.
const LINES: usize = 65_000;

const MARIADB: u16 = 3306;

/// The server in the pod. Only its own data folder is used, and none of the machine's settings.
fn mariadb_server(lab: &Lab, pod: &Pod) -> Process {
    let data = programs::folder(lab, "mariadb");
    let small = [
        "--innodb-log-file-size=4M",
        "--innodb-data-file-path=ibdata1:5M:autoextend",
    ];
    let mut install = programs::command("/usr/bin/mariadb-install-db", "mariadb-server-core");
    install
        .args([
            "--no-defaults",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
        ])
        .args(["--user=nobody", "--datadir"])
        .arg(&data)
        .args(small);
    programs::run(&mut install);
    // Strangers may come in as root: nobody else is in this network.
    let init = "CREATE USER root@'%';\nGRANT ALL ON *.* TO root@'%';\n";
    let init = programs::file(&data, "init.sql", init.as_bytes());
    let mut server = programs::unprivileged("/usr/sbin/mariadbd", "mariadb-server-core");
    server
        .args(["--no-defaults", "--bind-address=*", "--skip-name-resolve", "--datadir"])
        .arg(&data)
        .arg("--socket")
        .arg(data.join("socket"))
        .arg(format!("--port={MARIADB}"))
        .arg(format!("--init-file={}", init.display()))
        .args(small);
    programs::serve(pod, "mariadbd", &mut server, MARIADB)
}

/// The client, which prints what it is answered at once and has no other connection to fall back to.
fn mariadb(server: &Pod) -> Command {
    let mut client = programs::command("/usr/bin/mariadb", "mariadb-client-core");
    client
        .args([
            "--no-defaults",
            "--batch",
            "--skip-column-names",
            "--unbuffered",
            "--skip-reconnect",
        ])
        .args(["--user=root", "--max-allowed-packet=16M"])
        .arg(format!("--host={}", server.ip4()))
        .arg(format!("--port={MARIADB}"));
    client
}

#[test]
fn mariadb_whose_server_speaks_first_keeps_every_byte_and_its_connections_over_an_agents_restart() {
    let lab = lab("real_maria");
    let mut town = Town::meshed(&lab);
    let _server = mariadb_server(&lab, &town.server);
    let text = programs::text(LINES);
    let insert = lab.dir().join("insert.sql");
    fs::write(
        &insert,
        format!("CREATE DATABASE shop; CREATE TABLE shop.t (v LONGTEXT); INSERT INTO shop.t VALUES ('{text}');"),
    )
    .unwrap();
    let mut kept = town.in_the_tunnel(|| {
        let source = format!("source {}", insert.display());
        programs::run_in(&town.client, mariadb(&town.server).args(["-e", &source]));
        let back = programs::run_in(
            &town.client,
            mariadb(&town.server).args(["--raw", "-e", "SELECT v FROM shop.t"]),
        );
        assert!(
            back.trim_end() == text.trim_end(),
            "{} bytes came back changed",
            back.len()
        );

        let mut kept = Dialogue::start(&lab, &town.client, &mariadb(&town.server));
        kept.say("SET @mine = 41; SELECT 'before', CONNECTION_ID(), USER();");
        kept.wait_for("before\t");
        kept
    });
    // The server sees its client's own address.
    assert!(
        kept.printed().contains(&format!("root@{}", town.client.ip4())),
        "{}",
        kept.printed()
    );
    for node in [1, 2] {
        town.mesh.restart_agent(node).unwrap();
    }
    town.in_the_tunnel(|| {
        // What belongs to the session is known on the same connection alone.
        kept.say("SELECT 'after', @mine + 1, LENGTH(v) FROM shop.t;");
        kept.wait_for(&format!("after\t42\t{}", text.len()));
    });
}

const POSTGRES: u16 = 5432;

/// The folder of version 15's programs, or of another's: Debian has one version in each release.
fn postgres_programs() -> String {
    let versions = fs::read_dir("/usr/lib/postgresql").ok();
    let found = versions
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"));
    let found = found.filter(|folder| folder.join("postgres").exists()).max();
    found.map_or_else(
        || "/usr/lib/postgresql/bin".to_owned(),
        |folder| folder.display().to_string(),
    )
}

/// The server in the pod, with a certificate, and for connections with TLS alone. The file with the root is returned, too.
fn postgres_server(lab: &Lab, pod: &Pod) -> (Process, std::path::PathBuf) {
    let folder = programs::folder(lab, "postgres");
    let data = folder.join("data");
    let programs_folder = postgres_programs();
    let mut init = programs::unprivileged(&format!("{programs_folder}/initdb"), "postgresql");
    init.args([
        "--no-sync",
        "--no-locale",
        "--encoding=UTF8",
        "--auth=trust",
        "--username=postgres",
    ])
    .arg("--pgdata")
    .arg(&data)
    .current_dir(&folder);
    programs::run(&mut init);
    let [certificate, key, root] = Authority::stranger().server(pod.ip4().into());
    programs::file(&data, "server.crt", certificate.as_bytes());
    programs::file(&data, "server.key", key.as_bytes());
    programs::file(&data, "pg_hba.conf", b"hostssl all all all trust\n");
    let root_file = lab.dir().join("postgres-root.pem");
    fs::write(&root_file, root).unwrap();
    let mut server = programs::unprivileged(&format!("{programs_folder}/postgres"), "postgresql");
    server
        .arg("-D")
        .arg(&data)
        .current_dir(&folder)
        .args(["-c", "listen_addresses=*", "-c", "ssl=on", "-c", "fsync=off"])
        .arg("-c")
        .arg(format!("unix_socket_directories={}", folder.display()))
        .args(["-p", &POSTGRES.to_string()]);
    (programs::serve(pod, "postgres", &mut server, POSTGRES), root_file)
}

/// The client, which believes this root and nobody else.
fn psql(server: &Pod, root: &Path) -> Command {
    let mut client = programs::command(&format!("{}/psql", postgres_programs()), "postgresql");
    client
        .args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=0",
        ])
        .arg("--dbname")
        .arg(format!(
            "host={} port={POSTGRES} user=postgres dbname=postgres sslmode=verify-full sslrootcert={}",
            server.ip4(),
            root.display()
        ));
    client
}

#[test]
fn postgresql_with_its_own_tls_keeps_every_byte_its_connections_and_its_cancel_requests() {
    let lab = lab("real_pg");
    let mut town = Town::meshed(&lab);
    let (_server, root) = postgres_server(&lab, &town.server);
    let text = programs::text(LINES);
    let (there, back) = (lab.dir().join("there.txt"), lab.dir().join("back.txt"));
    fs::write(&there, &text).unwrap();
    let mut kept = town.in_the_tunnel(|| {
        let copy = [
            "CREATE TABLE t (n serial, v text)".to_owned(),
            format!("\\copy t (v) FROM '{}'", there.display()),
            format!("\\copy (SELECT v FROM t ORDER BY n) TO '{}'", back.display()),
        ];
        let commands = copy.iter().flat_map(|command| ["--command", command]);
        programs::run_in(&town.client, psql(&town.server, &root).args(commands));
        assert!(fs::read_to_string(&back).unwrap() == text, "the table came back changed");

        let mut kept = Dialogue::start(&lab, &town.client, &psql(&town.server, &root));
        kept.say("CREATE TEMPORARY TABLE mine AS SELECT 42 AS answer;");
        kept.say("SELECT 'ssl', ssl, client_addr FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE pid = pg_backend_pid();");
        kept.wait_for(&format!("ssl|t|{}", town.client.ip4()));
        kept
    });
    for node in [1, 2] {
        town.mesh.restart_agent(node).unwrap();
    }
    town.in_the_tunnel(|| {
        // What is temporary is known on the same connection alone.
        kept.say("SELECT 'after', answer FROM mine;");
        kept.wait_for("after|42");

        // A psql that reads a script ends when it is interrupted.
        let mut cancelled = Dialogue::start(&lab, &town.client, &psql(&town.server, &root));
        cancelled.say("SELECT 'asleep'; SELECT pg_sleep(600);");
        cancelled.wait_for("asleep");
        // It asks on a connection of its own, which is in clear by its protocol and in the tunnel by ours.
        cancelled.process().signal(libc::SIGINT).unwrap();
        cancelled.wait_for("canceling statement due to user request");
    });
}
