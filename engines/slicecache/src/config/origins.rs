//! Where objects come from: one origin, or several by prefix of the path (`/prefix=URL`); the longest prefix holds.
//!
//! The prefix stays in the path that the origin is asked for, as nginx does it when `proxy_pass` has no path of its own. Invariant:
//! prefixes are distinct and begin and end at a slash, so that `/a` is no prefix of `/ab`.

use net::client::{Url, UrlError};

/// An origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Of the paths that it has; begins and ends with `/`.
    pub prefix: String,
    /// Scheme, host and port; the path is `/`.
    pub url: Url,
}

/// Why there is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOrigin {
    /// No URL that we fetch.
    #[error("origin {0}: {1}")]
    Url(String, UrlError),
    /// It has a path.
    #[error("origin {0} has a path: an origin is http(s)://host[:port]")]
    Path(String),
    /// Not `/…`, or there already.
    #[error("origin {0}: the prefix begins with / and is given once")]
    Prefix(String),
    /// None.
    #[error("there is no origin: upstream_address is host:port or a URL")]
    None,
}

/// The origins, the longest prefix first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins {
    origins: Vec<Origin>,
}

impl Origins {
    /// From `URL`, `host:port` (http, or https on port 443), or `/prefix=` before either.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Origins, BadOrigin> {
        let mut origins: Vec<Origin> = Vec::new();
        for text in texts {
            let origin = parse(text.as_ref())?;
            if origins.iter().any(|other| other.prefix == origin.prefix) {
                return Err(BadOrigin::Prefix(text.as_ref().to_owned()));
            }
            origins.push(origin);
        }
        if origins.is_empty() {
            return Err(BadOrigin::None);
        }
        origins.sort_by_key(|origin| std::cmp::Reverse(origin.prefix.len()));
        Ok(Origins { origins })
    }

    /// The origin of a normalised path; `None`: 404, no origin has it.
    #[must_use]
    pub fn of_path(&self, path: &str) -> Option<&Origin> {
        let has = |origin: &&Origin| {
            path.starts_with(&origin.prefix) || origin.prefix.strip_suffix('/') == Some(path)
        };
        self.origins.iter().find(has)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Origin> {
        self.origins.iter()
    }
}

fn parse(text: &str) -> Result<Origin, BadOrigin> {
    let (prefix, address) = match text.split_once('=') {
        Some((prefix, address)) if prefix.starts_with('/') => (prefix, address),
        Some((prefix, _)) if !prefix.contains("://") => return Err(BadOrigin::Prefix(text.to_owned())),
        _ => ("/", text),
    };
    let url = match address.contains("://") {
        true => Url::parse(address),
        false if address.ends_with(":443") => Url::parse(&format!("https://{address}")),
        false => Url::parse(&format!("http://{address}")),
    };
    let url = url.map_err(|e| BadOrigin::Url(text.to_owned(), e))?;
    if url.target != "/" {
        return Err(BadOrigin::Path(text.to_owned()));
    }
    let prefix = if prefix.ends_with('/') { prefix.to_owned() } else { format!("{prefix}/") };
    Ok(Origin { prefix, url })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_holds() {
        let origins = Origins::new(["http://root", "/a=http://a:81", "/a/b/=https://b"]).expect("three");
        for (path, host) in [
            ("/", "root"),
            ("/ab", "root"),
            ("/a", "a"),
            ("/a/", "a"),
            ("/a/x", "a"),
            ("/a/b", "b"),
            ("/a/b/c", "b"),
        ] {
            assert_eq!(origins.of_path(path).map(|origin| origin.url.host.as_str()), Some(host), "{path}");
        }
        let some = Origins::new(["/a=http://a"]).expect("one");
        assert_eq!((some.of_path("/b"), some.iter().count()), (None, 1));
    }

    #[test]
    fn addresses_without_a_scheme() {
        let url = |text: &str| {
            Origins::new([text]).map(|origins| origins.iter().next().expect("one").url.to_string())
        };
        assert_eq!(url("127.0.0.1:8080").as_deref(), Ok("http://127.0.0.1:8080/"));
        assert_eq!(url("cdn.example:443").as_deref(), Ok("https://cdn.example/"));
        assert_eq!(url("/p=origin").as_deref(), Ok("http://origin/"));
        assert_eq!(url("http://h").as_deref(), Ok("http://h/"));
    }

    #[test]
    fn what_is_no_origin() {
        let bad = |texts: &[&str]| Origins::new(texts).expect_err("bad");
        assert_eq!(bad(&[]), BadOrigin::None);
        assert!(matches!(bad(&["http://h/path"]), BadOrigin::Path(_)));
        assert!(matches!(bad(&["ftp://h"]), BadOrigin::Url(_, UrlError::Scheme)));
        assert!(matches!(bad(&["http://u@h"]), BadOrigin::Url(_, UrlError::UserInfo)));
        assert!(matches!(bad(&["a=http://h"]), BadOrigin::Prefix(_)));
        assert!(matches!(bad(&["/a=http://h", "/a/=http://i"]), BadOrigin::Prefix(_)));
        assert!(matches!(bad(&["h:0"]), BadOrigin::Url(_, UrlError::Authority)));
    }
}
