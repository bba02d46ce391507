//! What ends a token besides its dates and the end of the authority it is for: a
//! supersession of its person's credentials, and the retirement of the issuer that signed
//! it. An identity carries this along, so that whoever was let in by a token acts by it no
//! longer than it holds.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{IdentityError, Standing};

/// Whether an issuer was retired. Shared by every identity whose token it signed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retirement(Arc<AtomicBool>);

impl Retirement {
    /// To be told before [`crate::Authority`] is.
    pub(crate) fn retire(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What ends the token of an identity. Nothing, as by default, for one without a token.
#[derive(Clone, Debug, Default)]
pub struct TokenEnds {
    issuer: Option<Retirement>,
    /// How often the person's credentials had been superseded; of an agent's token, which
    /// no supersession ends, nothing. Counted from one, for the space that takes.
    supersessions: Option<NonZeroU64>,
}

impl TokenEnds {
    pub(crate) fn of_issuer(issuer: Retirement) -> Self {
        Self {
            issuer: Some(issuer),
            supersessions: None,
        }
    }

    /// Ends with the next supersession after so many.
    pub(crate) fn superseded_after(self, supersessions: u64) -> Self {
        Self {
            supersessions: NonZeroU64::MIN.checked_add(supersessions),
            ..self
        }
    }

    /// Whether the token holds still; `person` is whose own it is.
    pub(crate) fn holds(&self, person: Option<&Arc<Standing>>) -> Result<(), IdentityError> {
        if let Some(before) = self.supersessions
            && person.is_none_or(|person| person.supersessions() != before.get() - 1)
        {
            return Err(IdentityError::Superseded);
        }
        match &self.issuer {
            Some(issuer) if issuer.0.load(Ordering::SeqCst) => Err(IdentityError::IssuerRetired),
            _ => Ok(()),
        }
    }
}
