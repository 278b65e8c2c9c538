//! The request target and the Host field (RFC 9112 §3.2): which path, which query, which authority.
//!
//! Called by `request`; the client's URLs share the rules for hosts and characters. Invariant: the path that comes out starts with `/` and is ASCII without space, control
//! or `#`; it is not decoded and dot segments are not removed, that is the engine's business.

use super::request::HeadError;

/// A request target taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target<'b> {
    /// Absolute path, `/` if an absolute-form target had none.
    pub(crate) path: &'b str,
    /// What follows the first `?`.
    pub(crate) query: Option<&'b str>,
    /// Host and port of an absolute-form target.
    pub(crate) authority: Option<&'b str>,
}

/// Takes origin-form and absolute-form apart; authority-form (CONNECT) and asterisk-form are refused.
pub(crate) fn split_target(target: &str) -> Result<Target<'_>, HeadError> {
    // RFC 9112 §3.2: no fragment, no whitespace; RFC 3986 §2: ASCII only. httparse lets obs-text and '#' pass.
    if !is_target_text(target) {
        return Err(HeadError::Target);
    }
    if target.starts_with('/') {
        let (path, query) = split_query(target);
        return Ok(Target { path, query, authority: None });
    }
    let rest = after_scheme(target).ok_or(HeadError::Target)?;
    let authority_len = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, origin) = rest.split_at(authority_len);
    // RFC 9110 §4.2.1: "A recipient that processes such a URI reference MUST reject" an empty host; §4.2.4: userinfo
    // is an error (it fails the check of the host).
    if authority.is_empty() || !is_authority(authority.as_bytes()) {
        return Err(HeadError::Target);
    }
    let (path, query) = split_query(origin);
    let path = if path.is_empty() { "/" } else { path };
    Ok(Target { path, query, authority: Some(authority) })
}

/// Nothing but visible ASCII, and no `#`.
pub(crate) fn is_target_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// What follows `http://` or `https://`, the scheme in any case (RFC 3986 §3.1).
fn after_scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")).then_some(rest)
}

fn split_query(origin: &str) -> (&str, Option<&str>) {
    match origin.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (origin, None),
    }
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2), or empty.
///
/// Narrower than RFC 3986 in one point: the sub-delims of a registered name (`, ; = ! $ & ' ( ) * +`) are refused. No
/// DNS name has them, and other parsers take them for separators.
pub(crate) fn is_authority(value: &[u8]) -> bool {
    let after_host = if let Some(literal) = value.strip_prefix(b"[") {
        let Some(end) = literal.iter().position(|&byte| byte == b']') else {
            return false;
        };
        let (address, rest) = literal.split_at(end);
        let address_ok = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
        if address.is_empty() || !address.iter().all(address_ok) {
            return false;
        }
        &rest[1..]
    } else {
        let end = value.iter().position(|&byte| byte == b':').unwrap_or(value.len());
        let (name, rest) = value.split_at(end);
        let name_ok =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%');
        if !name.iter().all(name_ok) || (name.is_empty() && !rest.is_empty()) {
            return false;
        }
        rest
    };
    match after_host {
        [] => true,
        [b':', port @ ..] => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_target() {
        let origin = |path, query| Ok(Target { path, query, authority: None });
        let absolute = |authority, path, query| Ok(Target { path, query, authority: Some(authority) });
        assert_eq!(split_target("/"), origin("/", None));
        assert_eq!(split_target("/a/b?c=d?e"), origin("/a/b", Some("c=d?e")));
        assert_eq!(split_target("/a?"), origin("/a", Some("")));
        assert_eq!(split_target("//evil/x"), origin("//evil/x", None));
        assert_eq!(split_target("/http://h/x"), origin("/http://h/x", None));
        assert_eq!(split_target("http://h:80/x?y"), absolute("h:80", "/x", Some("y")));
        assert_eq!(split_target("HTTPS://h"), absolute("h", "/", None));
        assert_eq!(split_target("http://h?y"), absolute("h", "/", Some("y")));
        assert_eq!(split_target("http://[::1]:9/"), absolute("[::1]:9", "/", None));
        for bad in [
            "*",
            "h:443",
            "x",
            "?q",
            "http:/x",
            "http:///x",
            "ftp://h/",
            "http://u@h/",
            "/a#b",
            "/ü",
            "http://",
        ] {
            assert_eq!(split_target(bad), Err(HeadError::Target), "{bad}");
        }
    }

    #[test]
    fn authorities() {
        for good in ["", "a", "a.b:8080", "my_host", "127.0.0.1:9000", "[::1]", "[fe80::1]:80", "h:", "a%20b"]
        {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "a b", "a,b", "a:b", "a:1:2", ":80", "::1", "[::1", "[]", "[::1]x", "a/b", "u@h", "a:123456",
            "ü", "a\tb",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }
}
