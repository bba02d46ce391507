//! How long a call may take.

use std::time::Duration;

use http::HeaderMap;

use crate::refusal::Refusal;

/// The longest that a call takes, whatever its caller allows; as over HTTP.
pub(crate) const LONGEST: Duration = Duration::from_secs(30);

const HEADER: &str = "grpc-timeout";

/// The shorter of what the caller allows and [`LONGEST`].
pub(crate) fn of(headers: &HeaderMap) -> Result<Duration, Refusal> {
    Ok(given(headers)?.map_or(LONGEST, |given| given.min(LONGEST)))
}

/// What the caller allows.
pub(crate) fn given(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(None);
    };
    let given = value.to_str().ok().and_then(parse);
    given.map(Some).ok_or_else(|| {
        Refusal::invalid(
            HEADER,
            "1 to 8 digits and one of H, M, S, m, u, n are expected",
        )
    })
}

/// "gRPC over HTTP2", Timeout: at most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 3_600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use creto_errors::Classify as _;
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_timeout_is_a_number_and_its_unit() {
        for (text, expected) in [
            ("0n", Duration::ZERO),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("7u", Duration::from_micros(7)),
            ("250m", Duration::from_millis(250)),
            ("5S", Duration::from_secs(5)),
            ("2M", Duration::from_secs(120)),
            ("99999999H", Duration::from_secs(99_999_999 * 3_600)),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        for text in ["", "S", "5", "5s", "-5S", "+5S", "5 S", "123456789S", "5é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn nobody_waits_longer_than_the_server() {
        let mut headers = HeaderMap::new();
        assert_eq!(of(&headers).unwrap(), LONGEST);
        headers.insert(HEADER, HeaderValue::from_static("1H"));
        assert_eq!(of(&headers).unwrap(), LONGEST);
        headers.insert(HEADER, HeaderValue::from_static("1S"));
        assert_eq!(of(&headers).unwrap(), Duration::from_secs(1));
        headers.insert(HEADER, HeaderValue::from_static("soon"));
        assert_eq!(of(&headers).unwrap_err().code(), "invalid_request");
    }
}
