#!/usr/bin/env bash
# undici (npm), and an answer with trailers, over HTTP/1.1 and over HTTP/2.
#
# Guess before the first run: `trailers` of the answer holds them once the body has been read, whichever protocol carried them.
# Seen with 7.30.2: it does over HTTP/1.1. Over HTTP/2 it stays empty, without an error, for the same handler and the same client code:
# who checks a status or a digest there finds none as soon as ALPN chooses `h2`, as it does where a proxy is put in between. Node 20's own
# http2 client, asked the same way, hands them out.
#
# Needs Node 20 or later with npm. Everything happens on loopback.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund undici@7.30.2 >npm.log
cat >run.mjs <<'JS'
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import { Client } from "undici";

function answer(_, response) {
    response.writeHead(200, { trailer: "x-digest" });
    response.write("body");
    response.addTrailers({ "x-digest": "1234" });
    response.end();
}
async function started(server) {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return `http://127.0.0.1:${server.address().port}`;
}
async function ask(origin, options) {
    const answer = await new Client(origin, options).request({ method: "GET", path: "/" });
    return `${answer.statusCode}, ${await answer.body.text()}, ${JSON.stringify(answer.trailers)}`;
}
const one = await started(http.createServer(answer));
const two = await started(http2.createServer(answer));
console.log(`undici, HTTP/1.1: ${await ask(one, {})}`);
console.log(`undici, HTTP/2: ${await ask(two, { useH2c: true })}`);
const request = http2.connect(two).request({ ":path": "/" });
request.resume();
const [trailers] = await once(request, "trailers");
console.log(`node, HTTP/2: ${JSON.stringify(trailers)}`);
process.exit();
JS
timeout 60 node run.mjs | tee out
diff out - <<'SEEN'
undici, HTTP/1.1: 200, body, {"x-digest":"1234"}
undici, HTTP/2: 200, body, {}
node, HTTP/2: {"x-digest":"1234"}
SEEN
