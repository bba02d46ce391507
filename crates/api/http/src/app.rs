//! What every handler shares.

use std::sync::Arc;

use bytes::Bytes;
use creto_governor::Governor;
use creto_ingress::Hosts;
use creto_types::{Clock, IdSource, Randomness};

use crate::authzen::Denials;
use crate::sessions::Sessions;

/// The state behind the router.
pub(crate) struct App {
    pub(crate) governor: Arc<Governor>,
    pub(crate) hosts: Hosts,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Randomness>,
    pub(crate) sessions: Sessions,
    pub(crate) denials: Denials,
    pub(crate) description: Bytes,
}

pub(crate) type Shared = Arc<App>;

impl App {
    pub(crate) fn new(
        governor: Arc<Governor>,
        hosts: Hosts,
        ids: Arc<dyn IdSource>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Randomness>,
    ) -> Shared {
        let sessions = Sessions::new(Arc::clone(&clock), Arc::clone(&random));
        let denials = Denials::new(random.as_ref(), Arc::clone(&clock), Arc::clone(&ids));
        Arc::new(Self {
            governor,
            hosts,
            ids,
            clock,
            random,
            sessions,
            denials,
            description: Bytes::from(crate::openapi::document().to_string()),
        })
    }
}
