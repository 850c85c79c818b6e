//! Mail by SMTP: the server speaks first, and at every turn one side waits for the other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_tests::{Town, lab, programs};
use std::fs;

const PORT: u16 = 2525;

/// 64 characters each, and the end of the line: 1 MiB and a little.
const LINES: usize = 16_500;

#[test]
fn a_mail_whose_server_greets_first_is_delivered_as_it_was_written() {
    let lab = lab("real_mail");
    let town = Town::meshed(&lab);
    let folder = programs::folder(&lab, "mail");
    // Debian's own Python, which is the one that knows Debian's packages.
    let mut server = programs::unprivileged("/usr/bin/python3", "python3-aiosmtpd");
    server
        .args(["-m", "aiosmtpd", "--nosetuid", "--listen", &format!("0.0.0.0:{PORT}")])
        .args(["--class", "aiosmtpd.handlers.Mailbox"])
        .arg(folder.join("box"))
        .current_dir(&folder);
    let _server = programs::serve(&town.server, "smtp", &mut server, PORT);

    let body = programs::text(LINES);
    let letter = lab.dir().join("letter.txt");
    fs::write(
        &letter,
        format!("Subject: a long letter\r\n\r\n{}", body.replace('\n', "\r\n")),
    )
    .unwrap();
    let mut client = programs::command("/usr/bin/curl", "curl");
    client
        .args(["--silent", "--show-error", "--max-time", "30"])
        .args([
            "--mail-from",
            "here@client.example",
            "--mail-rcpt",
            "there@server.example",
        ])
        .arg("--upload-file")
        .arg(&letter)
        .arg(format!("smtp://{}:{PORT}", town.server.ip4()));
    town.in_the_tunnel(|| programs::run_in(&town.client, &mut client));

    let delivered: Vec<_> = fs::read_dir(folder.join("box/new")).unwrap().collect();
    assert_eq!(delivered.len(), 1, "{delivered:?}");
    let delivered = fs::read_to_string(delivered[0].as_ref().unwrap().path()).unwrap();
    let delivered = delivered.replace("\r\n", "\n");
    let (head, delivered_body) = delivered.split_once("\n\n").unwrap();
    assert!(
        head.contains("Subject: a long letter") && head.contains("X-Peer"),
        "{head}"
    );
    assert!(
        head.contains(&town.client.ip4().to_string()),
        "the server sees its client's own address: {head}"
    );
    assert!(
        delivered_body == body,
        "{} bytes arrived, changed",
        delivered_body.len()
    );
}
