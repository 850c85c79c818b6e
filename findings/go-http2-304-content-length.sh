#!/usr/bin/env bash
# Go's HTTP client and `httputil.ReverseProxy`, and a 304 that says how long the 200 would be, over HTTP/2.
#
# Guess before the first run: `304` with `content-length: 1000` and END_STREAM on the header block is an answer without a body. RFC 9110,
# section 8.6, lets a 304 carry the field, and RFC 9113, section 8.1.1, says that a length other than 0 is fine there. curl, Node, undici,
# httpx, niquests and the JDK take it so.
# Seen with Go 1.26.8, against Go's own server: over HTTP/2 the status is 304, and reading the body ends in "unexpected EOF"; an answer to
# HEAD is taken as it is meant. To the reverse proxy that is an answer that broke off: it cuts off its own client, which only asked by
# HTTP/1.1 whether its copy is still good. It does not come up while both ends are Go and speak HTTP/1.1, since there the server leaves
# the field out.
#
# Needs Go 1.21 or later, which gets the toolchain named here from the module proxy. Everything happens on loopback.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-mod=mod GOWORK=off
cat >go.mod <<'MOD'
module example/notmodified

go 1.24
MOD
cat >main.go <<'GO'
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"time"
)

// ask makes one conditional request, and says what came of it.
func ask(client *http.Client, method, address string) string {
	request, err := http.NewRequest(method, address, nil)
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("If-None-Match", `"one"`)
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Sprintf("no answer, end of stream: %v", errors.Is(err, io.EOF))
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return fmt.Sprintf("%d, content-length %s, %d bytes, then %v", answer.StatusCode, cmp.Or(answer.Header.Get("Content-Length"), "none"), len(body), err)
}

func main() {
	fmt.Println(runtime.Version())
	for _, http2 := range []bool{false, true} {
		app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"one"`)
			w.Header().Set("Content-Length", "1000")
			w.WriteHeader(http.StatusNotModified)
		}))
		app.EnableHTTP2 = http2
		app.StartTLS()
		target, err := url.Parse(app.URL)
		if err != nil {
			log.Fatal(err)
		}
		name := map[bool]string{false: "HTTP/1.1", true: "HTTP/2"}[http2]
		client := app.Client()
		client.Timeout = 10 * time.Second
		for _, method := range []string{"HEAD", "GET"} {
			fmt.Printf("%s, %s: %s\n", name, method, ask(client, method, app.URL))
		}

		reverse := httputil.NewSingleHostReverseProxy(target)
		reverse.Transport = client.Transport
		reverse.ErrorLog = log.New(io.Discard, "", 0)
		front := httptest.NewUnstartedServer(reverse)
		front.Config.ErrorLog = reverse.ErrorLog
		front.Start()
		plain := front.Client()
		plain.Timeout = 10 * time.Second
		fmt.Printf("%s behind a proxy, GET: %s\n", name, ask(plain, "GET", front.URL))
		front.Close()
		app.Close()
	}
}
GO
go run . | tee out
diff out - <<'SEEN'
go1.26.8
HTTP/1.1, HEAD: 304, content-length none, 0 bytes, then <nil>
HTTP/1.1, GET: 304, content-length none, 0 bytes, then <nil>
HTTP/1.1 behind a proxy, GET: 304, content-length none, 0 bytes, then <nil>
HTTP/2, HEAD: 304, content-length 1000, 0 bytes, then <nil>
HTTP/2, GET: 304, content-length 1000, 0 bytes, then unexpected EOF
HTTP/2 behind a proxy, GET: no answer, end of stream: true
SEEN
