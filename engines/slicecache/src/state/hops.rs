//! How many times a request may still be forwarded: Max-Forwards of OPTIONS and TRACE (RFC 9110 §7.6.2).

use super::fields::Fields;
use super::forward::Line;

const NAME: &str = "max-forwards";

/// What such a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hops {
    /// Nothing: it goes as far as it gets.
    Any,
    /// It goes no further than to us.
    None,
    /// It is forwarded, and then may be as often.
    Left(u32),
    /// No number, or several.
    Malformed,
}

impl Hops {
    /// Of the fields of an OPTIONS or TRACE; other methods' are ignored, as they may be.
    #[must_use]
    pub fn of(fields: &Fields<'_>) -> Hops {
        if !fields.has(NAME) {
            return Hops::Any;
        }
        let digits = fields.only(NAME).filter(|text| !text.is_empty() && text.iter().all(u8::is_ascii_digit));
        let add = |sum: u32, digit: &u8| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
        match digits.map(|digits| digits.iter().fold(0, add)) {
            None => Hops::Malformed,
            Some(0) => Hops::None,
            Some(left) => Hops::Left(left - 1),
        }
    }

    /// The fields with which it is forwarded.
    pub fn count(self, lines: &mut [Line]) {
        let Hops::Left(left) = self else { return };
        for (name, value) in lines {
            if name.eq_ignore_ascii_case(NAME.as_bytes()) {
                *value = left.to_string().into_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Hops {
        let pairs: Vec<(&str, &str)> = values.iter().map(|value| ("Max-Forwards", *value)).collect();
        Hops::of(&Fields::of_pairs(&pairs))
    }

    #[test]
    fn each_forwarding_is_one_less() {
        assert_eq!((of(&[]), of(&["0"]), of(&["000"])), (Hops::Any, Hops::None, Hops::None));
        assert_eq!((of(&["1"]), of(&["10"])), (Hops::Left(0), Hops::Left(9)));
        // More than is counted is as much as is counted.
        assert_eq!(of(&["99999999999999999999"]), Hops::Left(u32::MAX - 1));
        for malformed in [&["x"][..], &[""], &["-1"], &["1, 2"], &["1", "1"]] {
            assert_eq!(of(malformed), Hops::Malformed, "{malformed:?}");
        }
    }

    #[test]
    fn the_field_is_replaced_where_it_stands() {
        let mut lines: Vec<Line> = [("a", "1"), ("MAX-forwards", "7")]
            .map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()))
            .into();
        Hops::Left(6).count(&mut lines);
        assert_eq!(lines[1], (b"MAX-forwards".to_vec(), b"6".to_vec()));
        Hops::Any.count(&mut lines);
        assert_eq!((lines.len(), &lines[0].1[..]), (2, &b"1"[..]));
    }
}
