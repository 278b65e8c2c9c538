//! Bearer tokens (RFC 6750): which ones a listener takes. The node reads the file, `server` asks about each head.
//!
//! A line is `LISTENER TOKEN`, such as `blob 3q2-7w`; empty lines and those that start with `#` say nothing. A listener may
//! have several tokens, so that one can be changed without a gap; one that no line names admits nobody.
//!
//! Invariants
//! 1. How long a comparison takes says nothing of a token but its length, nor which of several it was.
//! 2. A token is never printed: neither by an error nor by `Debug`.

use crate::http1::Head;
use std::fmt;
use subtle::{Choice, ConstantTimeEq};

/// Lines with tokens in one file.
pub const TOKENS_MAX: usize = 1024;
/// Characters of a token.
pub const TOKEN_BYTES_MAX: usize = 512;

/// The tokens of all listeners.
#[derive(Default)]
pub struct Tokens {
    of: Vec<(String, Vec<u8>)>,
}

/// A line that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct TokenError {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("count", &self.of.len()).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads a file's text; `listeners` are the names there are.
    ///
    /// # Errors
    /// The first line that is none of the three.
    pub fn parse(text: &str, listeners: &[&str]) -> Result<Tokens, TokenError> {
        let mut of = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let wrong = |why: String| TokenError { line: at + 1, why };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            let (Some(listener), Some(token), None) = (words.next(), words.next(), words.next()) else {
                return Err(wrong(format!("a line is {} and a token", listeners.join("|"))));
            };
            if !listeners.contains(&listener) {
                return Err(wrong(format!("the first word is none of {}", listeners.join(", "))));
            }
            if token.len() > TOKEN_BYTES_MAX || !is_token68(token.as_bytes()) {
                let why = format!(
                    "a token is at most {TOKEN_BYTES_MAX} letters, digits, - . _ ~ + / and then perhaps ="
                );
                return Err(wrong(why));
            }
            if of.len() == TOKENS_MAX {
                return Err(wrong(format!("there are more than {TOKENS_MAX} tokens")));
            }
            of.push((listener.to_owned(), token.as_bytes().to_vec()));
        }
        Ok(Tokens { of })
    }

    /// Whether anybody is admitted there.
    pub fn has(&self, listener: &str) -> bool {
        self.of.iter().any(|(of, _)| of == listener)
    }

    /// Whether the head carries a token of that listener.
    pub(crate) fn admit(&self, listener: &str, head: &Head<'_>) -> bool {
        let mut fields = head.headers().filter(|(name, _)| name.eq_ignore_ascii_case(b"authorization"));
        let (Some((_, value)), None) = (fields.next(), fields.next()) else { return false };
        bearer(value).is_some_and(|token| self.knows(listener, token))
    }

    /// Compares with every token of the listener, found or not.
    fn knows(&self, listener: &str, token: &[u8]) -> bool {
        let of_listener = self.of.iter().filter(|(of, _)| of == listener);
        let known = of_listener.fold(Choice::from(0), |known, (_, other)| known | other.ct_eq(token));
        known.into()
    }
}

/// The token of `Bearer TOKEN`, the scheme in any case (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii_start())
}

/// `token68` of RFC 9110 §11.2.
fn is_token68(token: &[u8]) -> bool {
    let body = token.iter().rposition(|&b| b != b'=').map_or(&token[..0], |last| &token[..=last]);
    !body.is_empty() && body.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{Parsed, parse_head};

    const NAMES: [&str; 3] = ["blob", "slice", "ops"];

    fn admits(tokens: &Tokens, listener: &str, fields: &str) -> bool {
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let Ok(Parsed::Complete(head)) = parse_head(text.as_bytes()) else { panic!("not a head: {text}") };
        tokens.admit(listener, &head)
    }

    #[test]
    fn a_token_opens_its_listener_only() {
        let text = "# one\n\nblob aaa\n  blob\tbbb==  \nops ccc\n";
        let tokens = Tokens::parse(text, &NAMES).expect("valid");
        assert!(tokens.has("blob") && tokens.has("ops") && !tokens.has("slice"));
        for good in [
            "Authorization: Bearer aaa\r\n",
            "authorization:bearer  bbb==\r\n",
            "X: y\r\nAuthorization: BEARER aaa \r\n",
        ] {
            assert!(admits(&tokens, "blob", good), "{good}");
        }
        for bad in [
            "",
            "Authorization: Bearer ccc\r\n",
            "Authorization: Bearer aa\r\n",
            "Authorization: Bearer aaaa\r\n",
            "Authorization: Bearer \r\n",
            "Authorization: Bearer\r\n",
            "Authorization: aaa\r\n",
            "Authorization: Basic aaa\r\n",
            "Authorization: Bearer aaa aaa\r\n",
            "Authorization: Bearer aaa\r\nAuthorization: Bearer aaa\r\n",
            "X-Authorization: Bearer aaa\r\n",
        ] {
            assert!(!admits(&tokens, "blob", bad), "{bad}");
        }
        assert!(admits(&tokens, "ops", "Authorization: Bearer ccc\r\n"));
        assert!(!admits(&tokens, "slice", "Authorization: Bearer aaa\r\n"));
    }

    #[test]
    fn a_wrong_line_is_named_and_its_token_is_not() {
        let long = format!("blob {}", "a".repeat(TOKEN_BYTES_MAX + 1));
        for bad in [
            "blob",
            "blob a b",
            "bolb secret",
            "blob sec\u{e9}ret",
            "blob =",
            "blob a=a",
            "blob \"a\"",
            &long,
        ] {
            let error = Tokens::parse(&format!("ops fine\n\n{bad}\n"), &NAMES).expect_err(bad);
            assert_eq!(error.line, 3, "{bad}");
            assert!(!error.to_string().contains("sec"), "{error}");
        }
        let many = "blob a\n".repeat(TOKENS_MAX + 1);
        assert_eq!(Tokens::parse(&many, &NAMES).expect_err("too many").line, TOKENS_MAX + 1);
        assert!(!format!("{:?}", Tokens::parse("blob secret", &NAMES)).contains("secret"));
    }
}
