//! Bytes on the link between the nodes.

use anyhow::{Context, Result};
use culvert_lab::Node;
use std::fs;

/// The link's name on both nodes.
const LINK: &str = "wire";

/// Bytes that crossed it so far, both ways, with the headers of the packets that the kernel hands to it, which are up to 64 KiB long.
pub(super) fn bytes(node: &Node) -> Result<u64> {
    // Of the thread, because that is what is in the node's namespace.
    let text = node.run(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
    parse(&text).with_context(|| format!("no link {LINK} on {}", node.name()))
}

/// proc_net(5): the first column received is bytes, and so is the first one sent, which is the ninth.
fn parse(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, counts) = lines.find(|(name, _)| name.trim() == LINK)?;
    let counts: Vec<u64> = counts
        .split_whitespace()
        .map_while(|count| count.parse().ok())
        .collect();
    Some(counts.first()? + counts.get(8)?)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn bytes_both_ways_are_those_of_the_link_alone() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets\n    lo: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n  wire: 100 2 0 0 0 0 0 0 23 1 0 0 0 0 0 0\n";
        assert_eq!(parse(text), Some(123));
        assert_eq!(parse("lo: 1"), None);
    }
}
