//! Which resolvers a proxy asks itself: by the command line, or by a file in the form of `resolv.conf`.

use std::{
    io::{self, Read},
    net::{IpAddr, SocketAddr},
};

use crate::forward::RESOLVER_PORT;

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

/// The first three resolvers of a file that can be asked: `can_be_asked` says of an address whether it can from where questions will come.
/// What is no address, or one with a zone, is passed over.
///
/// # Errors
/// Where it cannot be read.
pub fn of_file(file: impl Read, can_be_asked: impl Fn(IpAddr) -> bool) -> io::Result<Vec<IpAddr>> {
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    Ok(of_text(&String::from_utf8_lossy(&text), can_be_asked))
}

fn of_text(text: &str, can_be_asked: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        address.parse().ok().filter(|address| can_be_asked(*address))
    };
    text.lines().filter_map(address).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "# nameserver 198.18.0.1\nsearch a b\nnameserver 127.0.0.53\n nameserver\t198.18.0.2 # first\nnameserver\n\
                        nameserver fe80::1%eth0\nnameserver nonsense\nnameserver fd00::53\nnameserver 198.18.0.3\nnameserver 198.18.0.4\n";

    fn found(can_be_asked: impl Fn(IpAddr) -> bool) -> Vec<String> {
        let found = of_file(FILE.as_bytes(), can_be_asked).unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_three_nameservers_of_a_file_that_can_be_asked_are() {
        assert_eq!(found(|_| true), ["127.0.0.53", "198.18.0.2", "fd00::53"]);
        assert_eq!(
            found(|address| !address.is_loopback()),
            ["198.18.0.2", "fd00::53", "198.18.0.3"]
        );
        assert!(of_file(&b""[..], |_| true).unwrap().is_empty());
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
            prop_assert!(of_text(&text, |_| true).len() <= MOST);
        }
    }
}
