//! Arguments that are more than text. Every refusal says what is expected.

use std::str::FromStr;
use std::time::Duration;

use creto_types::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

/// `ACTION on RESOURCE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RightArgument {
    pub(crate) action: String,
    pub(crate) resource: String,
}

impl FromStr for RightArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (action, resource) = text.split_once(" on ").unwrap_or_default();
        let (action, resource) = (action.trim(), resource.trim());
        if action.is_empty() || resource.is_empty() {
            return Err("expected 'ACTION on RESOURCE', for example \
                        'history.read on repo:*'"
                .to_owned());
        }
        Ok(Self {
            action: action.to_owned(),
            resource: resource.to_owned(),
        })
    }
}

/// `VOLUME=/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountArgument {
    pub(crate) name: String,
    pub(crate) target: String,
}

impl FromStr for MountArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, target)) if !name.is_empty() && target.starts_with('/') => Ok(Self {
                name: name.to_owned(),
                target: target.to_owned(),
            }),
            _ => Err("expected VOLUME=/PATH, for example 'history=/history'".to_owned()),
        }
    }
}

/// `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VariableArgument {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl FromStr for VariableArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err("expected NAME=VALUE, for example 'LANG=C.UTF-8'".to_owned()),
        }
    }
}

/// A JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContextArgument(pub(crate) Map<String, Value>);

impl FromStr for ContextArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = serde_json::from_str(text);
        parsed.map(Self).map_err(|error| {
            format!("expected a JSON object, for example '{{\"port\": 443}}': {error}")
        })
    }
}

/// `30d`, `12h`, `45m` or `90s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExpiresIn(pub(crate) Duration);

impl FromStr for ExpiresIn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || "expected a number and one of d, h, m, s: 30d, 12h".to_owned();
        let unit = text.chars().last().ok_or_else(expected)?;
        let seconds: u64 = match unit {
            'd' => 24 * 60 * 60,
            'h' => 60 * 60,
            'm' => 60,
            's' => 1,
            _ => return Err(expected()),
        };
        let number = text.strip_suffix(unit).ok_or_else(expected)?;
        let number: u64 = number.parse().map_err(|_| expected())?;
        let total = number.checked_mul(seconds).filter(|total| *total > 0);
        Ok(Self(Duration::from_secs(total.ok_or_else(expected)?)))
    }
}

/// An instant, or a date that stands for its first instant in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instant(pub(crate) Timestamp);

impl FromStr for Instant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(instant) = text.parse::<Timestamp>() {
            return Ok(Self(instant));
        }
        text.parse::<Date>()
            .ok()
            .filter(|_| !text.contains('T'))
            .and_then(|date| date.to_zoned(TimeZone::UTC).ok())
            .map(|zoned| Self(zoned.timestamp()))
            .ok_or_else(|| "expected 2030-01-31 or 2030-01-31T12:00:00Z".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_and_mounts_name_both_sides() {
        let right: RightArgument = "release.* on repo:a=b".parse().unwrap();
        assert_eq!(
            (right.action.as_str(), right.resource.as_str()),
            ("release.*", "repo:a=b")
        );
        for bad in ["", " on ", "a on ", " on b", "a", "a=b", "a onb"] {
            assert!(bad.parse::<RightArgument>().is_err(), "{bad}");
        }
        assert!("history=/history".parse::<MountArgument>().is_ok());
        assert!("history=history".parse::<MountArgument>().is_err());
    }

    #[test]
    fn a_context_is_one_object() {
        let context: ContextArgument = r#"{"port": 443}"#.parse().unwrap();
        assert_eq!(context.0.get("port"), Some(&Value::from(443)));
        for bad in ["", "443", "[]", "{", "{} {}"] {
            assert!(bad.parse::<ContextArgument>().is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_read_strictly() {
        let seconds = |text: &str| text.parse::<ExpiresIn>().map(|time| time.0.as_secs());
        assert_eq!(seconds("2d"), Ok(172_800));
        assert_eq!(seconds("90s"), Ok(90));
        for bad in [
            "",
            "d",
            "0s",
            "-1d",
            "1.5h",
            "1w",
            "99999999999999999d",
            "é",
        ] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        let day: Instant = "2030-01-31".parse().unwrap();
        assert_eq!(day.0.to_string(), "2030-01-31T00:00:00Z");
        assert!("2030-01-31T12:00:00Z".parse::<Instant>().is_ok());
        for bad in ["2030-02-30", "2030-01-31T12:00:00", "tomorrow", ""] {
            assert!(bad.parse::<Instant>().is_err(), "{bad}");
        }
    }
}
