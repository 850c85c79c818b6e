#!/usr/bin/env bash
# Clients with `http_proxy` set, and a range of addresses in `no_proxy`, as clusters write it for pods and services: Python (PyPI: requests,
# httpx, aiohttp, grpcio; urllib), Node (npm: undici, @grpc/grpc-js).
#
# Guess before the first run: with `no_proxy=127.0.0.0/8` each goes to 127.0.0.2 directly.
# Seen with httpx 0.29.0, aiohttp 3.14.5 (`trust_env`), Python 3.11's urllib and undici 7.30.2 (EnvHttpProxyAgent): they go to the proxy,
# and nothing tells that the entry means nothing to them. requests 2.34.2, grpcio 1.85.3 and @grpc/grpc-js 1.14.7 go directly. With the
# address itself in the list each goes directly. So whether traffic inside a cluster leaves it by way of the proxy, and comes out of the mesh with
# the proxy's identity, depends on the library.
#
# Needs Node 20 or later with npm, Python 3 and PyPI. Everything happens on loopback.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet requests==2.34.2 httpx==0.29.0 aiohttp==3.14.5 grpcio==1.85.3
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund undici@7.30.2 @grpc/grpc-js@1.14.7 >npm.log

cat >undici.mjs <<'JS'
import { EnvHttpProxyAgent, request } from "undici";
await request(`http://${process.argv[2]}/`, { dispatcher: new EnvHttpProxyAgent() });
process.exit();
JS
cat >grpc.mjs <<'JS'
import grpc from "@grpc/grpc-js";
const bytes = (value) => value;
const client = new grpc.Client(process.argv[2], grpc.credentials.createInsecure());
client.makeUnaryRequest("/app.Echo/Say", bytes, bytes, Buffer.alloc(0), { deadline: Date.now() + 3000 }, () => process.exit());
JS
cat >run.py <<'PY'
import asyncio, os, socket, subprocess, sys, threading, urllib.request
import aiohttp, httpx, requests

# The proxy and the server; each notes how a connection begins, and answers what is HTTP/1.1.
begun = []
def serve(name, listener):
    while True:
        sock, _ = listener.accept()
        first = sock.recv(65536)
        begun.append(name)
        if first.startswith(b"CONNECT"):
            # The target answers here, too: what counts is that the client came.
            sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            first = sock.recv(65536)
        if first.startswith(b"GET"):
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        sock.close()

ports = {}
for name, address in (("proxy", "127.0.0.1"), ("direct", "127.0.0.2")):
    listener = socket.create_server((address, 0))
    ports[name] = listener.getsockname()[1]
    threading.Thread(target=serve, args=(name, listener), daemon=True).start()
server = f"127.0.0.2:{ports['direct']}"
url = f"http://{server}/"

def by_aiohttp():
    async def ask():
        async with aiohttp.ClientSession(trust_env=True) as client, client.get(url) as answer:
            await answer.read()
    asyncio.run(ask())

def by_grpcio():
    # In a process of its own, since the C core reads its environment once.
    code = f"import grpc\ntry: grpc.insecure_channel('{server}').unary_unary('/app.Echo/Say')(b'', timeout=3)\nexcept grpc.RpcError: pass"
    subprocess.run([sys.executable, "-c", code], check=True)

clients = {
    "requests": lambda: requests.get(url), "httpx": lambda: httpx.get(url), "aiohttp": by_aiohttp,
    "urllib": lambda: urllib.request.urlopen(url).read(), "grpcio": by_grpcio,
    "undici": lambda: subprocess.run(["node", "undici.mjs", server], check=True, timeout=20),
    "grpc-js": lambda: subprocess.run(["node", "grpc.mjs", server], check=True, timeout=20),
}
for name in list(os.environ):
    if name.lower().endswith("_proxy"):
        del os.environ[name]
os.environ["http_proxy"] = f"http://127.0.0.1:{ports['proxy']}"
for excluded in ("127.0.0.0/8", "127.0.0.2"):
    os.environ["no_proxy"] = excluded
    for name, ask in clients.items():
        begun.clear()
        try:
            ask()
        except Exception as error:
            begun.append(type(error).__name__)
        print(f"{excluded}, {name}: {begun[0]}", flush=True)
PY
timeout 90 env/bin/python run.py 2>log | tee out
diff out - <<'SEEN'
127.0.0.0/8, requests: direct
127.0.0.0/8, httpx: proxy
127.0.0.0/8, aiohttp: proxy
127.0.0.0/8, urllib: proxy
127.0.0.0/8, grpcio: direct
127.0.0.0/8, undici: proxy
127.0.0.0/8, grpc-js: direct
127.0.0.2, requests: direct
127.0.0.2, httpx: direct
127.0.0.2, aiohttp: direct
127.0.0.2, urllib: direct
127.0.0.2, grpcio: direct
127.0.0.2, undici: direct
127.0.0.2, grpc-js: direct
SEEN
