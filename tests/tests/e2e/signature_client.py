"""Checks a signature of Creto with PyPI's `cryptography` alone, as docs/formats/signatures.md
says: SIGNATURE and KEYS as the program wrote them, and FILE that was signed. Prints `valid` or
`invalid`."""

import base64
import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

LABEL = b"creto/signed/v1"
DIGEST_LABEL = b"creto/signed-digest/v1"


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def thumbprint(key):
    """RFC 7638 over the required members of an AKP key."""
    members = {name: key[name] for name in ("alg", "kty", "pub")}
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def frame(label, fields):
    return label + b"\x00" + b"".join(len(f).to_bytes(8, "big") + f for f in fields)


def ml_dsa(public, context, message, signature):
    mldsa.MLDSA65PublicKey.from_public_bytes(public).verify(signature, message, context)


def composite(public, label_of_use, message, signature):
    """draft-ietf-lamps-pq-composite-sigs: both halves sign M'."""
    label = b"COMPSIG-MLDSA65-Ed25519-SHA512"
    digest = hashlib.sha512(message).digest()
    context = bytes([len(label_of_use)]) + label_of_use
    message = b"CompositeAlgorithmSignatures2025" + label + context + digest
    ml_dsa(public[:1952], label, message, signature[:3309])
    half = ed25519.Ed25519PublicKey.from_public_bytes(public[1952:])
    half.verify(signature[3309:], message)


def main(signature, keys, file):
    with open(signature) as text:
        signed = json.load(text)
    with open(keys) as text:
        keys = json.load(text)
    with open(file, "rb") as data:
        message = data.read()
    assert signed["signer"] == keys["spiffe_id"]
    (key,) = (key for key in keys["keys"] if key["kid"] == signed["kid"])
    assert thumbprint(key) == key["kid"]
    assert signed["signature"]["alg"] == key["alg"]
    named = (signed[name].encode() for name in ("signer", "purpose", "signed_at"))
    label = LABEL
    if "digest" in signed:
        name, _, digits = signed["digest"].partition(":")
        made = hashlib.new(name.replace("sha-", "sha").replace("sha3-", "sha3_"), message)
        label, message = DIGEST_LABEL, f"{name}:{made.hexdigest()}".encode()
        if made.hexdigest() != digits:
            print("invalid")
            return
    message = frame(label, [*named, message])
    public, bytes_ = decoded(key["pub"]), decoded(signed["signature"]["sig"])
    try:
        if key["alg"] == "ML-DSA-65-Ed25519":
            composite(public, label, message, bytes_)
        else:
            assert key["alg"] == "ML-DSA-65"
            ml_dsa(public, label, message, bytes_)
    except InvalidSignature:
        print("invalid")
    else:
        print("valid")


main(*sys.argv[1:])
