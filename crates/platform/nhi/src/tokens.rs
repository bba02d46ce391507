//! The use cases around tokens.

use std::sync::Arc;
use std::time::Duration;

use creto_crypto::Thumbprint;
use creto_types::{OrgId, PrincipalName, Timestamp};

use crate::instance::{instance_id, instance_in};
use crate::principal::organization_id;
use crate::service::Inner;
use crate::token::{self, Actor, Claims, Confirmation, invalid};
use crate::{
    AgentIdentity, DpopError, Hop, InstanceName, IssuedToken, KeyPurpose, Narrowed, Nhi, NhiError,
    TokenEnds,
};

/// A token's `iat` may lie this far ahead: the wall clock may have been stepped
/// back since it was issued.
const CLOCK_STEP: Duration = Duration::from_secs(60);

impl Nhi {
    /// Issues a token for an identity that is live now, for its instance where it names
    /// one, and bound to its key where it names one. It lives for `ttl`, at most as long
    /// as the configuration allows and as the chain holds.
    pub fn issue_token(
        &self,
        identity: &AgentIdentity,
        ttl: Option<Duration>,
    ) -> Result<IssuedToken, NhiError> {
        self.inner.issue(identity, ttl, Timestamp::MAX)
    }

    /// Issues another token for the delegation of a verified one (RFC 8693), bound to
    /// the instance and to the key where one is named. It never outlives that one, so that
    /// who holds a token cannot hold it for longer by itself, and is bound to a key when
    /// that one is.
    pub fn exchange_token(
        &self,
        held: &AgentIdentity,
        instance: Option<InstanceName>,
        key: Option<Thumbprint>,
        ttl: Option<Duration>,
    ) -> Result<(AgentIdentity, IssuedToken), NhiError> {
        if held.link().is_none() {
            return Err(NhiError::Invalid {
                field: "subject_token",
                why: format!("is of `{}`, who acts by no delegation", held.name),
            });
        }
        let identity = match instance {
            Some(instance) => held.of_instance(instance)?,
            None => held.clone(),
        }
        .confirmed_by(key);
        let issued = self.inner.issue(&identity, ttl, held.expires_at)?;
        Ok((identity, issued))
    }

    /// The longest life of a token.
    #[must_use]
    pub fn max_token_ttl(&self) -> Duration {
        self.inner.config.max_token_ttl
    }

    /// Checks a bearer token and the whole chain behind it. One that is bound to a key is
    /// for [`Nhi::verify_bound_token`].
    pub fn verify_token(&self, token: &str) -> Result<Arc<AgentIdentity>, NhiError> {
        let identity = self.inner.identity_in(token)?;
        if identity.confirmation().is_some() {
            return Err(DpopError::ProofRequired.into());
        }
        self.inner.may_be_unbound(&identity)?;
        Ok(Arc::new(identity))
    }
}

impl Inner {
    /// Whose token it is and what it is bound to; that its holder has the key, if it is
    /// bound to one, is not known yet.
    pub(crate) fn identity_in(&self, token: &str) -> Result<AgentIdentity, NhiError> {
        let unverified = token::parse(token, &self.config.algorithms.now().signature)?;
        let (org, (key, retirement)) = {
            let registry = self.registry.read();
            let org = registry
                .issuers
                .get(&unverified.kid)
                .copied()
                .ok_or_else(|| invalid("its key is not known"))?;
            let key = registry.org(org)?.issuer_key(&unverified.kid);
            (org, key.ok_or_else(|| invalid("its key is not known"))?)
        };
        let claims = unverified.verify(&key)?;
        if claims.creto_org != org || claims.iss != organization_id(&self.config.trust_domain, org)
        {
            return Err(invalid("its key belongs to another organization"));
        }
        if claims.aud != token::AUDIENCE {
            return Err(invalid("it is for another audience"));
        }
        let now = self.clock.now();
        let expires_at = instant(claims.exp)?;
        if now >= expires_at {
            return Err(NhiError::TokenExpired { at: expires_at });
        }
        let latest = now.saturating_add(CLOCK_STEP).unwrap_or(Timestamp::MAX);
        if instant(claims.iat)? > latest {
            return Err(invalid("it was issued in the future"));
        }
        let mut identity = match claims.creto_link {
            Some(link) => self.identity_of(org, link)?,
            None => self.human_by_spiffe_id(org, &claims.sub)?,
        };
        let (subject, actors) = self.subject_and_actors(&identity)?;
        let instance = described(&claims, &subject, actors, &identity.hops)?;
        let ends = TokenEnds::of_issuer(retirement);
        match (claims.creto_link, claims.creto_epoch) {
            (None, epoch) => {
                identity.ends = self.check_epoch(&identity, epoch, ends)?;
            }
            (Some(_), None) => identity.ends = ends,
            (Some(_), Some(_)) => return Err(invalid("an epoch is of a human's own token")),
        }
        let narrowed = Narrowed {
            instance,
            epoch: claims.creto_epoch,
            confirmation: claims.cnf.map(|confirmation| confirmation.jkt),
        };
        identity.narrowed = narrowed.boxed();
        identity.token_id = Some(claims.jti);
        identity.expires_at = identity.expires_at.min(expires_at);
        identity.live(now)?;
        Ok(identity)
    }

    fn issue(
        &self,
        identity: &AgentIdentity,
        ttl: Option<Duration>,
        at_most_until: Timestamp,
    ) -> Result<IssuedToken, NhiError> {
        let longest = self.config.max_token_ttl;
        let ttl = ttl.unwrap_or(self.config.token_ttl);
        if ttl < Duration::from_secs(1) || ttl > longest {
            return Err(NhiError::Invalid {
                field: "ttl_seconds",
                why: format!("must be 1 to {}", longest.as_secs()),
            });
        }
        if identity.confirmation().is_none() {
            self.may_be_unbound(identity)?;
        }
        // What is signed comes from here, not from the caller's copy.
        let org = identity.org;
        let fresh = match identity.link() {
            Some(hop) => self.identity_of(org, hop.link.id)?,
            None => self.human(org, &identity.name)?,
        };
        let fresh = match identity.instance() {
            Some(instance) => fresh.of_instance(instance.clone())?,
            None => fresh,
        };
        let now = self.clock.now();
        fresh.live(now)?;
        // What ended since it was checked makes nothing new.
        identity.ends.holds(fresh.standing.first())?;
        let until = now
            .saturating_add(ttl)
            .unwrap_or(Timestamp::MAX)
            .min(fresh.expires_at)
            .min(at_most_until);
        let (sub, mut actors) = self.subject_and_actors(&fresh)?;
        if let (Some(instance), Some(acting)) = (fresh.instance(), actors.last_mut()) {
            *acting = instance_id(acting, instance);
        }
        let (signer, kid, epoch) = {
            let registry = self.registry.read();
            let state = registry.org(org)?;
            let epoch = match fresh.link() {
                Some(_) => None,
                None => {
                    let current = state.epochs.get(&fresh.name);
                    // What was superseded since it was checked makes nothing new.
                    if let Some(current) = current
                        && identity.token_id.is_some()
                        && identity.epoch() != Some(current.id)
                    {
                        return Err(NhiError::TokenSuperseded { at: current.since });
                    }
                    current.map(|epoch| epoch.id)
                }
            };
            let signer = state.signer(KeyPurpose::Issuer);
            (signer, state.issuer_kid.clone(), epoch)
        };
        let acting = actors.last().cloned();
        let mut claims = Claims {
            iss: organization_id(&self.config.trust_domain, org),
            sub,
            aud: token::AUDIENCE.to_owned(),
            iat: now.as_second(),
            exp: until.as_second(),
            jti: self.ids.next(),
            creto_org: org,
            creto_link: fresh.link().map(|hop| hop.link.id),
            creto_epoch: epoch,
            act: Actor::nested(actors),
            creto_chain: None,
            cnf: identity.confirmation().map(|jkt| Confirmation { jkt }),
        };
        let expires_at = instant(claims.exp)?;
        if expires_at <= now {
            return Err(NhiError::TokenExpired { at: expires_at });
        }
        if !token::fits_header(signer.as_ref(), &kid, &claims)? && acting.is_some() {
            claims.act = Actor::nested(acting);
            claims.creto_chain = Some(token::chain_digest(&fresh.hops)?);
        }
        Ok(IssuedToken {
            token: token::encode(signer.as_ref(), &kid, &claims)?,
            id: claims.jti,
            expires_at,
        })
    }

    fn human_by_spiffe_id(&self, org: OrgId, id: &str) -> Result<AgentIdentity, NhiError> {
        let name = id
            .rsplit('/')
            .next()
            .and_then(|name| name.parse::<PrincipalName>().ok())
            .ok_or_else(|| invalid("its subject is not a principal"))?;
        self.human(org, &name)
    }

    /// RFC 8693, section 4.1: the principal on whose behalf is acted, which is the
    /// root of the chain, and those who act, by SPIFFE id, the last one last.
    fn subject_and_actors(
        &self,
        identity: &AgentIdentity,
    ) -> Result<(String, Vec<String>), NhiError> {
        let registry = self.registry.read();
        let state = registry.org(identity.org)?;
        let id = |name: &PrincipalName| -> Result<String, NhiError> {
            Ok(state.principal(name)?.principal.spiffe_id.clone())
        };
        let subject = id(identity.root())?;
        let delegatees = identity.hops.iter().map(|hop| id(&hop.link.delegatee));
        Ok((subject, delegatees.collect::<Result<_, _>>()?))
    }
}

/// The instance that acts, where the claims name one, if they describe this chain:
/// by all its actors, or by the last one and the digest of its links.
fn described(
    claims: &Claims,
    subject: &str,
    mut actors: Vec<String>,
    hops: &[Hop],
) -> Result<Option<InstanceName>, NhiError> {
    let other = || invalid("it does not describe its delegation");
    if claims.sub != subject {
        return Err(other());
    }
    let Some(given) = &claims.act else {
        return match (actors.is_empty(), &claims.creto_chain) {
            (true, None) => Ok(None),
            _ => Err(other()),
        };
    };
    let agent = actors.pop().ok_or_else(other)?;
    let instance = instance_in(&given.sub, &agent).ok_or_else(other)?;
    let before = match &claims.creto_chain {
        None => actors,
        Some(digest) if *digest == token::chain_digest(hops)? => Vec::new(),
        Some(_) => return Err(other()),
    };
    let acting = std::iter::once(given.sub.clone());
    if Actor::nested(before.into_iter().chain(acting)).as_ref() != Some(given) {
        return Err(other());
    }
    Ok(instance)
}

fn instant(second: i64) -> Result<Timestamp, NhiError> {
    Timestamp::from_second(second).map_err(|_| invalid("an instant in it is out of range"))
}
