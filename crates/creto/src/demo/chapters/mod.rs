//! The scenario, chapter by chapter.

mod budget;
mod courier;
mod evidence;
mod invoice;
mod keys;
mod organization;
mod oversight;
mod privacy;
mod signing;
mod strangers;
mod work;

use super::step::Step;

/// Every step, in order.
pub(crate) fn scenario() -> Vec<Step> {
    let chapters = [
        organization::STEPS,
        work::STEPS,
        oversight::STEPS,
        keys::STEPS,
        budget::STEPS,
        invoice::STEPS,
        signing::STEPS,
        courier::STEPS,
        strangers::STEPS,
        privacy::STEPS,
        evidence::STEPS,
    ];
    chapters
        .into_iter()
        .flatten()
        .map(|(name, expected, run)| Step {
            name,
            expected,
            run: *run,
        })
        .collect()
}

/// Name, expected outcome, what to do.
type Row = (
    &'static str,
    &'static str,
    fn(&mut super::world::World) -> Result<super::step::Done, super::error::DemoError>,
);
