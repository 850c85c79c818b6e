#!/usr/bin/env bash
# A key set of an issuer that begins to publish ML-DSA keys: one of type `AKP`, and the RSA key that signs for now. A token of the RSA key,
# and libraries for Python (PyPI: PyJWT, Authlib, joserfc, jwcrypto), Node (npm: jose, jwks-rsa) and Go (modules: go-jose, go-oidc, jwx,
# keyfunc, go-spiffe) that check it.
#
# Guess before the first run: each takes the token, but for jwx, whose option to ignore keys that it cannot parse tells that it refuses the
# set otherwise. Keys of an unknown type SHOULD be ignored (RFC 7517, section 5); SPIFFE says MUST for its bundles, which are such sets.
# Seen: go-jose 4.1.9, keyfunc 3.9.2 and jwx 3.4.0 refuse the whole set, as does Authlib 1.9.10 in `import_key_set` (KeyError; given the set
# as a dict it finds the key). go-spiffe 2.9.0 reads bundles with go-jose, and so refuses a bundle with one such key. PyJWT 2.15.1,
# joserfc 1.8.0, jwcrypto 1.6.1, jose 6.2.18, jwks-rsa 4.1.0 and go-oidc 3.21.0 take the token, as does Envoy 1.40.0 (`local_jwks`). So one
# key more, which signs nothing yet, locks callers out of some services, and cuts a trust domain off from whoever federates with it.
#
# Needs Node 20 or later with npm, Go 1.25 or later with the module proxy, Python 3 and PyPI. Everything happens on loopback.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet cryptography==50.0.2 PyJWT==2.15.1 Authlib==1.9.10 joserfc==1.8.0 jwcrypto==1.6.1
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund jose@6.2.18 jwks-rsa@4.1.0 >npm.log

cat >sign.py <<'PY'
# The token, and the set without and with the new key; each also as SPIFFE's bundle, which says what a key is for in `use`.
import base64, json, time
import jwt
from cryptography.hazmat.primitives.asymmetric import mldsa, rsa
key = rsa.generate_private_key(65537, 2048)
jwk = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
now = {"kid": "now", "alg": "RS256", **{name: jwk[name] for name in ("kty", "n", "e")}}
pub = base64.urlsafe_b64encode(mldsa.MLDSA65PrivateKey.generate().public_key().public_bytes_raw()).rstrip(b"=").decode()
new = {"kid": "next", "kty": "AKP", "alg": "ML-DSA-65", "pub": pub}
token = jwt.encode({"sub": "app", "exp": int(time.time()) + 3600}, key, headers={"kid": "now"}, algorithm="RS256")
def keys(use, *all):
    return {"keys": [{**key, "use": use} for key in all]}
sets = {"alone": keys("sig", now), "beside": keys("sig", new, now)}
bundles = {"alone": keys("jwt-svid", now), "beside": keys("jwt-svid", new, now)}
json.dump({"token": token, "sets": sets, "bundles": bundles}, open("signed.json", "w"))
PY
cat >check.py <<'PY'
import json, warnings
warnings.simplefilter("ignore") # Authlib's about joserfc, which is to follow it
import authlib.jose, joserfc.jwk, joserfc.jwt, jwcrypto.jwk, jwcrypto.jwt, jwt
signed = json.load(open("signed.json"))
token, names = signed["token"], ["RS256"]
checks = {
    "PyJWT": lambda keys: jwt.decode(token, jwt.PyJWKSet.from_dict(keys)["now"].key, algorithms=names),
    "Authlib, a key set": lambda keys: authlib.jose.JsonWebToken(names).decode(token, authlib.jose.JsonWebKey.import_key_set(keys)),
    "Authlib, a dict": lambda keys: authlib.jose.JsonWebToken(names).decode(token, keys),
    "joserfc": lambda keys: joserfc.jwt.decode(token, joserfc.jwk.KeySet.import_key_set(keys), algorithms=names).claims,
    "jwcrypto": lambda keys: json.loads(jwcrypto.jwt.JWT(jwt=token, key=jwcrypto.jwk.JWKSet.from_json(json.dumps(keys)), algs=names).claims),
}
for name, check in checks.items():
    for which, keys in signed["sets"].items():
        try:
            outcome = check(keys)["sub"]
        except Exception as error: # each library has its own root
            outcome = f"{type(error).__name__}, {error}"
        print(f"{name}, {which}: {outcome}")
PY
cat >check.mjs <<'JS'
import { readFileSync } from "node:fs";
import { createLocalJWKSet, importSPKI, jwtVerify } from "jose";
import jwksRsa from "jwks-rsa";
const { token, sets } = JSON.parse(readFileSync("signed.json", "utf8"));
const checks = {
    "jose": (keys) => createLocalJWKSet(keys),
    "jwks-rsa": async (keys) => {
        const client = jwksRsa({ jwksUri: "http://localhost/", fetcher: async () => keys });
        return importSPKI((await client.getSigningKey("now")).getPublicKey(), "RS256");
    },
};
for (const [name, key] of Object.entries(checks))
    for (const [which, keys] of Object.entries(sets)) {
        const outcome = await Promise.resolve(keys).then(key).then((key) => jwtVerify(token, key))
            .then((checked) => checked.payload.sub, (error) => `${error.name}, ${error.message}`);
        console.log(`${name}, ${which}: ${outcome}`);
    }
JS
mkdir go
cat >go/go.mod <<'MOD'
module example/check

go 1.25.0

require (
	github.com/MicahParks/keyfunc/v3 v3.9.2
	github.com/coreos/go-oidc/v3 v3.21.0
	github.com/go-jose/go-jose/v4 v4.1.9
	github.com/golang-jwt/jwt/v5 v5.3.1
	github.com/lestrrat-go/jwx/v3 v3.4.0
	github.com/spiffe/go-spiffe/v2 v2.9.0
)
MOD
cat >go/main.go <<'GO'
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	gojwt "github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v3/jwk"
	jwxjwt "github.com/lestrrat-go/jwx/v3/jwt"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

var signed struct {
	Token         string
	Sets, Bundles map[string]json.RawMessage
}

func byGoJose(keys []byte) error {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(keys, &set); err != nil {
		return err
	}
	token, err := josejwt.ParseSigned(signed.Token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return err
	}
	return token.Claims(set, &josejwt.Claims{})
}

func byOidc(keys []byte) error {
	server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) { answer.Write(keys) }))
	defer server.Close()
	_, err := oidc.NewRemoteKeySet(context.Background(), server.URL).VerifySignature(context.Background(), signed.Token)
	return err
}

func byJwx(options ...jwk.ParseOption) func([]byte) error {
	return func(keys []byte) error {
		set, err := jwk.Parse(keys, options...)
		if err != nil {
			return err
		}
		_, err = jwxjwt.Parse([]byte(signed.Token), jwxjwt.WithKeySet(set))
		return err
	}
}

func byKeyfunc(keys []byte) error {
	set, err := keyfunc.NewJWKSetJSON(keys)
	if err != nil {
		return err
	}
	_, err = gojwt.Parse(signed.Token, set.Keyfunc)
	return err
}

func bySpiffe(bundle []byte) error {
	read, err := spiffebundle.Parse(spiffeid.RequireTrustDomainFromString("example.org"), bundle)
	if err == nil && !read.HasJWTAuthority("now") {
		err = fmt.Errorf("no authority")
	}
	return err
}

func main() {
	text, err := os.ReadFile("../signed.json")
	if err == nil {
		err = json.Unmarshal(text, &signed)
	}
	if err != nil {
		panic(err)
	}
	for _, check := range []struct {
		name  string
		sets  map[string]json.RawMessage
		check func([]byte) error
	}{
		{"go-jose", signed.Sets, byGoJose},
		{"go-oidc", signed.Sets, byOidc},
		{"jwx", signed.Sets, byJwx()},
		{"jwx, WithIgnoreParseError", signed.Sets, byJwx(jwk.WithIgnoreParseError(true))},
		{"keyfunc", signed.Sets, byKeyfunc},
		{"go-spiffe", signed.Bundles, bySpiffe},
	} {
		for _, which := range []string{"alone", "beside"} {
			outcome := "app"
			if err := check.check(check.sets[which]); err != nil {
				outcome = strings.ReplaceAll(err.Error(), "\n", ", ")
			}
			fmt.Printf("%s, %s: %s\n", check.name, which, outcome)
		}
	}
}
GO
env/bin/python sign.py
{
    env/bin/python check.py
    node check.mjs
    (cd go && GOWORK=off GOFLAGS=-mod=mod go run .)
} 2>log | tee out || { cat log; exit 1; }
diff out - <<'SEEN'
PyJWT, alone: app
PyJWT, beside: app
Authlib, a key set, alone: app
Authlib, a key set, beside: KeyError, 'AKP'
Authlib, a dict, alone: app
Authlib, a dict, beside: app
joserfc, alone: app
joserfc, beside: app
jwcrypto, alone: app
jwcrypto, beside: app
jose, alone: app
jose, beside: app
jwks-rsa, alone: app
jwks-rsa, beside: app
go-jose, alone: app
go-jose, beside: go-jose/go-jose: unsupported key type, format, curve, or RSA modulus size
go-oidc, alone: app
go-oidc, beside: app
jwx, alone: app
jwx, beside: jwk.Parse: failed to unmarshal JWK set: failed to decode key #0 in "keys": jwk.ParseKey: invalid key type from JSON (AKP)
jwx, WithIgnoreParseError, alone: app
jwx, WithIgnoreParseError, beside: app
keyfunc, alone: app
keyfunc, beside: failed to create a slice of JWK from JWKSMarshal: failed to unmarshal JWK: unsupported key: AKP (kty), failed keyfunc: could not create JWK Set storage
go-spiffe, alone: app
go-spiffe, beside: spiffebundle: unable to parse JWKS: go-jose/go-jose: unsupported key type, format, curve, or RSA modulus size
SEEN
