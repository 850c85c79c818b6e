//! DNS as applications have it: the stub resolvers of glibc, musl, Java and Go, the `nslookup` of BIND and of BusyBox, and dig, with
//! dnsmasq as the pod's resolver.
//!
//! The `nslookup` of images such as Alpine's is BusyBox's, which makes its queries itself and leaves to the C library only how
//! `/etc/resolv.conf` is read. Debian has no BusyBox that is built with musl: here it is the one of glibc, and musl's own resolver is
//! that of the C program below.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{MeshOptions, Pod, PodSpec, Process, ServiceSpec, wait_until};
use culvert_tests::{PATIENCE, Town, dns, lab, programs, town::PORT};
use std::{fs, net::IpAddr, path::Path, process::Command};

/// What dnsmasq knows: one name with an address of each family, and one with many, which do not fit into a datagram.
fn resolver(pod: &Pod) -> Process {
    let mut arguments = vec![
        "--edns-packet-max=4096".to_owned(),
        "--host-record=db.example.test,198.18.9.1,fd00:c01e:9::1".to_owned(),
        // What else is in there does not exist. Elsewhere dnsmasq refuses, which musl ignores.
        "--local=/cluster.local/".to_owned(),
        "--local=/example.test/".to_owned(),
    ];
    arguments.extend((1..=200).map(|last| format!("--host-record=many.example.test,198.18.10.{last}")));
    dns::dnsmasq(pod, &arguments, "db.example.test")
}

/// The same command, for which /etc/resolv.conf is this file.
fn with_resolv_conf(file: &Path, command: &Command) -> Command {
    let mut inside = Command::new("unshare");
    inside
        .args([
            "--mount",
            "--",
            "sh",
            "-c",
            "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"",
            "sh",
        ])
        .arg(file)
        .arg(command.get_program())
        .args(command.get_args());
    inside
}

const MUSL: &str = r#"
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
int main(int count, char **names) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int error = getaddrinfo(names[1], NULL, &hints, &found);
    if (error) { printf("error %s\n", gai_strerror(error)); return 1; }
    for (; found; found = found->ai_next) {
        char text[64];
        void *address = found->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)found->ai_addr)->sin_addr
                                                    : (void *)&((struct sockaddr_in6 *)found->ai_addr)->sin6_addr;
        puts(inet_ntop(found->ai_family, address, text, sizeof text));
    }
}
"#;

const JAVA: &str = r#"
public class Lookup {
    public static void main(String[] names) throws Exception {
        for (var address : java.net.InetAddress.getAllByName(names[0])) System.out.println(address.getHostAddress());
    }
}
"#;

#[test]
fn stub_resolvers_find_what_the_mesh_knows_and_what_their_own_resolver_knows() {
    let lab = lab("real_dns");
    let pod = lab.pod(PodSpec::new("outside", "resolver").on(2)).unwrap();
    let _dnsmasq = resolver(&pod);
    let web = lab
        .service(ServiceSpec::new("town", "web").port(PORT).selector("app", "server"))
        .unwrap();
    let town = Town::with(
        &lab,
        MeshOptions {
            log: Some("info,culvert_ztunnel=debug".to_owned()),
            ..MeshOptions::default()
        },
    );
    let resolv_conf = lab.dir().join("resolv.conf");
    let musl = lab.dir().join("lookup");
    fs::write(lab.dir().join("lookup.c"), MUSL).unwrap();
    fs::write(lab.dir().join("Lookup.java"), JAVA).unwrap();
    programs::run(
        programs::command("/usr/bin/musl-gcc", "musl-tools")
            .arg("-o")
            .arg(&musl)
            .arg(lab.dir().join("lookup.c")),
    );
    let mut java = programs::command("/usr/bin/java", "openjdk-17-jdk-headless");
    java.arg(lab.dir().join("Lookup.java"));
    let mut glibc = Command::new("getent");
    glibc.arg("ahosts");
    let mut busybox = programs::command("/usr/bin/busybox", "busybox-static");
    busybox.arg("nslookup");
    let bind = programs::command("/usr/bin/nslookup", "bind9-dnsutils");
    let clients = [
        ("glibc", glibc),
        ("musl", Command::new(&musl)),
        ("java", java),
        ("go", go()),
        ("nslookup of bind", bind),
        ("nslookup of busybox", busybox),
    ];
    // A pod for each resolver: Go's connects a socket to port 53 of every address that it has found, to sort them (RFC 6724), and by that the pod
    // has asked three resolvers.
    for (asking, server) in [
        (&town.client, pod.ip4().to_string()),
        (&town.neighbour, pod.ip6().to_string()),
    ] {
        let text = format!(
            "nameserver {server}\nsearch town.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
        );
        fs::write(&resolv_conf, text).unwrap();
        for (name, expected) in [
            ("web", [web.ip4().to_string(), web.ip6().to_string()]),
            (
                "web.town.svc.cluster.local",
                [web.ip4().to_string(), web.ip6().to_string()],
            ),
            (
                "db.example.test",
                ["198.18.9.1".to_owned(), "fd00:c01e:9::1".to_owned()],
            ),
        ] {
            for (which, client) in &clients {
                let mut said = String::new();
                // The proxy may not have been told of the Service yet, and a query goes past one that had no processor for a second.
                let waited = wait_until("all addresses are said", PATIENCE, || {
                    let mut command = with_resolv_conf(&resolv_conf, client);
                    let output = asking.output(command.arg(name)).unwrap();
                    said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
                    expected.iter().all(|address| says(&said, address))
                });
                waited.unwrap_or_else(|error| {
                    panic!(
                        "{which}, {server}, {name}: {error:#}: {expected:?} not in {said:?}\n{}",
                        lab.logs(30)
                    )
                });
            }
        }
    }
    // Truncated over UDP, and then asked for over TCP.
    for (which, client) in clients
        .iter()
        .filter(|(which, _)| ["go", "nslookup of bind"].contains(which))
    {
        let mut command = with_resolv_conf(&resolv_conf, client);
        let output = town.neighbour.output(command.arg("many.example.test")).unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let found = said.lines().filter(|line| line.contains("198.18.10.")).count();
        assert_eq!(found, 200, "{which}: {said}");
    }
    let mut dig = programs::command("/usr/bin/dig", "bind9-dnsutils");
    dig.args([
        "+short",
        "+bufsize=512",
        &format!("@{}", pod.ip4()),
        "many.example.test",
    ]);
    assert_eq!(programs::run_in(&town.client, &mut dig).lines().count(), 200);
    let mut dig = programs::command("/usr/bin/dig", "bind9-dnsutils");
    dig.args([
        "+tcp",
        "+short",
        &format!("@{}", pod.ip6()),
        "AAAA",
        "web.town.svc.cluster.local",
    ]);
    assert_eq!(programs::run_in(&town.client, &mut dig).trim(), web.ip6().to_string());
}

/// Whether a line begins with this address, in whatever way it is written; nslookup puts a word before it.
fn says(said: &str, address: &str) -> bool {
    let wanted: IpAddr = address.parse().unwrap();
    let first = |line: &str| {
        let line = line.strip_prefix("Address:").unwrap_or(line);
        line.split_whitespace().next()?.parse::<IpAddr>().ok()
    };
    said.lines().any(|line| first(line) == Some(wanted))
}

/// A program that asks as every Go program without cgo does.
fn go() -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/cluster/bin/lookup");
    assert!(path.exists(), "no {}: `cargo xtask test` makes it", path.display());
    Command::new(path)
}
