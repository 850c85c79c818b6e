#!/usr/bin/env bash
# A request over HTTP/2 whose three cookies come in a `cookie` field each, as clients may send them so that they compress better, and servers
# (PyPI: granian, hypercorn; Node's and Go's own) with applications behind them (PyPI: Django, Quart, Starlette).
#
# Guess before the first run: each application sees three cookies, as it does if they come in one field. RFC 9113, section 8.2.3, has a
# server join the pieces with "; " before it passes them to an application that knows nothing of HTTP/2.
# Seen with granian 2.8.9: by ASGI it passes them on as three fields. Django 5.2.19 joins these with commas, and sees one cookie, `a`, with
# the value `1,b=2,c=3`; Quart 0.22.0 and Starlette 1.10.0 see three. By granian's WSGI, by hypercorn 0.18.0's ASGI, and with Node 20 and
# Go, three are seen. So a session is there with one field, as HTTP/1.1 has it, and lost as soon as a hop in front sends
# pieces.
#
# Needs Node 20 or later, Go 1.24 or later, Python 3 and PyPI. Everything happens on loopback.
set -euo pipefail
dir=$(mktemp -d)
pids=()
clean() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$dir"
}
trap clean EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet granian==2.8.9 hypercorn==0.18.0 h2==4.4.1 Django==5.2.19 quart==0.22.0 starlette==1.10.0

cat >apps.py <<'PY'
# Each says which cookies it sees.
import django.conf, django.http, django.urls
import quart
import starlette.applications, starlette.responses, starlette.routing
django.conf.settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
urlpatterns = [django.urls.path("", lambda request: django.http.JsonResponse(request.COOKIES))]
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
of_django, of_django_wsgi = get_asgi_application(), get_wsgi_application()
of_quart = quart.Quart("app")
@of_quart.get("/")
async def cookies():
    return dict(quart.request.cookies)
async def answer(request):
    return starlette.responses.JSONResponse(request.cookies)
of_starlette = starlette.applications.Starlette(routes=[starlette.routing.Route("/", answer)])
PY
cat >serve.mjs <<'JS'
import http2 from "node:http2";
http2.createServer((request, response) => {
    response.end(JSON.stringify(Object.fromEntries(request.headers.cookie.split("; ").map((cookie) => cookie.split("=")))));
}).listen(Number(process.argv[2]), "127.0.0.1");
JS
cat >serve.go <<'GO'
package main

import (
	"encoding/json"
	"net/http"
	"os"
)

func main() {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	server := http.Server{Addr: "127.0.0.1:" + os.Args[1], Protocols: &protocols, Handler: http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		seen := map[string]string{}
		for _, cookie := range request.Cookies() {
			seen[cookie.Name] = cookie.Value
		}
		json.NewEncoder(answer).Encode(seen)
	})}
	panic(server.ListenAndServe())
}
GO
cat >ask.py <<'PY'
# Prints the cookies that the application saw, asked with three fields, and with one.
import json, socket, sys
import h2.config, h2.connection, h2.events

def ask(cookies):
    http, answer = h2.connection.H2Connection(h2.config.H2Configuration()), b""
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10) as sock:
        http.initiate_connection()
        http.send_headers(1, [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "localhost"), *cookies], end_stream=True)
        sock.sendall(http.data_to_send())
        while piece := sock.recv(65536):
            for event in http.receive_data(piece):
                if isinstance(event, h2.events.DataReceived):
                    answer += event.data
                if isinstance(event, h2.events.StreamEnded):
                    return json.dumps(json.loads(answer), sort_keys=True)
            sock.sendall(http.data_to_send())
    return "no answer"

print(ask([("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]), "and in one field", ask([("cookie", "a=1; b=2; c=3")]))
PY
GOWORK=off go build -o serve-go serve.go
run() {
    local name=$1 port
    shift
    port=$(env/bin/python -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
    "${@//PORT/$port}" >>log 2>&1 &
    pids+=($!)
    for _ in {1..150}; do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
        sleep 0.2
    done
    echo "$name: $(timeout 30 env/bin/python ask.py "$port" 2>>log)" | tee -a out
}
run "granian, Django" env/bin/granian --host 127.0.0.1 --port PORT --http 2 --interface asgi apps:of_django
run "granian, Quart" env/bin/granian --host 127.0.0.1 --port PORT --http 2 --interface asgi apps:of_quart
run "granian, Starlette" env/bin/granian --host 127.0.0.1 --port PORT --http 2 --interface asgi apps:of_starlette
run "granian by WSGI, Django" env/bin/granian --host 127.0.0.1 --port PORT --http 2 --interface wsgi apps:of_django_wsgi
run "hypercorn, Django" env/bin/hypercorn --bind 127.0.0.1:PORT apps:of_django
run "Node" node serve.mjs PORT
run "Go" ./serve-go PORT
diff out - <<'SEEN'
granian, Django: {"a": "1,b=2,c=3"} and in one field {"a": "1", "b": "2", "c": "3"}
granian, Quart: {"a": "1", "b": "2", "c": "3"} and in one field {"a": "1", "b": "2", "c": "3"}
granian, Starlette: {"a": "1", "b": "2", "c": "3"} and in one field {"a": "1", "b": "2", "c": "3"}
granian by WSGI, Django: {"a": "1", "b": "2", "c": "3"} and in one field {"a": "1", "b": "2", "c": "3"}
hypercorn, Django: {"a": "1", "b": "2", "c": "3"} and in one field {"a": "1", "b": "2", "c": "3"}
Node: {"a": "1", "b": "2", "c": "3"} and in one field {"a": "1", "b": "2", "c": "3"}
Go: {"a": "1", "b": "2", "c": "3"} and in one field {"a": "1", "b": "2", "c": "3"}
SEEN
