//! The use cases around tokens.

use std::sync::Arc;
use std::time::Duration;

use creto_types::{OrgId, PrincipalName, Timestamp};

use crate::keys::jwk;
use crate::principal::organization_id;
use crate::service::Inner;
use crate::token::{self, Actor, Claims, invalid};
use crate::{AgentIdentity, IssuedToken, KeyPurpose, Nhi, NhiError};

/// A token's `iat` may lie this far ahead: the wall clock may have been stepped
/// back since it was issued.
const CLOCK_STEP: Duration = Duration::from_secs(60);

impl Nhi {
    /// Issues a token for an identity that is live now. It lives for `ttl`, at
    /// most as long as the configuration allows and as the chain holds.
    pub fn issue_token(
        &self,
        identity: &AgentIdentity,
        ttl: Option<Duration>,
    ) -> Result<IssuedToken, NhiError> {
        let inner = &self.inner;
        let longest = inner.config.max_token_ttl;
        let ttl = ttl.unwrap_or(inner.config.token_ttl);
        if ttl < Duration::from_secs(1) || ttl > longest {
            return Err(NhiError::Invalid {
                field: "ttl_seconds",
                why: format!("must be 1 to {}", longest.as_secs()),
            });
        }
        // What is signed comes from here, not from the caller's copy.
        let org = identity.org;
        let fresh = match identity.link() {
            Some(hop) => inner.identity_of(org, hop.link.id)?,
            None => inner.human(org, &identity.name)?,
        };
        let now = inner.clock.now();
        fresh.live(now)?;
        let until = now
            .saturating_add(ttl)
            .unwrap_or(Timestamp::MAX)
            .min(fresh.expires_at);
        let (sub, act) = inner.subject_and_actor(&fresh)?;
        let (signer, kid, epoch) = {
            let registry = inner.registry.read();
            let state = registry.org(org)?;
            let epoch = match fresh.link() {
                Some(_) => None,
                None => state.epochs.get(&fresh.name).map(|epoch| epoch.id),
            };
            let signer = state.signer(KeyPurpose::Issuer);
            (signer, state.issuer_kid.clone(), epoch)
        };
        let claims = Claims {
            iss: organization_id(&inner.config.trust_domain, org),
            sub,
            aud: token::AUDIENCE.to_owned(),
            iat: now.as_second(),
            exp: until.as_second(),
            jti: inner.ids.next(),
            creto_org: org,
            creto_link: fresh.link().map(|hop| hop.link.id),
            creto_epoch: epoch,
            act,
        };
        let expires_at = instant(claims.exp)?;
        if expires_at <= now {
            return Err(NhiError::TokenExpired { at: expires_at });
        }
        Ok(IssuedToken {
            token: token::encode(signer.as_ref(), &kid, &claims)?,
            id: claims.jti,
            expires_at,
        })
    }

    /// The longest life of a token.
    #[must_use]
    pub fn max_token_ttl(&self) -> Duration {
        self.inner.config.max_token_ttl
    }

    /// Checks a token and the whole chain behind it.
    pub fn verify_token(&self, token: &str) -> Result<Arc<AgentIdentity>, NhiError> {
        let inner = &self.inner;
        let unverified = token::parse(token, &inner.config.algorithms.signature)?;
        let (org, key) = {
            let registry = inner.registry.read();
            let org = registry
                .issuers
                .get(&unverified.kid)
                .copied()
                .ok_or_else(|| invalid("its key is not known"))?;
            let key = registry.org(org)?.issuer_key(&unverified.kid);
            (org, key.ok_or_else(|| invalid("its key is not known"))?)
        };
        let claims = unverified.verify(&key)?;
        if claims.creto_org != org || claims.iss != organization_id(&inner.config.trust_domain, org)
        {
            return Err(invalid("its key belongs to another organization"));
        }
        if claims.aud != token::AUDIENCE {
            return Err(invalid("it is for another audience"));
        }
        let now = inner.clock.now();
        let expires_at = instant(claims.exp)?;
        if now >= expires_at {
            return Err(NhiError::TokenExpired { at: expires_at });
        }
        let latest = now.saturating_add(CLOCK_STEP).unwrap_or(Timestamp::MAX);
        if instant(claims.iat)? > latest {
            return Err(invalid("it was issued in the future"));
        }
        let mut identity = match claims.creto_link {
            Some(link) => inner.identity_of(org, link)?,
            None => inner.human_by_spiffe_id(org, &claims.sub)?,
        };
        if inner.subject_and_actor(&identity)? != (claims.sub, claims.act) {
            return Err(invalid("it does not describe its delegation"));
        }
        match (claims.creto_link, claims.creto_epoch) {
            (None, epoch) => inner.check_epoch(&identity, epoch)?,
            (Some(_), None) => {}
            (Some(_), Some(_)) => return Err(invalid("an epoch is of a human's own token")),
        }
        identity.token_id = Some(claims.jti);
        identity.expires_at = identity.expires_at.min(expires_at);
        identity.live(now)?;
        Ok(Arc::new(identity))
    }

    /// The keys that tokens are checked with, as a JWK set.
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        let registry = self.inner.registry.read();
        let keys: Vec<serde_json::Value> = registry
            .orgs
            .values()
            .flat_map(|state| {
                let signer = state.signer(KeyPurpose::Issuer);
                let now = jwk(signer.verifying_key(), &state.issuer_kid);
                let former = state.former_issuers.iter();
                std::iter::once(now).chain(former.map(|issuer| jwk(&issuer.key, &issuer.kid)))
            })
            .collect();
        serde_json::json!({ "keys": keys })
    }
}

impl Inner {
    fn human_by_spiffe_id(&self, org: OrgId, id: &str) -> Result<AgentIdentity, NhiError> {
        let name = id
            .rsplit('/')
            .next()
            .and_then(|name| name.parse::<PrincipalName>().ok())
            .ok_or_else(|| invalid("its subject is not a principal"))?;
        self.human(org, &name)
    }

    /// RFC 8693, section 4.1: the principal on whose behalf is acted, which is the
    /// root of the chain, and the actor, which is its end, with those between.
    fn subject_and_actor(
        &self,
        identity: &AgentIdentity,
    ) -> Result<(String, Option<Actor>), NhiError> {
        let registry = self.registry.read();
        let state = registry.org(identity.org)?;
        let id = |name: &PrincipalName| -> Result<String, NhiError> {
            Ok(state.principal(name)?.principal.spiffe_id.clone())
        };
        let subject = id(identity.root())?;
        let delegatees = identity.hops.iter().map(|hop| id(&hop.link.delegatee));
        let delegatees = delegatees.collect::<Result<Vec<_>, _>>()?;
        Ok((subject, Actor::nested(delegatees)))
    }
}

fn instant(second: i64) -> Result<Timestamp, NhiError> {
    Timestamp::from_second(second).map_err(|_| invalid("an instant in it is out of range"))
}
