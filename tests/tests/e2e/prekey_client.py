"""Checks a prekey of Creto with PyPI's `cryptography` alone, as docs/formats/prekeys.md says:
PREKEY and KEYS as the program wrote them. Agrees on a secret by it, and opens what was sent with
the private half in PRIVATE. Prints `agreed`."""

import base64
import hashlib
import json
import sys

from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa, mlkem

LABEL = b"creto/prekey/v1"


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def thumbprint(alg, pub):
    members = {"alg": alg, "kty": "AKP", "pub": pub}
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def frame(fields):
    return LABEL + b"\x00" + b"".join(len(f).to_bytes(8, "big") + f for f in fields)


def composite(public, message, signature):
    """draft-ietf-lamps-pq-composite-sigs: both halves sign M'."""
    label = b"COMPSIG-MLDSA65-Ed25519-SHA512"
    digest = hashlib.sha512(message).digest()
    context = bytes([len(LABEL)]) + LABEL
    message = b"CompositeAlgorithmSignatures2025" + label + context + digest
    key = mldsa.MLDSA65PublicKey.from_public_bytes(public[:1952])
    key.verify(signature[:3309], message, label)
    half = ed25519.Ed25519PublicKey.from_public_bytes(public[1952:])
    half.verify(signature[3309:], message)


def read(path):
    with open(path) as text:
        return json.load(text)


def main(prekey, keys, private):
    prekey, keys, private = read(prekey), read(keys), read(private)
    assert prekey["owner"] == keys["spiffe_id"] == private["owner"]
    alg, pub = prekey["key"]["alg"], prekey["key"]["pub"]
    assert prekey["id"] == thumbprint(alg, pub)
    (signer,) = (key for key in keys["keys"] if key["kid"] == prekey["kid"])
    assert signer["alg"] == prekey["signature"]["alg"] == "ML-DSA-65-Ed25519"
    named = (prekey["owner"], prekey["kind"], alg)
    fields = [*(text.encode() for text in named), decoded(pub), prekey["published_at"].encode()]
    composite(decoded(signer["pub"]), frame(fields), decoded(prekey["signature"]["sig"]))

    assert alg == "ML-KEM-768"
    secret, sent = mlkem.MLKEM768PublicKey.from_public_bytes(decoded(pub)).encapsulate()
    (half,) = (key for key in private["keys"] if key["id"] == prekey["id"])
    assert half["kind"] == prekey["kind"] and half["alg"] == alg and half["pub"] == pub
    opened = mlkem.MLKEM768PrivateKey.from_seed_bytes(decoded(half["seed"]))
    assert opened.decapsulate(sent) == secret
    print("agreed")


main(*sys.argv[1:])
