//! The few character classes and list rules of RFC 9110 §5.5 and §5.6 that more than one file needs.

/// `tchar`, the characters of a token (RFC 9110 §5.6.2).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What a field value may hold: `field-vchar / SP / HTAB` (RFC 9110 §5.5). NUL, CR, LF, DEL, other controls: not.
pub(crate) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Whether `text` is a token: one or more `tchar`.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_token_byte(byte))
}

/// `OWS = *( SP / HTAB )` (RFC 9110 §5.6.3).
pub(crate) fn is_ows(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `text` without optional whitespace at both ends.
pub(crate) fn trim_ows(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_ows(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_ows(*last)
    {
        text = rest;
    }
    text
}

/// The trimmed elements of a comma-separated list without quoted strings, empty ones included (RFC 9110 §5.6.1).
pub(crate) fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_ows)
}

/// Decimal digits as a number; `None` unless `1*DIGIT`. What does not fit is `u64::MAX`, and `exact` is then false.
pub(crate) fn decimal_saturating(digits: &[u8]) -> Option<Decimal> {
    if digits.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    let mut exact = true;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        let next = value.checked_mul(10).and_then(|tens| tens.checked_add(u64::from(byte - b'0')));
        exact &= next.is_some();
        value = if exact { next.unwrap_or(u64::MAX) } else { u64::MAX };
    }
    Some(Decimal { value, exact })
}

/// A decimal number from the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decimal {
    /// The number, or `u64::MAX` if it does not fit.
    pub(crate) value: u64,
    /// Whether it fitted.
    pub(crate) exact: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_saturate_and_say_so() {
        let exact = |value| Some(Decimal { value, exact: true });
        assert_eq!(decimal_saturating(b"0"), exact(0));
        assert_eq!(decimal_saturating(b"007"), exact(7));
        assert_eq!(decimal_saturating(b"18446744073709551615"), exact(u64::MAX));
        let beyond = Some(Decimal { value: u64::MAX, exact: false });
        assert_eq!(decimal_saturating(b"18446744073709551616"), beyond);
        assert_eq!(decimal_saturating(b"184467440737095516150"), beyond);
        assert_eq!(decimal_saturating(b"99999999999999999999999999990"), beyond);
        for bad in [&b""[..], b"+1", b"-1", b" 1", b"1 ", b"0x1", b"1_0"] {
            assert_eq!(decimal_saturating(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn lists_are_split_and_trimmed() {
        let elements: Vec<&[u8]> = list_elements(b" a ,\tb,, c").collect();
        assert_eq!(elements, [&b"a"[..], b"b", b"", b"c"]);
        assert_eq!(trim_ows(b" \t "), b"");
    }
}
