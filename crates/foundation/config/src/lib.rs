//! How every section of the configuration is read.
//!
//! [`load`] turns TOML text into a section's type and promises that
//!
//! - `${NAME}` and `${NAME:-default}` are replaced inside string values only,
//!   never in keys, and substituted text is never looked at again;
//! - a table that says `enabled = false` is not interpolated at all, so a
//!   disabled section does not need its variables;
//! - an error names the full key path, the line and the column, and never
//!   shows what a variable held;
//! - no text makes it panic, recurse without bound or read the environment
//!   beyond the variables that the text names.
//!
//! Whether unknown keys are errors is up to the type (`deny_unknown_fields`);
//! every section of this product says so.
//!
//! A section is read in two steps. The *raw* type mirrors the file: its leaves
//! are already strict ([`Endpoint`], [`Millis`], [`SecretRef`]), nothing is
//! opened. Validation turns it into the type that the rest of the product
//! takes, and reads secrets. [`IntegrationsSection`] and [`Integrations`] show
//! the shape; `docs/formats/configuration.md` is the reference.

mod crypto;
mod endpoint;
mod environment;
mod error;
mod integrations;
mod interpolate;
mod load;
mod secret;
mod units;

pub use crypto::{AcceptedSection, AlgorithmsSection, CryptoSection};
pub use endpoint::{Endpoint, EndpointError};
pub use environment::{Environment, ProcessEnvironment};
pub use error::{ConfigError, Position};
pub use integrations::{
    Audit, AuditSection, Authz, AuthzSection, Integrations, IntegrationsSection, Nhi, NhiSection,
    Slack, SlackSection, Stripe, StripeSection, Unserved, UnservedKind,
};
pub use load::{MAX_CONFIG_BYTES, load, load_file};
pub use secret::{Secret, SecretError, SecretRef};
pub use units::{Bounded, BoundsError, Millis, Seconds};
