#!/usr/bin/env bash
# A JWT that jose (npm) signs with the algorithm `Ed25519`, and four libraries for Python (PyPI: PyJWT, Authlib, joserfc, jwcrypto) that check it.
#
# Guess before the first run: each takes it, given the key and leave for both names. RFC 9864 (October 2025) registers `Ed25519` and
# deprecates `EdDSA`, and signature and key are the same as before.
# Seen with jose 6.2.18: joserfc 1.8.0 and jwcrypto 1.6.1 take it. PyJWT 2.15.1 (InvalidAlgorithmError, "Algorithm not supported") and
# Authlib 1.9.10 (UnsupportedAlgorithmError) do not know the name. All four take the same claims, signed with the same key, under the
# deprecated one. So an issuer that follows the RFC locks out whoever checks with these two.
#
# Needs Node 20 or later with npm, Python 3 and PyPI. No socket is opened.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet cryptography==50.0.2 PyJWT==2.15.1 Authlib==1.9.10 joserfc==1.8.0 jwcrypto==1.6.1
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund jose@6.2.18 >npm.log

cat >sign.mjs <<'JS'
import { writeFileSync } from "node:fs";
import { SignJWT, exportJWK, generateKeyPair } from "jose";
const pair = await generateKeyPair("Ed25519", { extractable: true });
const tokens = {};
for (const alg of ["EdDSA", "Ed25519"])
    tokens[alg] = await new SignJWT({ sub: "app" }).setProtectedHeader({ alg }).setExpirationTime("1h").sign(pair.privateKey);
writeFileSync("signed.json", JSON.stringify({ key: await exportJWK(pair.publicKey), tokens }));
JS
cat >check.py <<'PY'
import json, warnings
warnings.simplefilter("ignore") # Authlib's about joserfc, which is to follow it
import authlib.jose, joserfc.jwk, joserfc.jwt, jwcrypto.jwk, jwcrypto.jwt, jwt
NAMES = ["EdDSA", "Ed25519"]
with open("signed.json") as file:
    signed = json.load(file)
key = signed["key"]
checks = {
    "PyJWT": lambda token: jwt.decode(token, jwt.PyJWK(key, algorithm="EdDSA").key, algorithms=NAMES),
    "Authlib": lambda token: authlib.jose.JsonWebToken(NAMES).decode(token, authlib.jose.JsonWebKey.import_key(key)),
    "joserfc": lambda token: joserfc.jwt.decode(token, joserfc.jwk.OKPKey.import_key(key), algorithms=NAMES).claims,
    "jwcrypto": lambda token: json.loads(jwcrypto.jwt.JWT(jwt=token, key=jwcrypto.jwk.JWK(**key), algs=NAMES).claims),
}
for alg, token in signed["tokens"].items():
    for name, check in checks.items():
        try:
            outcome = check(token)["sub"]
        except Exception as error: # each library has its own root
            outcome = f"{type(error).__name__}, {error}".strip()
        print(f"{alg}, {name}: {outcome}")
PY
node sign.mjs
env/bin/python check.py 2>warnings | tee out
diff out - <<'SEEN'
EdDSA, PyJWT: app
EdDSA, Authlib: app
EdDSA, joserfc: app
EdDSA, jwcrypto: app
Ed25519, PyJWT: InvalidAlgorithmError, Algorithm not supported
Ed25519, Authlib: UnsupportedAlgorithmError, unsupported_algorithm:
Ed25519, joserfc: app
Ed25519, jwcrypto: app
SEEN
