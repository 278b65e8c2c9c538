//! The fields of a message: names in any case, values without surrounding whitespace. Borrowed from the parsed head.

use net::http1::{Head, ReplyHead};
use std::borrow::Cow;

/// Field lines in the order received.
#[derive(Clone, Debug, Default)]
pub struct Fields<'f> {
    lines: Vec<(&'f [u8], &'f [u8])>,
}

impl<'f> Fields<'f> {
    /// Of a client's request.
    #[must_use]
    pub fn of_request(head: &'f Head<'_>) -> Fields<'f> {
        Fields { lines: head.headers().collect() }
    }

    /// Of an origin's answer.
    #[must_use]
    pub fn of_reply(head: &'f ReplyHead) -> Fields<'f> {
        Fields { lines: head.headers().map(|(name, value)| (name.as_bytes(), value)).collect() }
    }

    /// Of stored lines, or of a test.
    pub fn of_pairs<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: &'f [(N, V)]) -> Fields<'f> {
        Fields { lines: pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect() }
    }

    /// All lines.
    pub fn lines(&self) -> impl Iterator<Item = (&'f [u8], &'f [u8])> + '_ {
        self.lines.iter().copied()
    }

    /// The values of all lines of that name.
    pub fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'f [u8]> + 's {
        let is_named = move |line: &&(&[u8], &[u8])| line.0.eq_ignore_ascii_case(name.as_bytes());
        self.lines.iter().filter(is_named).map(|(_, value)| *value)
    }

    /// Whether there is such a line.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The value of the only line of that name. Two are none: nobody knows which one holds.
    #[must_use]
    pub fn only(&self, name: &str) -> Option<&'f [u8]> {
        let mut values = self.all(name);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }

    /// The value of all lines of that name as one list (RFC 9110 §5.3).
    #[must_use]
    pub fn joined(&self, name: &str) -> Option<Cow<'f, [u8]>> {
        let mut values = self.all(name);
        let first = Cow::Borrowed(values.next()?);
        Some(values.fold(first, |joined, value| Cow::Owned([&joined[..], b", ", value].concat())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_name() {
        let pairs = [("A", "1"), ("b", "2"), ("a", "3")];
        let fields = Fields::of_pairs(&pairs);
        assert_eq!(fields.joined("a").as_deref(), Some(&b"1, 3"[..]));
        assert_eq!((fields.only("a"), fields.only("B")), (None, Some(&b"2"[..])));
        assert!(fields.has("A") && !fields.has("c") && fields.joined("c").is_none());
        assert_eq!(fields.lines().count(), 3);
    }
}
