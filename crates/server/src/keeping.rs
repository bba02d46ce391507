//! What has an end: payloads that were kept long enough, what is left of people who were
//! erased, and answers for idempotency keys.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use creto_errors::Classify as _;
use creto_governor::{GovernError, Governor, Retention};
use creto_types::{Clock, OrgId, Timestamp};
use tokio::time::Instant;

/// How long nothing is looked for when nothing was left.
const PAUSE: Duration = Duration::from_secs(30);

/// And when something was that could not go yet.
const UNFINISHED: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(86_400);

/// How far the clock may be ahead of the newest record of an organization at the start.
/// What a wrong clock ends is gone for ever: one that is further ahead ends nothing before
/// the next start, and then only if something was recorded by it meanwhile.
const SILENCE: Duration = Duration::from_secs(30 * 86_400);

/// Little is to go, and rarely: it is looked for now and then.
pub(crate) struct Keeping {
    governor: Arc<Governor>,
    retention: Retention,
    clock: Arc<dyn Clock>,
    /// The newest record of each organization that was there at the start.
    newest: HashMap<OrgId, Timestamp>,
    started: Instant,
    /// The day on which it was last looked for what is too old.
    looked: Option<Timestamp>,
}

impl Keeping {
    pub(crate) fn new(
        governor: Arc<Governor>,
        retention: Retention,
        clock: Arc<dyn Clock>,
        newest: HashMap<OrgId, Timestamp>,
    ) -> Self {
        Self {
            governor,
            retention,
            clock,
            newest,
            started: Instant::now(),
            looked: None,
        }
    }

    /// Goes on for ever.
    pub(crate) async fn end(mut self) {
        loop {
            let looked = self.look().await;
            let swept = self.governor.sweep_erased().await;
            let pause = match &swept {
                Ok(false) => UNFINISHED,
                Ok(true) | Err(_) => PAUSE,
            };
            for error in [looked.err(), swept.err()].into_iter().flatten() {
                tracing::error!(
                    code = error.code(),
                    error = &error as &dyn std::error::Error,
                    "what is to be gone cannot be removed; it is tried again"
                );
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Once a day.
    async fn look(&mut self) -> Result<(), GovernError> {
        let Some(today) = midnight(self.clock.now()).filter(|day| self.looked != Some(*day)) else {
            return Ok(());
        };
        let believed = believed(&self.newest, today, self.started.elapsed());
        // A call that was answered runs again when its answer is forgotten.
        let earliest = believed.values().min().copied().unwrap_or(today);
        let mut outcome = self.governor.forget_replies(earliest).await;
        if !self.retention.is_for_ever() {
            for (org, day) in &believed {
                tracing::error!(
                    %org,
                    believed = %day,
                    clock = %today,
                    "the newest record is so much older than the clock says that no payload \
                     ends by that clock before the next start"
                );
            }
            let day = |org| believed.get(&org).copied().unwrap_or(today);
            let expired = self.governor.expire_payloads(&self.retention, &day).await;
            outcome = outcome.and(expired);
        }
        if outcome.is_ok() {
            self.looked = Some(today);
        }
        outcome
    }
}

/// Of organizations that were silent for so long that the clock may be wrong, the day that
/// is believed instead, so long after the start.
fn believed(
    newest: &HashMap<OrgId, Timestamp>,
    today: Timestamp,
    since_start: Duration,
) -> HashMap<OrgId, Timestamp> {
    let days = newest.iter().filter_map(|(org, newest)| {
        let now = newest.checked_add(since_start).ok()?;
        let silent = now.checked_add(SILENCE).ok()? < today;
        Some((*org, midnight(now)?)).filter(|_| silent)
    });
    days.collect()
}

/// When the day of this instant began, in UTC.
fn midnight(at: Timestamp) -> Option<Timestamp> {
    let day = i64::try_from(DAY.as_secs()).ok()?;
    Timestamp::from_second(at.as_second().div_euclid(day) * day).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_clock_far_ahead_of_all_records_is_not_believed() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let org: OrgId = "org_0192f0c4a5e77b3c8d1e2f3a4b5c6d7f".parse().unwrap();
        let newest = HashMap::from([(org, at("2026-03-01T10:00:00Z"))]);
        let day = |today: &str, hours: u64| {
            let since = Duration::from_secs(hours * 3_600);
            believed(&newest, at(today), since).get(&org).copied()
        };
        assert_eq!(day("2026-03-02T00:00:00Z", 0), None);
        assert_eq!(day("2026-03-31T00:00:00Z", 0), None);
        let kept = Some(at("2026-03-01T00:00:00Z"));
        assert_eq!(day("2026-04-01T00:00:00Z", 0), kept);
        assert_eq!(day("2036-03-01T00:00:00Z", 13), kept);
        // Time goes on, by the clock that nobody sets.
        let later = Some(at("2026-03-02T00:00:00Z"));
        assert_eq!(day("2036-03-01T00:00:00Z", 14), later);
    }
}
