//! What a client is told of how its answer came about: Via, Age, Cache-Status (RFC 9211) and X-Cache.
//!
//! Called once for each answer, when its head is written: counts of slices are those of that moment. Nothing of this decides
//! anything. Invariant: the values hold no byte that could end a line.

use super::freshness::NotStored;

/// How we name ourselves in Via and Cache-Status.
pub const NAME: &str = "basalt";

/// Stands among the lines of a stored answer that was received as something else than [`RECEIVED_BY_DEFAULT`]: no field of an origin has
/// such a name, and it is never sent.
pub const RECEIVED: &str = ":received";
/// The version of nearly every answer of an origin.
pub const RECEIVED_BY_DEFAULT: &str = "1.1";

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All slices that it needs were here.
    Hit,
    /// None was.
    Miss,
    /// Some were.
    Partial,
    /// Answered with what is stale, all slices here.
    Stale,
    /// Passed through.
    Bypass,
}

/// Why the origin was asked (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// We do not handle such requests.
    Bypass,
    /// The method demands it.
    Method,
    /// Nothing is stored of it.
    UriMiss,
    /// What is stored is for other fields (Vary).
    VaryMiss,
    /// The client demands it.
    Request,
    /// What is stored is stale.
    Stale,
    /// Some slices are missing.
    Partial,
}

impl Forwarded {
    fn token(self) -> &'static str {
        match self {
            Forwarded::Bypass => "bypass",
            Forwarded::Method => "method",
            Forwarded::UriMiss => "uri-miss",
            Forwarded::VaryMiss => "vary-miss",
            Forwarded::Request => "request",
            Forwarded::Stale => "stale",
            Forwarded::Partial => "partial",
        }
    }
}

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Slices that the answer needs and that were here.
    pub slices_here: u64,
    /// Slices that it needs.
    pub slices: u64,
    /// It was answered with what is stale.
    pub is_stale: bool,
    /// Why the origin was asked for this answer, if it was.
    pub forwarded: Option<Forwarded>,
    /// What the origin said.
    pub forwarded_status: Option<u16>,
    /// It waited for a question that somebody else's request had asked.
    pub is_collapsed: bool,
    /// What the origin sent for it is stored, or about to be.
    pub is_stored: bool,
    /// Of what is stored.
    pub ttl_s: Option<i64>,
    /// Why the answer is not stored, if it came from the origin.
    pub not_stored: Option<NotStored>,
}

impl Told {
    /// In a word.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        debug_assert!(self.slices_here <= self.slices);
        match self.forwarded {
            Some(Forwarded::Bypass | Forwarded::Method) => Outcome::Bypass,
            _ if self.slices_here < self.slices && self.slices_here > 0 => Outcome::Partial,
            _ if self.slices_here < self.slices => Outcome::Miss,
            _ if self.is_stale => Outcome::Stale,
            Some(Forwarded::UriMiss | Forwarded::VaryMiss) => Outcome::Miss,
            _ => Outcome::Hit,
        }
    }

    /// `HIT 3/3`: the outcome, and how many slices of how many were here.
    #[must_use]
    pub fn x_cache(&self) -> String {
        let word = match self.outcome() {
            Outcome::Hit => "HIT",
            Outcome::Miss => "MISS",
            Outcome::Partial => "PARTIAL",
            Outcome::Stale => "STALE",
            Outcome::Bypass => return "BYPASS".to_owned(),
        };
        format!("{word} {}/{}", self.slices_here, self.slices)
    }

    /// RFC 9211; `before`: of caches between the origin and us, which come first (§2: "the one closest to the origin server
    /// first").
    #[must_use]
    pub fn cache_status(&self, before: Option<&[u8]>) -> Vec<u8> {
        let mut text = NAME.to_owned();
        match self.forwarded {
            // §2.1: "hit" and "fwd" exclude each other.
            None => text.push_str("; hit"),
            Some(forwarded) => {
                text.extend(["; fwd=", forwarded.token()]);
                if let Some(status) = self.forwarded_status {
                    text.push_str(&format!("; fwd-status={status}"));
                }
                text.push_str(if self.is_stored { "; stored" } else { "" });
                text.push_str(if self.is_collapsed { "; collapsed" } else { "" });
            }
        }
        if let Some(ttl_s) = self.ttl_s {
            text.push_str(&format!("; ttl={ttl_s}"));
        }
        if let Some(why) = self.not_stored {
            text.extend(["; detail=", detail(why)]);
        }
        appended(before, &text)
    }
}

fn detail(why: NotStored) -> &'static str {
    match why {
        NotStored::Method => "METHOD",
        NotStored::Status => "STATUS",
        NotStored::NoStore => "NO-STORE",
        NotStored::Private => "PRIVATE",
        NotStored::Authorization => "AUTHORIZATION",
        NotStored::SetCookie => "SET-COOKIE",
        NotStored::Vary => "VARY",
        NotStored::Tags => "TAGS",
        NotStored::NoLifetime => "NO-LIFETIME",
    }
}

/// RFC 9110 §7.6.3: every proxy adds itself, with the version that it received.
#[must_use]
pub fn via(received: &str, before: Option<&[u8]>) -> Vec<u8> {
    appended(before, &format!("{received} {NAME}"))
}

/// RFC 9111 §5.1.
#[must_use]
pub fn age(age_s: u64) -> String {
    age_s.to_string()
}

fn appended(before: Option<&[u8]>, text: &str) -> Vec<u8> {
    match before.filter(|before| !before.trim_ascii().is_empty()) {
        Some(before) => [before, b", ", text.as_bytes()].concat(),
        None => text.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIT: Told = Told {
        slices_here: 3,
        slices: 3,
        is_stale: false,
        forwarded: None,
        forwarded_status: None,
        is_collapsed: false,
        is_stored: false,
        ttl_s: Some(30),
        not_stored: None,
    };

    fn told(told: Told) -> (String, String) {
        (told.x_cache(), String::from_utf8(told.cache_status(None)).expect("text"))
    }

    #[test]
    fn what_is_told() {
        let forwarded = |forwarded, status| Told {
            is_stored: true,
            forwarded: Some(forwarded),
            forwarded_status: Some(status),
            ..HIT
        };
        let table = [
            (HIT, "HIT 3/3", "basalt; hit; ttl=30"),
            (Told { is_stale: true, ttl_s: Some(-5), ..HIT }, "STALE 3/3", "basalt; hit; ttl=-5"),
            (
                Told { slices_here: 0, is_collapsed: true, ..forwarded(Forwarded::UriMiss, 206) },
                "MISS 0/3",
                "basalt; fwd=uri-miss; fwd-status=206; stored; collapsed; ttl=30",
            ),
            (
                Told { slices_here: 2, ..forwarded(Forwarded::Partial, 206) },
                "PARTIAL 2/3",
                "basalt; fwd=partial; fwd-status=206; stored; ttl=30",
            ),
            (
                forwarded(Forwarded::Stale, 304),
                "HIT 3/3",
                "basalt; fwd=stale; fwd-status=304; stored; ttl=30",
            ),
            (
                Told { slices: 0, slices_here: 0, ..forwarded(Forwarded::VaryMiss, 404) },
                "MISS 0/0",
                "basalt; fwd=vary-miss; fwd-status=404; stored; ttl=30",
            ),
            (
                Told {
                    ttl_s: None,
                    is_stored: false,
                    not_stored: Some(NotStored::SetCookie),
                    ..forwarded(Forwarded::Bypass, 200)
                },
                "BYPASS",
                "basalt; fwd=bypass; fwd-status=200; detail=SET-COOKIE",
            ),
            (
                Told {
                    ttl_s: None,
                    is_stored: false,
                    forwarded_status: None,
                    ..forwarded(Forwarded::Method, 200)
                },
                "BYPASS",
                "basalt; fwd=method",
            ),
            (
                Told {
                    is_stored: false,
                    forwarded_status: None,
                    is_stale: true,
                    ..forwarded(Forwarded::Stale, 0)
                },
                "STALE 3/3",
                "basalt; fwd=stale; ttl=30",
            ),
            (
                forwarded(Forwarded::Request, 304),
                "HIT 3/3",
                "basalt; fwd=request; fwd-status=304; stored; ttl=30",
            ),
        ];
        for (what, x_cache, cache_status) in table {
            assert_eq!(told(what), (x_cache.to_owned(), cache_status.to_owned()));
        }
    }

    #[test]
    fn we_add_ourselves_behind_those_before_us() {
        assert_eq!(via("1.1", None), b"1.1 basalt");
        assert_eq!(via("1.0", Some(b"1.1 x")), b"1.1 x, 1.0 basalt");
        assert_eq!(via("1.1", Some(b" ")), b"1.1 basalt");
        assert_eq!(HIT.cache_status(Some(b"a; hit")), b"a; hit, basalt; hit; ttl=30");
        assert_eq!(age(5), "5");
    }
}
