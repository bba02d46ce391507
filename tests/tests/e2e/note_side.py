"""Checks the lines of a signed note with PyPI's `cryptography` alone, as docs/formats/log.md
and C2SP tlog-cosignature say. Reads `{"note": text, "keys": [verifier key]}` and prints the
algorithm of each key whose line is there, a line each; a bad signature ends it."""

import base64
import hashlib
import json
import sys

from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

CONTEXT = b"creto/checkpoint/v1"
COMPOSITE = b"ML-DSA-65-Ed25519"
ML_DSA = b"ML-DSA-65"


def plain(public, message, signature):
    ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)


def ml_dsa(public, message, signature, context=CONTEXT):
    mldsa.MLDSA65PublicKey.from_public_bytes(public).verify(signature, message, context)


def composite(public, message, signature):
    """draft-ietf-lamps-pq-composite-sigs: both halves sign M'."""
    label = b"COMPSIG-MLDSA65-Ed25519-SHA512"
    bound = bytes([len(CONTEXT)]) + CONTEXT + hashlib.sha512(message).digest()
    message = b"CompositeAlgorithmSignatures2025" + label + bound
    ml_dsa(public[:1952], message, signature[:3309], label)
    plain(public[1952:], message, signature[3309:])


def opaque(name):
    return bytes([len(name)]) + name


def cosigned(name):
    """What checks a witness's line, which begins with a time in eight bytes."""

    def by_ed25519(public, text, line):
        time = int.from_bytes(line[:8], "big")
        plain(public, b"cosignature/v1\ntime %d\n" % time + text, line[8:])

    def by_ml_dsa_44(public, text, line):
        origin, size, root = text.split(b"\n")[:3]
        tree = bytes(8) + int(size).to_bytes(8, "big") + base64.b64decode(root)
        message = b"subtree/v1\n\0" + opaque(name) + line[:8] + opaque(origin) + tree
        mldsa.MLDSA44PublicKey.from_public_bytes(public).verify(line[8:], message)

    return by_ed25519, by_ml_dsa_44


def material(name, encoded):
    """What checks by the key, its algorithm and its bytes."""
    kind, rest = encoded[0], encoded[1:]
    by_ed25519, by_ml_dsa_44 = cosigned(name.encode())
    if kind == 0x01:
        return plain, b"Ed25519", rest
    if kind == 0x04:
        return by_ed25519, b"cosigned by Ed25519", rest
    if kind == 0x06:
        return by_ml_dsa_44, b"cosigned by ML-DSA-44", rest
    assert kind == 0xFF
    for check, name, length in [(composite, COMPOSITE, 1984), (ml_dsa, ML_DSA, 1952)]:
        if rest.startswith(name) and len(rest) == len(name) + length:
            return check, name, rest[len(name) :]
    raise ValueError("a key of another algorithm")


def main():
    asked = json.load(sys.stdin)
    text, _, block = asked["note"].rpartition("\n\n")
    text = (text + "\n").encode()
    lines = [line.split(" ") for line in block.splitlines()]
    for key in asked["keys"]:
        name, number, encoded = key.split("+", 2)
        encoded = base64.b64decode(encoded)
        made = hashlib.sha256(name.encode() + b"\n" + encoded).digest()[:4]
        assert made.hex() == number
        for _, signer, line in lines:
            line = base64.b64decode(line)
            if signer == name and line[:4] == made:
                check, algorithm, public = material(name, encoded)
                check(public, text, line[4:])
                print(algorithm.decode())


main()
