//! The proxy's own resolvers: by the command line, or by `/etc/resolv.conf`, which the monitor reads for the worker.

use std::{
    fs::File,
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
    path::Path,
};

use culvert_dns::forward::RESOLVER_PORT;

/// Where stub resolvers look.
pub(crate) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// A longer file is not read to its end.
const LONGEST: u64 = 64 << 10;

/// As many as stub resolvers ask.
const MOST: usize = 3;

/// One resolver, as an argument: an address, with a port if that is another than 53.
pub(crate) fn resolver(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, RESOLVER_PORT));
    let parsed = address.or_else(|_| text.parse::<SocketAddr>());
    parsed.map_err(|_| format!("`{text}` is not an address, or an address and a port"))
}

/// The resolvers of a file in the form of `resolv.conf`.
///
/// # Errors
/// Where it cannot be read.
pub(crate) fn of_file(path: &Path) -> io::Result<Vec<String>> {
    let mut text = Vec::new();
    File::open(path)?.take(LONGEST).read_to_end(&mut text)?;
    Ok(of_text(&String::from_utf8_lossy(&text)))
}

/// Those that can be asked from inside a pod: the loopback of the proxy's container is not the pod's.
fn of_text(text: &str) -> Vec<String> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        let address: IpAddr = address.parse().ok()?;
        let is_useful = !address.is_loopback() && !address.is_unspecified() && !address.is_multicast();
        is_useful.then(|| address.to_string())
    };
    text.lines().filter_map(address).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_resolvers_of_a_file_are_those_that_a_pod_can_ask() {
        let text = "# nameserver 198.18.0.1\nsearch a b\nnameserver 127.0.0.53\n nameserver\t198.18.0.2 # first\nnameserver\n\
                    nameserver fe80::1%eth0\nnameserver nonsense\nnameserver fd00::53\nnameserver 198.18.0.3\nnameserver 198.18.0.4\n";
        assert_eq!(of_text(text), ["198.18.0.2", "fd00::53", "198.18.0.3"]);
        assert_eq!(of_text(""), [""; 0]);
        assert!(of_file(Path::new("/nowhere/resolv.conf")).is_err());
    }

    #[test]
    fn an_argument_is_an_address_with_or_without_a_port() {
        assert_eq!(resolver("198.18.0.2"), Ok(([198, 18, 0, 2], 53).into()));
        assert_eq!(resolver("198.18.0.2:5353"), Ok(([198, 18, 0, 2], 5353).into()));
        assert_eq!(resolver("fd00::53").unwrap().to_string(), "[fd00::53]:53");
        assert_eq!(resolver("[fd00::53]:54").unwrap().to_string(), "[fd00::53]:54");
        for text in ["", "dns.example.com", "198.18.0.2:", "198.18.0.256", "198.18.0.2:65536"] {
            assert!(resolver(text).unwrap_err().contains(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_file_is_read(text in any::<String>()) {
            prop_assert!(of_text(&text).len() <= MOST);
        }
    }
}
