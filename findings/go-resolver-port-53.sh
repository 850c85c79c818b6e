#!/usr/bin/env bash
# Stub resolvers that put the addresses of a name in order (RFC 6724): Go's own (package net, without cgo) and glibc's getaddrinfo. What they
# connect sockets to meanwhile, seen by a tracer of system calls (Go module: github.com/u-root/u-root, cmds/core/strace).
#
# Guess before the first run: to find the source address for each destination both connect a socket of UDP to it, which sends nothing, at the
# port that the caller asked for, or where there is none at a port that means nothing (9, or 0). Port 53 is seen with nameservers alone, so
# that whoever connects UDP to port 53 of an address has it for a nameserver.
# Seen with Go 1.26.8 and glibc 2.36: glibc as guessed. Go connects to port 53 of every address that was found, whatever it is for, as soon
# as there are two: "connect, UDP, port 53" does not say that an address is asked about names. Kernel hooks, policies and audits that learn
# nameservers from connect() take databases and web servers for such.
#
# Needs Go 1.25 or later with the module proxy, Python 3 with PyPI, and root for a mount namespace of its own. Everything happens on loopback.
set -euo pipefail
dir=$(mktemp -d)
pids=()
clean() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap clean EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet dnslib==0.9.26
GOBIN="$dir" GOFLAGS=-mod=mod go install github.com/u-root/u-root/cmds/core/strace@v0.14.0 2>install.log

cat >nameserver.py <<'PY'
# Knows two addresses of every name, both of IPv4.
import socket
from dnslib import A, DNSRecord, QTYPE, RR
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 0))
open("port", "w").write(str(sock.getsockname()[1]))
while True:
    data, peer = sock.recvfrom(4096)
    query = DNSRecord.parse(data)
    answer = query.reply()
    for last in (2, 3) if query.q.qtype == QTYPE.A else ():
        answer.add_answer(RR(query.q.qname, QTYPE.A, rdata=A(f"127.0.0.{last}"), ttl=5))
    sock.sendto(answer.pack(), peer)
PY
cat >lookup.go <<'GO'
package main

import (
	"context"
	"fmt"
	"net"
	"os"
)

func main() {
	nameserver := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+os.Args[1])
	}
	resolver := &net.Resolver{PreferGo: true, Dial: nameserver}
	fmt.Println(resolver.LookupHost(context.Background(), "web.example."))
}
GO
cat >lookup.py <<'PY'
import socket
print(len(socket.getaddrinfo("web.example", 8080, 0, socket.SOCK_STREAM)))
PY
printf 'module lookup\n\ngo 1.25\n' >go.mod
CGO_ENABLED=0 go build -o lookup lookup.go
env/bin/python nameserver.py &
pids+=($!)
until [ -s port ]; do sleep 0.1; done

# The ports that are connected to, but for the nameserver's.
ports() {
    ./strace "$@" 2>&1 | grep -aE 'X connect\(.*Port: [0-9]+' | sed -E 's/.*Port: ([0-9]+).*/\1/' | grep -vx "$(cat port)" | sort | uniq -c | tr -s ' '
}
go_ports=$(ports ./lookup "$(cat port)")
printf '127.0.0.2 web.example\n127.0.0.3 web.example\n' >hosts
export -f ports
glibc_ports=$(unshare --mount bash -c 'mount --bind hosts /etc/hosts && ports env/bin/python lookup.py')
echo "Go $(go env GOVERSION): times, port:$go_ports"
echo "$(ldd --version | head -1): times, port:$glibc_ports"
[ "$go_ports" = " 2 53" ]
[ "$glibc_ports" = " 2 8080" ]
echo "as seen before: Go connects to port 53 of what it has found, glibc to the caller's"
