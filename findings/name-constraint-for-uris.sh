#!/usr/bin/env bash
# A certificate with a SPIFFE ID and a DNS name, from an intermediate authority that may sign for one trust domain only: a critical name
# constraint that permits URIs of the host `example.org`. Checked by PyPI's cryptography (`x509.verification`), by Python's ssl (OpenSSL), by
# Go, and by rustls, which PyPI's uv speaks TLS with.
#
# Guess before the first run: each takes it, but for rustls, whose verifier is known to us for not supporting URIs here. The constraint is
# how RFC 5280, section 4.2.1.10, keeps an authority to its hosts, and a SPIFFE ID is a URI with a host.
# Seen with cryptography 50.0.2: "unsupported name constraint", for a client's certificate and for a server's. uv 0.13.9 refuses it, too:
# NameConstraintViolation, as if the name were outside. Python 3's ssl and Go 1.26 take it, as do GnuTLS 3.7.9, the JDK 17, Envoy 1.40.0
# and pkijs 3.4.3, asked the same way. From an authority without the constraint each takes it. So who confines an authority of a mesh this
# way loses the peers that check with these two.
#
# Needs Go 1.21 or later, which gets the toolchain named here from the module proxy, Python 3 and PyPI. Everything happens on loopback.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet cryptography==50.0.2 uv==0.13.9

cat >sign.py <<'PY'
# Writes `free` and `bound`: folders with a root, an intermediate, and a certificate with its key.
import datetime, os
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
now, hour = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(hours=1)
def sign(subject, key, issuer, by, *extensions):
    name = lambda text: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
    builder = x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), x509.random_serial_number(), now - hour, now + hour)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), False)
    return builder.sign(by, hashes.SHA256())
def usage(authority):
    return x509.KeyUsage(not authority, False, False, False, False, authority, authority, False, False), True
for folder, constraints in ("free", ()), ("bound", ((x509.NameConstraints([x509.UniformResourceIdentifier("example.org")], None), True),)):
    root, intermediate, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://example.org/ns/a/sa/b"), x509.DNSName("localhost")])
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificates = {
        "root": sign("root", root, "root", root, (x509.BasicConstraints(True, None), True), usage(True)),
        "intermediate": sign("intermediate", intermediate, "root", root, (x509.BasicConstraints(True, 0), True), usage(True), *constraints),
        "own": sign("own", own, "intermediate", intermediate, (x509.BasicConstraints(False, None), True), usage(False), (purposes, False), (names, False)),
    }
    pem = {name: certificate.public_bytes(serialization.Encoding.PEM) for name, certificate in certificates.items()}
    pem["key"] = own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem["chain"] = pem["own"] + pem["intermediate"]
    os.mkdir(folder)
    for name, text in pem.items():
        open(f"{folder}/{name}.pem", "wb").write(text)
PY
cat >check.py <<'PY'
import http.server, os, ssl, subprocess, threading, urllib.error, urllib.request
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

class Nothing(http.server.BaseHTTPRequestHandler):
    # Answers everything with 404.
    def do_GET(self):
        self.send_error(404)
    def log_message(self, *_):
        pass

def by_cryptography(folder, verifier):
    read = lambda name: x509.load_pem_x509_certificate(open(f"{folder}/{name}.pem", "rb").read())
    try:
        verifier(PolicyBuilder().store(Store([read("root")]))).verify(read("own"), [read("intermediate")])
    except VerificationError as error:
        return str(error)
    return "ok"

def by_ssl(folder, port):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=f"{folder}/root.pem")))
    try:
        opener.open(f"https://localhost:{port}/", timeout=10)
    except urllib.error.HTTPError:
        return "ok" # the 404
    except urllib.error.URLError as error:
        return str(error.reason)

def by_uv(folder, port):
    # Asks for a package at an index that has none.
    environment = {"PATH": os.environ["PATH"], "HOME": os.getcwd(), "SSL_CERT_FILE": f"{folder}/root.pem", "UV_HTTP_RETRIES": "0"}
    asked = ["env/bin/uv", "pip", "compile", "--no-config", "--no-cache", "--default-index", f"https://localhost:{port}/", "asked.txt"]
    said = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=60).stderr
    return "ok" if "was not found in the package registry" in said else said.strip().splitlines()[-1].strip()

open("asked.txt", "w").write("something\n")
for folder in "free", "bound":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/chain.pem", f"{folder}/key.pem")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_port
    print(f"{folder}, cryptography, a client's:", by_cryptography(folder, lambda policy: policy.build_client_verifier()))
    print(f"{folder}, cryptography, a server's:", by_cryptography(folder, lambda policy: policy.build_server_verifier(x509.DNSName("localhost"))))
    print(f"{folder}, ssl:", by_ssl(folder, port))
    print(f"{folder}, uv:", by_uv(folder, port))
    server.shutdown()
PY
cat >go.mod <<'MOD'
module example/check

go 1.25

toolchain go1.26.8
MOD
cat >main.go <<'GO'
package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

func read(name string) *x509.Certificate {
	text, err := os.ReadFile(name)
	if err != nil {
		panic(err)
	}
	block, _ := pem.Decode(text)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		panic(err)
	}
	return certificate
}

func main() {
	for _, folder := range []string{"free", "bound"} {
		roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(read(folder + "/root.pem"))
		intermediates.AddCert(read(folder + "/intermediate.pem"))
		outcome := "ok"
		if _, err := read(folder + "/own.pem").Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates}); err != nil {
			outcome = err.Error()
		}
		fmt.Printf("%s, Go: %s\n", folder, outcome)
	}
}
GO
env/bin/python sign.py
{
    env/bin/python check.py
    GOWORK=off go run .
} 2>log | tee out || { cat log; exit 1; }
diff out - <<'SEEN'
free, cryptography, a client's: ok
free, cryptography, a server's: ok
free, ssl: ok
free, uv: ok
bound, cryptography, a client's: validation failed: candidates exhausted: unsupported name constraint
bound, cryptography, a server's: validation failed: candidates exhausted: unsupported name constraint
bound, ssl: ok
bound, uv: cause: invalid peer certificate: Other(OtherError(NameConstraintViolation))
free, Go: ok
bound, Go: ok
SEEN
