//! The few types that every layer speaks: typed ids, exact money, injected
//! time and randomness, canonical JSON, and the evidence that travels with a
//! change.
//!
//! Nothing here knows a product. A crate that needs an id of its own declares
//! an [`IdKind`] beside the thing it names.

mod canonical;
mod clock;
mod evidence;
mod hybrid;
mod id;
#[cfg(feature = "test-util")]
pub mod memory;
mod money;
mod period;
mod prefetch;
mod principal;
mod quantity;
mod random;
#[cfg(feature = "schema")]
mod schema;
mod store;
mod subject;

pub use canonical::{CanonicalError, append_canonical, append_canonical_str, canonical_json};
pub use clock::{Clock, ManualClock, Reading, SystemClock, unix_millis};
pub use evidence::{Claim, Commit, Evidence, Idempotency, LeafIndex, Receipt, Turn};
pub use hybrid::{HybridTimestamp, HybridTimestampError};
pub use id::{ActionId, ActionKind, Id, IdError, IdKind, IdSource, OrgId, OrgKind, SystemIds};
pub use money::{Currency, Money, MoneyError};
pub use period::{Period, PeriodError};
pub use prefetch::Line;
pub use principal::{PrincipalName, PrincipalNameError};
pub use quantity::{Quantity, QuantityError};
pub use random::{Randomness, SeededRandom, SystemRandom};
pub use store::{StoreError, StoredReply, is_disk_full};
pub use subject::{SubjectId, SubjectKind};

/// The instant type of the whole system: UTC, nanosecond resolution.
pub type Timestamp = jiff::Timestamp;
