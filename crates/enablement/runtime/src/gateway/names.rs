//! The made-up addresses of one sandbox.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::INTERNAL_HOST;

/// The first address of 198.18.0.0/15, set aside for tests between networks
/// (RFC 2544), so no real peer has one.
const BASE: u32 = u32::from_be_bytes([198, 18, 0, 0]);

/// Gives each allowed name one address and finds the name again. An address is
/// never given to a second name: a program may keep using the one it was told.
#[derive(Debug)]
pub(crate) struct NameTable {
    by_name: HashMap<Arc<str>, Ipv4Addr>,
    /// Names in the order of their addresses: the first has BASE + 1.
    by_order: Vec<Arc<str>>,
    most: usize,
}

impl NameTable {
    /// A table that holds `creto.internal` and at most `most` other names.
    pub(crate) fn new(most: usize) -> Self {
        let mut table = Self {
            by_name: HashMap::new(),
            by_order: Vec::new(),
            // 198.18.0.0/15 has 131072 addresses; the first and last stay free.
            most: most.min(131_000).saturating_add(1),
        };
        let _ = table.address(INTERNAL_HOST);
        table
    }

    /// The name's address; `None` when the table is full.
    pub(crate) fn address(&mut self, name: &str) -> Option<Ipv4Addr> {
        if let Some(address) = self.by_name.get(name) {
            return Some(*address);
        }
        if self.by_order.len() >= self.most {
            return None;
        }
        let offset = u32::try_from(self.by_order.len()).ok()?.checked_add(1)?;
        let address = Ipv4Addr::from(BASE.checked_add(offset)?);
        let name: Arc<str> = name.into();
        self.by_order.push(Arc::clone(&name));
        self.by_name.insert(name, address);
        Some(address)
    }

    /// The name that was given this address.
    pub(crate) fn name(&self, address: IpAddr) -> Option<Arc<str>> {
        let IpAddr::V4(address) = address else {
            return None;
        };
        let offset = u32::from(address).checked_sub(BASE)?.checked_sub(1)?;
        self.by_order.get(usize::try_from(offset).ok()?).cloned()
    }
}

/// Whether the text is a host name that may be asked for: labels of letters,
/// digits, `-` and `_`, 1 to 63 each, 253 in all (RFC 1123, and the underscore
/// that real names have). An IPv4 address is not one.
pub(crate) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 253 && text.split('.').all(label) && text.parse::<Ipv4Addr>().is_err()
}

/// The form in which names are compared and shown to policy: lower case, without
/// the final dot.
pub(crate) fn normal_name(text: &str) -> String {
    text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()
}

/// What a program sent, for a message or the record: no longer than a name can
/// be, so that a record of it always fits.
pub(crate) fn quoted(text: &str) -> String {
    const MOST: usize = 253;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_has_at_most_253_characters() {
        assert_eq!(quoted("a.test"), "a.test");
        let exact = "é".repeat(253);
        assert_eq!(quoted(&exact), exact);
        assert_eq!(quoted(&"é".repeat(254)), exact);
    }

    #[test]
    fn an_address_leads_back_to_its_name_only() {
        let mut table = NameTable::new(2);
        let a = table.address("a.test").expect("room");
        let b = table.address("b.test").expect("room");
        assert_eq!(table.address("a.test"), Some(a));
        assert_eq!(table.name(a.into()).as_deref(), Some("a.test"));
        assert_eq!(table.name(b.into()).as_deref(), Some("b.test"));
        assert_eq!(table.address("c.test"), None);
        assert_eq!(
            table.name(IpAddr::from([198, 18, 0, 1])).as_deref(),
            Some(INTERNAL_HOST)
        );
        for stranger in [[198, 18, 0, 0], [198, 18, 0, 4], [127, 0, 0, 1], [255; 4]] {
            assert_eq!(table.name(IpAddr::from(stranger)), None);
        }
    }

    #[test]
    fn host_names_are_told_from_other_text() {
        for good in ["a", "a-b.example.test", "_srv.example", "1.example"] {
            assert!(is_host_name(good), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "",
            ".",
            "a..b",
            "10.0.0.1",
            "a b",
            "a/b",
            "é.test",
            "[::1]",
            long.as_str(),
        ] {
            assert!(!is_host_name(bad), "{bad}");
        }
        assert_eq!(normal_name("Example.TEST."), "example.test");
    }
}
