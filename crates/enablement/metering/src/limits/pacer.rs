//! The pace of an agent's calls, or of an organization's.

use std::time::Duration;

use creto_authz::{Action, ActionKey};

use crate::rate::{Pace, RateLimit};

/// The state of one rate.
#[derive(Clone, Copy, Debug)]
struct Pacer {
    pace: Pace,
    rate: RateLimit,
}

impl Pacer {
    const fn in_time(&self, now: u64) -> bool {
        self.rate.in_time(self.pace, now)
    }

    fn count(&mut self, now: u64) {
        self.pace = self.rate.after(self.pace, now);
    }

    fn wait(&self, now: u64) -> Option<Duration> {
        self.rate.call(self.pace, Duration::from_nanos(now)).err()
    }
}

/// The one action that a rate is of.
#[derive(Debug)]
struct Event {
    key: ActionKey,
    name: Box<str>,
}

impl Event {
    fn is(&self, action: &Action) -> bool {
        is_of(self.key, || *self.name == *action.name(), action)
    }
}

/// Whether a call of this action is of that event type. Numbers decide; names do
/// when one of the two has none.
#[inline]
pub(crate) fn is_of(event: ActionKey, name: impl FnOnce() -> bool, action: &Action) -> bool {
    if event == ActionKey::UNKNOWN || action.key() == ActionKey::UNKNOWN {
        return name();
    }
    event == action.key()
}

/// How long a call has to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait<'a> {
    pub(crate) least: Duration,
    /// The event type of the rate that is waited for; `None` when it is the one of all calls.
    pub(crate) event: Option<&'a str>,
}

/// The rates by event type, the one of all calls among them.
pub(crate) type Rates = Vec<(Option<String>, RateLimit)>;

/// Every rate of one agent or of the organization. It lies in the lock of their
/// [`Group`](super::cell::Group), and with it in one cache line.
#[derive(Debug, Default)]
pub(crate) struct Pacers {
    all: Option<Pacer>,
    events: Box<[(Event, Pacer)]>,
}

impl Pacers {
    fn of<'a>(&'a self, action: &'a Action) -> impl Iterator<Item = &'a Pacer> {
        let events = self.events.iter().filter(|(event, _)| event.is(action));
        self.all.iter().chain(events.map(|(_, pacer)| pacer))
    }

    /// Whether there is no rate at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_none() && self.events.is_empty()
    }

    /// Whether a call now is in time.
    #[inline]
    pub(crate) fn in_time(&self, action: &Action, now: u64) -> bool {
        self.of(action).all(|pacer| pacer.in_time(now))
    }

    /// How long until a call is in time, and by which rate; `None` when it is.
    #[cold]
    pub(crate) fn wait(&self, action: &Action, now: u64) -> Option<Wait<'_>> {
        let all = self.all.iter().map(|pacer| (pacer, None));
        let events = self.events.iter().filter(|(event, _)| event.is(action));
        let events = events.map(|(event, pacer)| (pacer, Some(&*event.name)));
        all.chain(events)
            .filter_map(|(pacer, event)| pacer.wait(now).map(|least| Wait { least, event }))
            .max_by_key(|wait| wait.least)
    }

    /// Counts a call now that was found to be in time.
    #[inline]
    pub(crate) fn count(&mut self, action: &Action, now: u64) {
        if let Some(all) = &mut self.all {
            all.count(now);
        }
        for (event, pacer) in &mut self.events {
            if event.is(action) {
                pacer.count(now);
            }
        }
    }

    /// Puts these rates in force. Where there was one for the event type, how far
    /// ahead its calls are is taken over.
    pub(crate) fn renew(&mut self, rates: Rates, now: u64) {
        let taken_over = |known: Option<&Pacer>, rate: RateLimit| Pacer {
            pace: match known {
                Some(known) if known.rate == rate => known.pace,
                Some(known) => rate.taken_over(known.pace, &known.rate, now),
                None => Pace::default(),
            },
            rate,
        };
        let mut all = None;
        let mut events = Vec::new();
        for (event, rate) in rates {
            let Some(name) = event else {
                all = Some(taken_over(self.all.as_ref(), rate));
                continue;
            };
            let known = self.events.iter().find(|(event, _)| *event.name == *name);
            let pacer = taken_over(known.map(|(_, pacer)| pacer), rate);
            let event = Event {
                key: Action::named(&name).key(),
                name: name.into(),
            };
            events.push((event, pacer));
        }
        (self.all, self.events) = (all, events.into());
    }
}

#[cfg(test)]
mod tests {
    /// With the two counts that an `Arc` keeps before them.
    #[test]
    fn the_rates_of_one_agent_lie_in_one_cache_line() {
        let group = size_of::<crate::limits::cell::Group>();
        assert_eq!(group + 2 * size_of::<usize>(), 64);
    }
}
