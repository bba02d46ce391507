//! What people learn of the algorithms that are in force.

use creto_crypto::{AeadAlgorithm, Allowed, AllowedAlgorithms};
use creto_governor::{IdempotencyKey, RotationRequest};

use crate::policies::code;
use crate::world::World;

#[tokio::test]
async fn whoever_rotates_is_told_when_the_configuration_says_something_else() {
    let world = World::new().await;
    let governor = &world.governor;
    let rotate = async |key: &str| {
        let request = RotationRequest {
            reason: "a reason".to_owned(),
        };
        let key = IdempotencyKey::new(key).expect("a key");
        let rotated = governor.rotate_keys(&world.owner, request, Some(key));
        rotated.await.expect("rotates")
    };
    let same = governor.algorithms(&world.owner).await.expect("is told");
    assert_eq!(same.in_force.signatures.new, "ML-DSA-65-Ed25519");
    assert_eq!(same.in_force.sealing.accepted, ["A256GCM"]);
    assert_eq!(same.configured, None);
    assert!(!rotate("first").await.configuration_differs);
    let chacha = AeadAlgorithm::ChaCha20Poly1305;
    let aes = AeadAlgorithm::Aes256Gcm;
    world.algorithms.configure(AllowedAlgorithms {
        aead: Allowed::new(chacha, [chacha, aes]).expect("it has the new one"),
        ..AllowedAlgorithms::default()
    });
    let other = governor.algorithms(&world.owner).await.expect("is told");
    assert_eq!(other.in_force, same.in_force);
    let configured = other.configured.expect("it says something else");
    assert_eq!(configured.sealing.new, "ChaCha20-Poly1305");
    assert!(rotate("second").await.configuration_differs);
    // The answer of before is given again as it was.
    assert!(!rotate("first").await.configuration_differs);
}

#[tokio::test]
async fn an_agent_does_not_see_the_algorithms_of_the_deployment() {
    let world = World::new().await;
    let told = world.governor.algorithms(&world.bot).await;
    assert_eq!(code(told), "forbidden");
}
