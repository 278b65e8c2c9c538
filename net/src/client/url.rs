//! An http(s) URL taken apart, and a reference resolved against it (RFC 3986 §5.2, RFC 9110 §4.2).
//!
//! Called by the client and by engines. Narrower than the RFCs: no userinfo, no fragment, ASCII without spaces, at most 8 KiB.

use crate::http1::limits::TARGET_BYTES_MAX;
use crate::http1::{is_authority, is_target_text};
use std::fmt;

/// Why a text is no URL that we fetch: whoever gave it is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Neither http nor https.
    #[error("the URL is neither http:// nor https://")]
    Scheme,
    /// A user name or password.
    #[error("the URL has a user name")]
    UserInfo,
    /// `#…`
    #[error("the URL has a fragment")]
    Fragment,
    /// Host or port.
    #[error("the URL has no valid host and port")]
    Authority,
    /// A character that must be percent-encoded.
    #[error("the URL has a character that must be percent-encoded")]
    Character,
    /// Too long.
    #[error("the URL is longer than {TARGET_BYTES_MAX} bytes")]
    TooLong,
}

/// A URL. Equal ones name the same resource at the same place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    /// https
    pub is_https: bool,
    /// Lower-case; an IPv6 address without its brackets.
    pub host: String,
    /// The port, by default that of the scheme.
    pub port: u16,
    /// Path and query; starts with `/`.
    pub target: String,
}

impl Url {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        if text.len() > TARGET_BYTES_MAX {
            return Err(UrlError::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let is_https = scheme.eq_ignore_ascii_case("https");
        if !is_https && !scheme.eq_ignore_ascii_case("http") {
            return Err(UrlError::Scheme);
        }
        if rest.contains('#') {
            return Err(UrlError::Fragment);
        }
        if !is_target_text(rest) {
            return Err(UrlError::Character);
        }
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = split_authority(authority, is_https)?;
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Url { is_https, host, port, target })
    }

    /// Where a `Location` leads from here. A fragment in it is of no concern to us.
    ///
    /// # Errors
    /// It leads to what we do not fetch.
    pub fn join(&self, reference: &str) -> Result<Url, UrlError> {
        let reference = reference.split('#').next().unwrap_or_default();
        let scheme_len = reference.find([':', '/', '?']).unwrap_or(0);
        if reference[scheme_len..].starts_with(':') {
            return Url::parse(reference);
        }
        if reference.starts_with("//") {
            return Url::parse(&format!("{}:{reference}", self.scheme()));
        }
        let base = self.target.split('?').next().unwrap_or("/");
        let target = match reference.bytes().next() {
            None => self.target.clone(),
            Some(b'/') => without_dots(reference),
            Some(b'?') => format!("{base}{reference}"),
            Some(_) => {
                let directory = base.rfind('/').map_or("/", |at| &base[..=at]);
                without_dots(&format!("{directory}{reference}"))
            }
        };
        let whole = Url { target, ..self.clone() };
        Url::parse(&whole.to_string())
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }

    /// Host and port as in the `Host` field: the scheme's own port is left out.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default_port(self.is_https) { host } else { format!("{host}:{}", self.port) }
    }

    /// Without the query, which may hold a signature: for logs.
    #[must_use]
    pub fn without_query(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        format!("{}://{}{path}", self.scheme(), self.authority())
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.target)
    }
}

fn default_port(is_https: bool) -> u16 {
    if is_https { 443 } else { 80 }
}

fn split_authority(authority: &str, is_https: bool) -> Result<(String, u16), UrlError> {
    if authority.contains('@') {
        return Err(UrlError::UserInfo);
    }
    if authority.is_empty() || authority.contains('%') || !is_authority(authority.as_bytes()) {
        return Err(UrlError::Authority);
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let address: std::net::Ipv6Addr = address.parse().map_err(|_| UrlError::Authority)?;
            (address.to_string(), rest.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host.to_ascii_lowercase(), Some(port)),
            None => (authority.to_ascii_lowercase(), None),
        },
    };
    match port {
        None | Some("") => Ok((host, default_port(is_https))),
        Some(port) => match port.parse() {
            Ok(port @ 1..) => Ok((host, port)),
            _ => Err(UrlError::Authority),
        },
    }
}

/// RFC 3986 §5.2.4, on the path alone.
fn without_dots(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in path.split('/').skip(1) {
        ends_open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    if ends_open {
        kept.push("");
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_put_together() {
        for (text, canonical) in [
            ("http://h", "http://h/"),
            ("HTTP://H:80/A?b", "http://h/A?b"),
            ("https://h:443/", "https://h/"),
            ("https://h:8443?q", "https://h:8443/?q"),
            ("http://[::1]:81/x", "http://[::1]:81/x"),
            ("http://[0:0::1]/x", "http://[::1]/x"),
            ("http://127.0.0.1:9000/a%20b", "http://127.0.0.1:9000/a%20b"),
            ("http://h:/x", "http://h/x"),
        ] {
            assert_eq!(Url::parse(text).map(|u| u.to_string()).as_deref(), Ok(canonical), "{text}");
        }
        assert_eq!(Url::parse("http://h/a?sig=1").expect("valid").without_query(), "http://h/a");
    }

    #[test]
    fn the_rest_is_refused() {
        for (text, why) in [
            ("", UrlError::Scheme),
            ("h/x", UrlError::Scheme),
            ("ftp://h/", UrlError::Scheme),
            ("file:///etc/passwd", UrlError::Scheme),
            ("http:/h", UrlError::Scheme),
            ("http://", UrlError::Authority),
            ("http:///x", UrlError::Authority),
            ("http://h:0/", UrlError::Authority),
            ("http://h:65536/", UrlError::Authority),
            ("http://h:a/", UrlError::Authority),
            ("http://[::1/", UrlError::Authority),
            ("http://[zz]/", UrlError::Authority),
            ("http://a%20b/", UrlError::Authority),
            ("http://u@h/", UrlError::UserInfo),
            ("http://u:p@h/", UrlError::UserInfo),
            ("http://h/#f", UrlError::Fragment),
            ("http://h/a b", UrlError::Character),
            ("http://h/\r\nX: y", UrlError::Character),
            ("http://h/ü", UrlError::Character),
        ] {
            assert_eq!(Url::parse(text), Err(why), "{text}");
        }
        assert_eq!(Url::parse(&format!("http://h/{}", "a".repeat(9000))), Err(UrlError::TooLong));
    }

    #[test]
    fn references_are_resolved_as_rfc_3986_says() {
        let base = Url::parse("http://a/b/c/d?q").expect("valid");
        for (reference, target) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("g#s", "http://a/b/c/g"),
            ("", "http://a/b/c/d?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../../../g", "http://a/g"),
            ("https://z:1/y", "https://z:1/y"),
        ] {
            assert_eq!(base.join(reference).map(|u| u.to_string()).as_deref(), Ok(target), "{reference}");
        }
        assert_eq!(base.join("ftp://h/"), Err(UrlError::Scheme));
        assert_eq!(base.join("file:///x"), Err(UrlError::Scheme));
        assert_eq!(base.join("mailto:x"), Err(UrlError::Scheme));
    }
}
