//! What holds for every input.

use std::sync::LazyLock;

use creto_crypto::{
    AeadAlgorithm, Algorithm as _, AwsLcProvider, CryptoProvider, RootKey, Sealed, Secret,
    Signature, SignatureAlgorithm, SigningKey, VerifyingKey, WrapAlgorithm,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::seeded;

static PROVIDER: LazyLock<AwsLcProvider> = LazyLock::new(|| seeded(42));
static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    PROVIDER
        .generate_signing_key(SignatureAlgorithm::MlDsa65Ed25519)
        .unwrap()
});
static SIGNATURE: LazyLock<Signature> =
    LazyLock::new(|| PROVIDER.sign(&KEY, b"ctx", b"message").unwrap());

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_signed_verifies(context in vec(any::<u8>(), 0..=255), message in vec(any::<u8>(), 0..300)) {
        let signature = PROVIDER.sign(&KEY, &context, &message).unwrap();
        prop_assert!(KEY.verifying_key().verify(&context, &message, &signature).is_ok());
    }

    #[test]
    fn any_flipped_bit_of_a_signature_is_noticed(position in 0..3373_usize, bit in 0..8_u32) {
        let mut bytes = SIGNATURE.as_bytes().to_vec();
        bytes[position] ^= 1 << bit;
        let changed = Signature::from_bytes(SIGNATURE.algorithm(), &bytes).unwrap();
        prop_assert!(KEY.verifying_key().verify(b"ctx", b"message", &changed).is_err());
    }

    #[test]
    fn any_flipped_bit_of_a_key_is_noticed(position in 0..1984_usize, bit in 0..8_u32) {
        let mut bytes = KEY.verifying_key().as_bytes().to_vec();
        bytes[position] ^= 1 << bit;
        let changed = VerifyingKey::from_bytes(KEY.algorithm(), &bytes).unwrap();
        prop_assert!(changed.verify(b"ctx", b"message", &SIGNATURE).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_verify_nor_panic(bytes in vec(any::<u8>(), 3373), key in vec(any::<u8>(), 1984)) {
        let signature = Signature::from_bytes(KEY.algorithm(), &bytes).unwrap();
        let key = VerifyingKey::from_bytes(KEY.algorithm(), &key).unwrap();
        prop_assert!(key.verify(b"", b"m", &signature).is_err());
        prop_assert!(KEY.verifying_key().verify(b"", b"m", &signature).is_err());
    }

    #[test]
    fn arbitrary_json_never_panics(text in ".{0,200}") {
        let _ = serde_json::from_str::<VerifyingKey>(&text);
        let _ = serde_json::from_str::<Signature>(&text);
        let _ = RootKey::from_hex(&text);
    }

    #[test]
    fn sealing_and_wrapping_round_trip(data in vec(any::<u8>(), 0..500), aad in vec(any::<u8>(), 0..50), purpose in ".{0,40}") {
        for algorithm in AeadAlgorithm::ALL {
            let key = PROVIDER.generate_aead_key(*algorithm).unwrap();
            let sealed = PROVIDER.seal(&key, &aad, &data).unwrap();
            let json = serde_json::to_string(&sealed).unwrap();
            let sealed: Sealed = serde_json::from_str(&json).unwrap();
            let opened = PROVIDER.open(&key, &aad, &sealed).unwrap();
            prop_assert_eq!(opened.expose(), &data[..]);
        }
        let root = RootKey::from_hex(&"5a".repeat(32)).unwrap();
        for algorithm in WrapAlgorithm::ALL {
            let secret = Secret::copy_of(&data);
            let wrapped = root.wrap(&*PROVIDER, *algorithm, &purpose, &secret).unwrap();
            let opened = root.unwrap(&purpose, &wrapped).unwrap();
            prop_assert_eq!(opened.expose(), &data[..]);
        }
    }
}
