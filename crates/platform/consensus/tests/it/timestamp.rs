//! One timestamp and its instant.

use std::num::NonZeroU32;

use creto_consensus::{HybridTimestamp, TimestampRange};
use proptest::prelude::*;

#[test]
fn parts_that_do_not_fit_are_refused() {
    assert!(HybridTimestamp::from_parts(1 << 46, 0).is_none());
    assert!(HybridTimestamp::from_parts(0, 1 << 18).is_none());
    let last = HybridTimestamp::from_parts((1 << 46) - 1, (1 << 18) - 1).unwrap();
    assert_eq!(last.as_u64(), u64::MAX);
    assert_eq!(
        last.to_instant().to_string(),
        "4199-11-24T01:22:57.663262143Z"
    );
    assert!(TimestampRange::new(last, NonZeroU32::new(2).unwrap()).is_none());
    assert_eq!(
        TimestampRange::new(last, NonZeroU32::MIN).unwrap().last(),
        last
    );
}

#[test]
fn a_range_is_split_without_loss() {
    let first = HybridTimestamp::from_parts(5, 262_142).unwrap();
    let of = |count| NonZeroU32::new(count).unwrap();
    let range = TimestampRange::new(first, of(5)).unwrap();
    let (front, back) = range.split(of(2)).unwrap();
    assert!(front.iter().chain(back.iter()).eq(range.iter()));
    assert_eq!((front.count(), back.count()), (of(2), of(3)));
    assert!(range.split(of(5)).is_none());
    assert!(range.split(of(6)).is_none());
}

proptest! {
    #[test]
    fn instants_keep_the_order_and_lose_nothing(a in any::<u64>(), b in any::<u64>()) {
        let (x, y) = (HybridTimestamp::from_u64(a), HybridTimestamp::from_u64(b));
        prop_assert_eq!(a.cmp(&b), x.to_instant().cmp(&y.to_instant()));
        prop_assert_eq!(HybridTimestamp::from_parts(x.millis(), x.logical()), Some(x));
    }
}
