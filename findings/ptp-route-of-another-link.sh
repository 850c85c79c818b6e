#!/usr/bin/env bash
# The CNI plug-in `ptp` (Debian: containernetworking-plugins) and an address whose host route is there already.
#
# Guess before the first run: a second pod that is given an address whose /32 route still leads to another pod's link gets an error
# from ADD, or the route is replaced.
# Seen with 1.1.1: ADD succeeds and reports the address, and the route goes on leading to the first pod's link. The second pod is
# configured, and whoever dials its address reaches the first, which refuses.
# It happens where a node's address pool is lost and its network namespaces are not, as in a simulated reboot.
#
# Needs root and Debian's package sources. Everything happens in network namespaces of its own.
set -euo pipefail
version=1.1.1+ds1-3+b5
dir=$(mktemp -d)
node=ptp-node-$$ first=ptp-first-$$ second=ptp-second-$$
clean() {
    for netns in $first $second $node; do ip netns delete "$netns" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap clean EXIT
cd "$dir"
apt-get download "containernetworking-plugins=$version" >/dev/null
dpkg-deb -x ./*.deb root
for netns in $node $first $second; do ip netns add "$netns"; done
ip -n "$node" link set lo up

add() { # NETNS ID
    ip netns exec "$node" env CNI_COMMAND=ADD CNI_CONTAINERID="$2" CNI_NETNS="/run/netns/$1" CNI_IFNAME=eth0 \
        CNI_PATH="$dir/root/usr/lib/cni" "$dir/root/usr/lib/cni/ptp" <<JSON
{ "cniVersion": "0.4.0", "name": "pods", "type": "ptp",
  "ipam": { "type": "host-local", "dataDir": "$dir/pool", "ranges": [[{ "subnet": "198.18.77.0/24" }]] } }
JSON
}
route() { ip -n "$node" -o route get 198.18.77.2 | sed -E 's/.* dev ([^ ]+).*/\1/'; }

add "$first" one >one.json
before=$(route)
rm -r pool # what a node forgets that keeps its pool in memory
status=0
add "$second" two >two.json 2>two.err || status=$?
given=$(grep -o '198\.18\.77\.[0-9]*/' two.json | head -1 || true)
own=$(grep -o '"name": "veth[0-9a-f]*"' two.json | head -1 | cut -d'"' -f4 || true)
after=$(route)
echo "second ADD: exit code $status, address ${given:-none}, its link ${own:-none}; the route leads to $after, as before: $before"
[ "$status" = 0 ] && [ "$given" = 198.18.77.2/ ] && [ -n "$own" ] && [ "$after" = "$before" ] && [ "$after" != "$own" ]
