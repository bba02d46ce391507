// Does with npm's `@noble/post-quantum`, and the curves, ciphers and hashes it stands
// on, what the test names on standard input, and prints what came of it.

import { webcrypto } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// Node.js 18, which Debian 12 has, keeps its random numbers to itself.
globalThis.crypto ??= webcrypto;

// Packages lie beside the target folder, where a bare name of this file leads nowhere.
const require = createRequire(process.env.NODE_PACKAGES + "/");
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { ml_dsa44, ml_dsa65 } = await load("@noble/post-quantum/ml-dsa.js");
const { ml_kem768, ml_kem1024 } = await load("@noble/post-quantum/ml-kem.js");
const { ml_kem768_x25519 } = await load("@noble/post-quantum/hybrid.js");
const { ed25519 } = await load("@noble/curves/ed25519.js");
const { gcm } = await load("@noble/ciphers/aes.js");
const { chacha20poly1305 } = await load("@noble/ciphers/chacha.js");
const { sha256, sha384, sha512 } = await load("@noble/hashes/sha2.js");
const { sha3_256 } = await load("@noble/hashes/sha3.js");
const { blake3 } = await load("@noble/hashes/blake3.js");
const { hkdf } = await load("@noble/hashes/hkdf.js");
const { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } = await load("@noble/hashes/utils.js");

// draft-ietf-lamps-pq-composite-sigs
const PREFIX = utf8ToBytes("CompositeAlgorithmSignatures2025");
const LABEL = utf8ToBytes("COMPSIG-MLDSA65-Ed25519-SHA512");
const ML_DSA_PUBLIC = 1952;
const ML_DSA_SIGNATURE = 3309;

const representative = (context, message) =>
  concatBytes(PREFIX, LABEL, Uint8Array.of(context.length), context, sha512(message));

const mlDsa = (library) => ({
  sign: ({ seed, context, message }) => {
    const keys = library.keygen(seed);
    return [keys.publicKey, library.sign(message, keys.secretKey, { context })];
  },
  verify: ({ public: key, context, message, signature }) =>
    library.verify(signature, message, key, { context }),
});

const SIGNATURES = {
  Ed25519: {
    sign: ({ seed, message }) => [ed25519.getPublicKey(seed), ed25519.sign(message, seed)],
    verify: ({ public: key, message, signature }) => ed25519.verify(signature, message, key),
  },
  "ML-DSA-44": mlDsa(ml_dsa44),
  "ML-DSA-65": mlDsa(ml_dsa65),
  "ML-DSA-65-Ed25519": {
    sign: ({ seed, context, message }) => {
      const both = representative(context, message);
      const keys = ml_dsa65.keygen(seed.slice(0, 32));
      const own = seed.slice(32);
      return [
        concatBytes(keys.publicKey, ed25519.getPublicKey(own)),
        concatBytes(
          ml_dsa65.sign(both, keys.secretKey, { context: LABEL }),
          ed25519.sign(both, own),
        ),
      ];
    },
    verify: ({ public: key, context, message, signature }) => {
      const both = representative(context, message);
      const [ml, ed] = [signature.slice(0, ML_DSA_SIGNATURE), signature.slice(ML_DSA_SIGNATURE)];
      return (
        ml_dsa65.verify(ml, both, key.slice(0, ML_DSA_PUBLIC), { context: LABEL }) &&
        ed25519.verify(ed, both, key.slice(ML_DSA_PUBLIC))
      );
    },
  },
};
const KEMS = { "ML-KEM-768": ml_kem768, "ML-KEM-1024": ml_kem1024, "X-Wing": ml_kem768_x25519 };
const AEADS = { A256GCM: gcm, "ChaCha20-Poly1305": chacha20poly1305 };
const HASHES = {
  "sha-256": sha256,
  "sha-384": sha384,
  "sha-512": sha512,
  "sha3-256": sha3_256,
  blake3,
};
const KDFS = { "HKDF-SHA256": sha256, "HKDF-SHA384": sha384, "HKDF-SHA512": sha512 };

// A cipher by which a key is wrapped, as docs/formats/keys-and-tokens.md says.
const wrapping = (algorithm, { root, salt, purpose }) => {
  const label =
    algorithm === "HKDF-SHA256+A256GCM"
      ? "creto/wrapped-key/v1\0"
      : `creto/wrapped-key/v2\0${algorithm}\0`;
  const info = concatBytes(utf8ToBytes(label), purpose);
  const [kdf, cipher] = algorithm.split("+");
  const okm = hkdf(KDFS[kdf], root, salt, info, 44);
  return AEADS[cipher](okm.slice(0, 32), okm.slice(32), info);
};

const WORK = {
  sign: (algorithm, data) => {
    const [key, signature] = SIGNATURES[algorithm].sign(data);
    return { public: key, signature };
  },
  verify: (algorithm, data) => ({
    valid: Uint8Array.of(SIGNATURES[algorithm].verify(data) ? 1 : 0),
  }),
  open: (algorithm, { seed, ciphertext }) => {
    const keys = KEMS[algorithm].keygen(seed);
    const secret = KEMS[algorithm].decapsulate(ciphertext, keys.secretKey);
    return { public: keys.publicKey, secret };
  },
  send: (algorithm, { public: key }) => {
    const { cipherText, sharedSecret } = KEMS[algorithm].encapsulate(key);
    return { ciphertext: cipherText, secret: sharedSecret };
  },
  seal: (algorithm, { key, nonce, aad, plaintext }) => ({
    ciphertext: AEADS[algorithm](key, nonce, aad).encrypt(plaintext),
  }),
  unseal: (algorithm, { key, nonce, aad, ciphertext }) => ({
    plaintext: AEADS[algorithm](key, nonce, aad).decrypt(ciphertext),
  }),
  wrap: (algorithm, { secret, ...data }) => ({
    ciphertext: wrapping(algorithm, data).encrypt(secret),
  }),
  unwrap: (algorithm, { ciphertext, ...data }) => ({
    secret: wrapping(algorithm, data).decrypt(ciphertext),
  }),
  hash: (algorithm, { data }) => ({ digest: HASHES[algorithm](data) }),
  derive: (algorithm, { salt, secret, info }) => ({
    okm: hkdf(KDFS[algorithm], secret, salt, info, 77),
  }),
};

const mapped = (object, change) =>
  Object.fromEntries(Object.entries(object).map(([name, value]) => [name, change(value)]));

const tasks = JSON.parse(readFileSync(0, "utf8"));
const answers = tasks.map(({ do: work, alg, ...data }) =>
  mapped(WORK[work](alg, mapped(data, hexToBytes)), bytesToHex),
);
console.log(JSON.stringify(answers));
