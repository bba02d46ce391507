//! What is loaded in part, beside what is loaded as a whole.

use creto_types::{OrgId, PrincipalName};

use crate::ports::{Part, Snapshot};
use crate::test_util::World;

/// Each part is what the whole has of it.
pub(super) async fn run(world: &World) {
    let store = &world.store;
    let all = store.load().await.expect("it loads");
    let mut kinds = [0; 6];
    for organization in &all.organizations {
        let part = Part::Organization(organization.organization.id);
        let expected = Snapshot {
            organizations: vec![organization.clone()],
            ..Snapshot::default()
        };
        assert_eq!(store.load_part(part).await.expect("it loads"), expected);
    }
    for stored in &all.principals {
        let (org, name) = (stored.principal.org, &stored.principal.name);
        let part = store.load_part(Part::Principal(org, name.clone()));
        let part = part.await.expect("it loads");
        let mut expected = Snapshot {
            organizations: Vec::new(),
            principals: vec![stored.clone()],
            links: Vec::new(),
            ..all.clone()
        };
        let of = |whose: OrgId, named: &PrincipalName| (whose, named) == (org, name);
        expected.epochs.retain(|row| of(row.org, &row.human));
        expected
            .suspensions
            .retain(|row| of(row.org, &row.principal));
        expected.roles.retain(|row| of(row.org, &row.human));
        expected
            .expulsions
            .retain(|row| of(row.org, &row.principal));
        expected
            .former_keys
            .retain(|row| of(row.org, &row.principal));
        let revocations = &mut expected.key_revocations;
        revocations.retain(|row| of(row.org, &row.principal));
        assert_eq!(part, expected);
        let rows = [
            part.epochs.len(),
            part.suspensions.len(),
            part.roles.len(),
            part.expulsions.len(),
            part.former_keys.len(),
            part.key_revocations.len(),
        ];
        for (seen, rows) in kinds.iter_mut().zip(rows) {
            *seen += rows;
        }
    }
    assert!(kinds.iter().all(|seen| *seen > 0), "{kinds:?}");
    for link in &all.links {
        let id = link.signed.link.id;
        let part = store.load_part(Part::Link(link.signed.link.org, id));
        let expected = Snapshot {
            links: vec![link.clone()],
            ..Snapshot::default()
        };
        assert_eq!(part.await.expect("it loads"), expected);
    }
    let nobody = world.ids.next();
    let name = &all.principals.first().expect("there is one").principal.name;
    let link = all.links.first().expect("there is one").signed.link.id;
    for part in [
        Part::Organization(nobody),
        Part::Principal(nobody, name.clone()),
        Part::Link(nobody, link),
    ] {
        let nothing = store.load_part(part).await.expect("it loads");
        assert_eq!(nothing, Snapshot::default());
    }
}
