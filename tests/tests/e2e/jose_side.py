"""Verifies tokens with PyPI's `cryptography`, and makes DPoP proofs with PyPI's `PyJWT`.
Knows RFCs and drafts, and nothing else of Creto.

Reads one task a line from standard input and writes one answer a line, as JSON:

    {"do": "verify", "token": "...", "keys": {...}}
    {"do": "key", "name": "mine", "alg": "ES256"}
    {"do": "proof", "name": "mine", "method": "GET", "url": "...", "token": "...", "nonce": "..."}
"""

import base64
import hashlib
import json
import secrets
import sys
import time

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa

# draft-ietf-lamps-pq-composite-sigs, of id-MLDSA65-Ed25519-SHA512
PREFIX = b"CompositeAlgorithmSignatures2025"
LABEL = b"COMPSIG-MLDSA65-Ed25519-SHA512"
ML_DSA_PUBLIC, ML_DSA_SIGNATURE = 1952, 3309


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def thumbprint(jwk, members):
    """RFC 7638."""
    required = {name: jwk[name] for name in members}
    text = json.dumps(required, sort_keys=True, separators=(",", ":"))
    return encode(hashlib.sha256(text.encode()).digest())


def holds(check, *args):
    try:
        check(*args)
    except InvalidSignature:
        return False
    return True


def halves(algorithm, public, signature, message):
    """Which of the token's signatures hold."""
    match algorithm:
        case "ML-DSA-65":
            key = mldsa.MLDSA65PublicKey.from_public_bytes(public)
            return {"ML-DSA-65": holds(key.verify, signature, message)}
        case "ML-DSA-65-Ed25519":
            signed = PREFIX + LABEL + b"\0" + hashlib.sha512(message).digest()
            ml = mldsa.MLDSA65PublicKey.from_public_bytes(public[:ML_DSA_PUBLIC])
            ed = ed25519.Ed25519PublicKey.from_public_bytes(public[ML_DSA_PUBLIC:])
            ml_signature = signature[:ML_DSA_SIGNATURE]
            ed_signature = signature[ML_DSA_SIGNATURE:]
            return {
                "ML-DSA-65": holds(ml.verify, ml_signature, signed, LABEL),
                "Ed25519": holds(ed.verify, ed_signature, signed),
            }


def verify(token, keys):
    message, _, signature = token.rpartition(".")
    header, payload = (decode(part) for part in message.split("."))
    header = json.loads(header)
    jwk = next(key for key in keys["keys"] if key["kid"] == header["kid"])
    assert jwk["kty"] == "AKP" and jwk["alg"] == header["alg"], jwk
    assert thumbprint(jwk, ["alg", "kty", "pub"]) == jwk["kid"], jwk["kid"]
    held = halves(header["alg"], decode(jwk["pub"]), decode(signature), message.encode())
    # Nothing is believed of what is not signed.
    claims = json.loads(payload) if all(held.values()) else None
    return {"alg": header["alg"], "holds": held, "claims": claims}


KEYS = {}


def key(name, alg):
    if alg == "ES256":
        private = ec.generate_private_key(ec.SECP256R1())
        jwk = jwt.algorithms.ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
        members = ["crv", "kty", "x", "y"]
    else:
        private = ed25519.Ed25519PrivateKey.generate()
        jwk = jwt.algorithms.OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
        members = ["crv", "kty", "x"]
    KEYS[name] = alg, private, jwk
    return {"jkt": thumbprint(jwk, members)}


def proof(name, method, url, token=None, nonce=None):
    """RFC 9449, section 4.2."""
    alg, private, jwk = KEYS[name]
    claims = {"jti": secrets.token_urlsafe(), "htm": method, "htu": url, "iat": int(time.time())}
    if token is not None:
        claims["ath"] = encode(hashlib.sha256(token.encode()).digest())
    if nonce is not None:
        claims["nonce"] = nonce
    headers = {"typ": "dpop+jwt", "jwk": jwk}
    return {"proof": jwt.encode(claims, private, algorithm=alg, headers=headers)}


DOES = {"verify": verify, "key": key, "proof": proof}
for line in sys.stdin:
    task = json.loads(line)
    print(json.dumps(DOES[task.pop("do")](**task)), flush=True)
