//! The resolvers: by the command line, or by `/etc/resolv.conf`.

use std::{
    fs::File,
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
    path::Path,
};

use culvert_dns::forward::RESOLVER_PORT;

/// Where stub resolvers look.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// A longer file is not read to its end.
const LONGEST: u64 = 64 << 10;

/// As many as stub resolvers ask.
const MOST: usize = 3;

/// One resolver, as an argument: an address, with a port if that is another than 53.
///
/// # Errors
/// Where it is none.
pub fn resolver(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, RESOLVER_PORT));
    let parsed = address.or_else(|_| text.parse::<SocketAddr>());
    parsed.map_err(|_| format!("`{text}` is not an address, or an address and a port"))
}

/// The resolvers of a file in the form of `resolv.conf`.
///
/// # Errors
/// Where it cannot be read.
pub fn of_file(path: &Path) -> io::Result<Vec<SocketAddr>> {
    let mut text = Vec::new();
    File::open(path)?.take(LONGEST).read_to_end(&mut text)?;
    Ok(of_text(&String::from_utf8_lossy(&text)))
}

fn of_text(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        resolver(address).ok()
    };
    text.lines().filter_map(address).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_nameservers_of_a_file_are_asked() {
        let text = "search a.example\nnameserver 192.0.2.1\n# nameserver 192.0.2.9\nnameserver ::1\nnameserver x\n\
                    nameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let found: Vec<String> = of_text(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[::1]:53", "192.0.2.2:53"]);
    }
}
