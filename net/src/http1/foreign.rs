//! First lines of other protocols. Called by the connection driver with what could not be parsed.

use super::request::Method;

/// Whether bytes begin with a line that has the form of a request and neither a method that we know nor the name of HTTP: whoever sends
/// it (SIP, say, or a spoiled preface of HTTP/2) would take an answer of HTTP/1.1 for bytes of its own protocol.
pub(crate) fn is_foreign(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return false };
    let mut words = bytes[..end].split(|&b| b == b' ');
    let (Some(method), Some(_), Some(protocol), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let is_token = |word: &[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_graphic);
    let is_http = protocol.len() >= 4 && protocol[..4].eq_ignore_ascii_case(b"HTTP");
    let is_known = std::str::from_utf8(method).is_ok_and(|name| Method::from_token(name) != Method::Other);
    is_token(method) && is_token(protocol) && !is_http && !is_known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_http_or_one_of_its_methods_is_not_foreign() {
        for (line, expected) in [
            ("INVALID CONNECTION PREFACE", true),
            ("REGISTER sip:h SIP/2.0", true),
            ("GET / HTTP/1.1", false),
            ("GET / FTP/1.1", false),
            ("BREW /pot http/1.1", false),
            ("BREW /pot HTTP", false),
            ("BREW /pot", false),
            ("BREW  HTP/1", true),
            ("BREW /pot ", false),
            (" /pot HTP/1", false),
            ("a b c d", false),
            ("", false),
        ] {
            assert_eq!(is_foreign(format!("{line}\r\nX: y\r\n").as_bytes()), expected, "{line}");
        }
        assert!(!is_foreign(b"INVALID CONNECTION PREFACE\n"), "it may go on");
    }
}
