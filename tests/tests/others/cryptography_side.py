"""Does with PyPI's `cryptography` what the test names on standard input, and prints what
came of it. Everything here is that package's own interface."""

import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

# draft-ietf-lamps-pq-composite-sigs
PREFIX = b"CompositeAlgorithmSignatures2025"
LABEL = b"COMPSIG-MLDSA65-Ed25519-SHA512"
ML_DSA_PUBLIC, ML_DSA_SIGNATURE = 1952, 3309


def representative(context, message):
    return PREFIX + LABEL + bytes([len(context)]) + context + hashlib.sha512(message).digest()


def raw(public):
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


class Ed25519:
    @staticmethod
    def sign(seed, context, message):
        key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
        return raw(key.public_key()), key.sign(message)

    @staticmethod
    def verify(public, context, message, signature):
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)


class MlDsa:
    def __init__(self, private, public):
        self.private, self.public = private, public

    def sign(self, seed, context, message):
        key = self.private.from_seed_bytes(seed)
        return raw(key.public_key()), key.sign(message, context)

    def verify(self, public, context, message, signature):
        self.public.from_public_bytes(public).verify(signature, message, context)


ML_DSA_44 = MlDsa(mldsa.MLDSA44PrivateKey, mldsa.MLDSA44PublicKey)
ML_DSA_65 = MlDsa(mldsa.MLDSA65PrivateKey, mldsa.MLDSA65PublicKey)


class Composite:
    @staticmethod
    def sign(seed, context, message):
        message = representative(context, message)
        ml_public, ml_signature = ML_DSA_65.sign(seed[:32], LABEL, message)
        ed_public, ed_signature = Ed25519.sign(seed[32:], b"", message)
        return ml_public + ed_public, ml_signature + ed_signature

    @staticmethod
    def verify(public, context, message, signature):
        message = representative(context, message)
        half = signature[:ML_DSA_SIGNATURE]
        ML_DSA_65.verify(public[:ML_DSA_PUBLIC], LABEL, message, half)
        Ed25519.verify(public[ML_DSA_PUBLIC:], b"", message, signature[ML_DSA_SIGNATURE:])


class MlKem:
    def __init__(self, private, public):
        self.private, self.public = private, public

    def open(self, seed, ciphertext):
        key = self.private.from_seed_bytes(seed)
        return raw(key.public_key()), key.decapsulate(ciphertext)

    def send(self, public):
        secret, ciphertext = self.public.from_public_bytes(public).encapsulate()
        return ciphertext, secret


class XWing:
    """The combiner of draft-connolly-cfrg-xwing-kem over this package's halves."""

    mlkem = MlKem(mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PublicKey)

    @staticmethod
    def combine(ml_secret, secret, sent, public):
        return hashlib.sha3_256(ml_secret + secret + sent + public + b"\\.//^\\").digest()

    def open(self, seed, ciphertext):
        expanded = hashlib.shake_256(seed).digest(96)
        key = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
        ml_public, ml_secret = self.mlkem.open(expanded[:64], ciphertext[:1088])
        sent, public = ciphertext[1088:], raw(key.public_key())
        secret = key.exchange(x25519.X25519PublicKey.from_public_bytes(sent))
        return ml_public + public, self.combine(ml_secret, secret, sent, public)

    def send(self, public):
        ml_ciphertext, ml_secret = self.mlkem.send(public[:1184])
        key = x25519.X25519PrivateKey.generate()
        sent = raw(key.public_key())
        secret = key.exchange(x25519.X25519PublicKey.from_public_bytes(public[1184:]))
        return ml_ciphertext + sent, self.combine(ml_secret, secret, sent, public[1184:])


SIGNATURES = {
    "Ed25519": Ed25519,
    "ML-DSA-44": ML_DSA_44,
    "ML-DSA-65": ML_DSA_65,
    "ML-DSA-65-Ed25519": Composite,
}
KEMS = {
    "ML-KEM-768": MlKem(mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PublicKey),
    "ML-KEM-1024": MlKem(mlkem.MLKEM1024PrivateKey, mlkem.MLKEM1024PublicKey),
    "X-Wing": XWing(),
}
AEADS = {"A256GCM": AESGCM, "ChaCha20-Poly1305": ChaCha20Poly1305}
HASHES = {
    "sha-256": hashes.SHA256,
    "sha-384": hashes.SHA384,
    "sha-512": hashes.SHA512,
    "sha3-256": hashes.SHA3_256,
}
KDFS = {
    "HKDF-SHA256": hashes.SHA256,
    "HKDF-SHA384": hashes.SHA384,
    "HKDF-SHA512": hashes.SHA512,
}


def wrapped(algorithm, root, salt, purpose):
    """A cipher, a nonce and associated data, as docs/formats/keys-and-tokens.md says."""
    if algorithm == "HKDF-SHA256+A256GCM":
        info = b"creto/wrapped-key/v1\0" + purpose
    else:
        info = b"creto/wrapped-key/v2\0" + algorithm.encode() + b"\0" + purpose
    kdf, cipher = algorithm.split("+")
    okm = HKDF(KDFS[kdf](), 44, salt, info).derive(root)
    return AEADS[cipher](okm[:32]), okm[32:], info


def answer(task):
    data = {name: bytes.fromhex(text) for name, text in task.items() if name not in ("do", "alg")}
    algorithm = task["alg"]
    match task["do"]:
        case "sign":
            public, signature = SIGNATURES[algorithm].sign(**data)
            return {"public": public, "signature": signature}
        case "verify":
            try:
                SIGNATURES[algorithm].verify(**data)
            except InvalidSignature:
                return {"valid": b"\x00"}
            return {"valid": b"\x01"}
        case "open":
            public, secret = KEMS[algorithm].open(**data)
            return {"public": public, "secret": secret}
        case "send":
            ciphertext, secret = KEMS[algorithm].send(**data)
            return {"ciphertext": ciphertext, "secret": secret}
        case "seal":
            cipher = AEADS[algorithm](data["key"])
            sealed = cipher.encrypt(data["nonce"], data["plaintext"], data["aad"])
            return {"ciphertext": sealed}
        case "unseal":
            cipher = AEADS[algorithm](data["key"])
            opened = cipher.decrypt(data["nonce"], data["ciphertext"], data["aad"])
            return {"plaintext": opened}
        case "hash":
            digest = hashes.Hash(HASHES[algorithm]())
            digest.update(data["data"])
            return {"digest": digest.finalize()}
        case "wrap":
            cipher, nonce, info = wrapped(algorithm, data["root"], data["salt"], data["purpose"])
            return {"ciphertext": cipher.encrypt(nonce, data["secret"], info)}
        case "unwrap":
            cipher, nonce, info = wrapped(algorithm, data["root"], data["salt"], data["purpose"])
            return {"secret": cipher.decrypt(nonce, data["ciphertext"], info)}
        case "derive":
            kdf = HKDF(KDFS[algorithm](), 77, data["salt"], data["info"])
            return {"okm": kdf.derive(data["secret"])}


answers = [answer(task) for task in json.load(sys.stdin)]
print(json.dumps([{name: value.hex() for name, value in each.items()} for each in answers]))
