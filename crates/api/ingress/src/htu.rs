//! Whether a proof is for a request: `htm` and `htu` of RFC 9449, section 4.3.

/// An absolute `http` or `https` URI without query and fragment, in the form that two of
/// the same have in common (RFC 3986, sections 6.2.2 and 6.2.3).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Scheme and authority.
    pub(crate) origin: String,
    pub(crate) path: String,
}

impl Target {
    pub(crate) fn parse(uri: &str) -> Option<Self> {
        let end = uri.find(['?', '#']).unwrap_or(uri.len());
        let (scheme, rest) = uri.get(..end)?.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let port = match scheme.as_str() {
            "http" => ":80",
            "https" => ":443",
            _ => return None,
        };
        let (authority, path) = match rest.find('/') {
            Some(place) => rest.split_at(place),
            None => (rest, "/"),
        };
        let authority = authority.to_ascii_lowercase();
        let authority = authority.strip_suffix(port).unwrap_or(&authority);
        let usual = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
        if authority.is_empty() || !authority.bytes().all(usual) {
            return None;
        }
        Some(Self {
            origin: format!("{scheme}://{authority}"),
            path: normal_path(path)?,
        })
    }
}

/// Percent-encodings of what needs none are undone, others are in capitals. A path with
/// dot segments means another one; nothing here has such, so it means nothing.
pub(crate) fn normal_path(path: &str) -> Option<String> {
    let mut normal = String::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let pair = [rest.next()?, rest.next()?];
                let pair = std::str::from_utf8(&pair).ok()?;
                // A sign would be taken for a digit.
                if !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return None;
                }
                let meant = u8::from_str_radix(pair, 16).ok()?;
                if is_unreserved(meant) {
                    normal.push(char::from(meant));
                } else {
                    normal.push('%');
                    normal.push_str(&pair.to_ascii_uppercase());
                }
            }
            0x21..=0x7e => normal.push(char::from(byte)),
            _ => return None,
        }
    }
    let dotted = normal.split('/').any(|part| part == "." || part == "..");
    (!dotted).then_some(normal)
}

/// RFC 3986, section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        let (one, other) = (Target::parse(one), Target::parse(other));
        one.is_some() && one == other
    }

    #[test]
    fn what_means_the_same_is_the_same() {
        let plain = "http://localhost:7180/v1/secrets/a%2Fb~c";
        for other in [
            "HTTP://LocalHost:7180/v1/secrets/a%2fb%7Ec",
            "http://localhost:7180/v1/secrets/a%2Fb~c?x=1#y",
            "http://localhost:7180/v1/secrets/%61%2Fb~c#?",
        ] {
            assert!(same(plain, other), "{other}");
        }
        assert!(same("http://a", "http://a:80/"));
        assert!(same("https://a:443/x", "https://a/x"));
        assert!(same("http://[::1]:80/x", "http://[::1]/x"));
    }

    #[test]
    fn what_does_not_is_not() {
        let plain = "http://localhost:7180/v1/self";
        for other in [
            "https://localhost:7180/v1/self",
            "http://localhost:7181/v1/self",
            "http://localhost/v1/self",
            "http://localhost:7180/v1/self/",
            "http://localhost:7180/V1/self",
            "http://localhost:7180//v1/self",
            "http://localhost:7180/v1%2Fself",
        ] {
            assert!(!same(plain, other), "{other}");
        }
    }

    #[test]
    fn what_is_no_such_uri_is_refused() {
        for uri in [
            "",
            "/v1/self",
            "localhost:7180/v1/self",
            "ftp://a/x",
            "http://",
            "http:///x",
            "http://me@a/x",
            "http://a b/x",
            "http://a/x y",
            "http://a/%",
            "http://a/%2",
            "http://a/%+2",
            "http://a/%zz",
            "http://a/\u{e9}",
            "http://a/x/../y",
            "http://a/x/%2e%2E/y",
            "http://a/./y",
            "http://?x",
        ] {
            assert_eq!(Target::parse(uri), None, "{uri}");
        }
    }
}
