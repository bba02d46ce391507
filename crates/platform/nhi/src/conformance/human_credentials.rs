//! What a kind of credentials of people promises.

use creto_errors::{Class, Classify as _};
use creto_types::OrgId;

use crate::ports::{HumanCredentials, Presented};
use crate::test_util::{World, commit, name};
use crate::{AgentIdentity, PrincipalType};

const CHALLENGE: &str = "PGrt3_bB2P3cZl1Pp0RZk0vXq0y3mT4iJxwGq5m4b9E";

/// Runs the whole suite over credentials of the people of this world. `give` makes one of
/// now for a human and answers what its holder presents to a challenge.
pub async fn human_credentials(
    world: &World,
    credentials: &dyn HumanCredentials,
    give: impl Fn(OrgId, &str, &str) -> String,
) {
    let org = world.organization("olga").await;
    let other = world.organization("olga").await;
    world.principal(org, "henri", PrincipalType::Human).await;
    let log_in = async |credential: &str| {
        let presented = Presented {
            credential,
            challenge: CHALLENGE,
        };
        credentials.verify(presented).await
    };
    let refused = async |credential: &str| {
        let refused = log_in(credential).await.expect_err("it proves nothing");
        assert_eq!(refused.class(), Class::Security, "{refused:?}");
    };
    let is = |identity: &AgentIdentity, org: OrgId, human: &str| {
        assert_eq!((identity.org, identity.name.as_str()), (org, human));
        assert_eq!(identity.kind, PrincipalType::Human);
        assert!(identity.hops.is_empty(), "nobody delegated to a person");
        identity.live(world.now()).expect("it was verified now");
        let end = identity.live(identity.expires_at);
        end.expect_err("it ends by itself");
    };

    let text = give(org, "henri", CHALLENGE);
    let henri = log_in(&text).await.expect("it is his");
    is(&henri, org, "henri");
    let owners = give(other, "olga", CHALLENGE);
    is(&log_in(&owners).await.expect("it is hers"), other, "olga");

    let shorter = text.get(..text.len() - 1).unwrap_or_default();
    for wrong in ["", "henri", shorter, &format!("{text}x"), CHALLENGE] {
        refused(wrong).await;
    }

    let nhi = &world.nhi;
    let he = name("henri");
    let suspended = nhi.suspend(org, &he, world.now(), commit(org, "principal.suspended"));
    suspended.await.expect("he is no owner");
    henri.live(world.now()).expect_err("he is suspended");
    if let Ok(again) = log_in(&text).await {
        again.live(world.now()).expect_err("he is suspended");
    }
    let resumed = nhi.resume(org, &he, commit(org, "principal.resumed"));
    resumed.await.expect("he was suspended");
    henri.live(world.now()).expect("it was not for ever");

    let record = commit(org, "credentials.superseded");
    let superseded = nhi.supersede_credentials(org, &he, world.now(), record);
    superseded.await.expect("he is a person");
    henri.live(world.now()).expect_err("it was superseded");
    refused(&text).await;
    let anew = log_in(&give(org, "henri", CHALLENGE)).await;
    is(&anew.expect("it is of after"), org, "henri");

    let record = commit(org, "principal.revoked");
    let revoked = nhi.revoke_principal(org, &he, world.now(), record);
    let text = give(org, "henri", CHALLENGE);
    revoked.await.expect("he is no owner");
    if let Ok(again) = log_in(&text).await {
        again.live(world.now()).expect_err("he left");
    }
}
