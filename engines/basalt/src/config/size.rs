//! Amounts of bytes as people write them: `4GiB`, `512MiB`, `1G`, `4096`, `50%`.
//!
//! Units follow IEC and SI: `KiB`, `MiB`, `GiB`, `TiB` are powers of 1024; `K`, `M`, `G`, `T` (with or
//! without `B`) are powers of 1000. Case does not matter. A fraction is allowed before a unit (`1.5GiB`).

use std::fmt;

/// An amount of bytes, absolute or relative to a whole that is known later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// This many bytes, at least one.
    Bytes(u64),
    /// This share of the whole, 1 to 100.
    Percent(u8),
}

impl Amount {
    /// Reads a size or a percentage; the error says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(digits) = text.strip_suffix('%') {
            return match digits.trim_end().parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(format!("`{text}` is not a percentage from 1% to 100%")),
            };
        }
        parse_size_bytes(text).map(Self::Bytes)
    }

    /// The bytes this amounts to when the whole is `whole_bytes`.
    pub fn of(self, whole_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => {
                let share = u128::from(whole_bytes) * u128::from(percent) / 100;
                u64::try_from(share).expect("at most 100 % of a u64 fits a u64")
            }
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{}", Bytes(*bytes)),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Reads `4GiB`, `1G`, `4096` and their like into bytes, at least one.
pub fn parse_size_bytes(text: &str) -> Result<u64, String> {
    let refusal = || format!("`{text}` is not a size such as 4GiB, 512MiB, 10G or 4096");
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit_bytes = unit_bytes(unit.trim_start()).ok_or_else(refusal)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // Nine decimals are more than a byte in a GiB, and keep the arithmetic below far from overflow.
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 {
        return Err(refusal());
    }
    let whole: u64 = whole.parse().map_err(|_| refusal())?;
    let tenths: u64 = fraction.parse().map_err(|_| refusal())?;
    let scale = 10u128.pow(u32::try_from(fraction.len()).expect("at most nine"));
    let bytes =
        u128::from(whole) * u128::from(unit_bytes) + u128::from(tenths) * u128::from(unit_bytes) / scale;
    match u64::try_from(bytes) {
        Ok(0) | Err(_) => Err(refusal()),
        Ok(bytes) => Ok(bytes),
    }
}

fn unit_bytes(unit: &str) -> Option<u64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ => return None,
    })
}

/// Bytes shown in the largest IEC unit, exact when they divide evenly: `4 GiB`, `5.87 GiB`, `512 B`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] =
            [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        for (unit_bytes, unit) in UNITS {
            if self.0 >= unit_bytes {
                if self.0.is_multiple_of(unit_bytes) {
                    return write!(f, "{} {unit}", self.0 / unit_bytes);
                }
                let hundredths = u128::from(self.0) * 100 / u128::from(unit_bytes);
                return write!(f, "{}.{:02} {unit}", hundredths / 100, hundredths % 100);
            }
        }
        write!(f, "{} B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_follow_iec_and_si() {
        let sizes = [
            ("4096", 4096),
            ("7B", 7),
            ("1K", 1_000),
            ("1kb", 1_000),
            ("1KiB", 1_024),
            ("512MiB", 512 << 20),
            ("1G", 1_000_000_000),
            ("1GB", 1_000_000_000),
            ("4GiB", 4 << 30),
            ("4 gib", 4 << 30),
            ("1.5GiB", 3 << 29),
            ("2Ti", 2 << 40),
        ];
        for (text, bytes) in sizes {
            assert_eq!(parse_size_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in ["", "GiB", "-1", "4XB", "1.", ".5G", "1.2.3K", "0", "0%", "101%", "%", "99999999999TiB"]
        {
            assert!(Amount::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_percentage_waits_for_its_whole() {
        assert_eq!(Amount::parse("25%"), Ok(Amount::Percent(25)));
        assert_eq!(Amount::Percent(25).of(1000), 250);
        assert_eq!(Amount::Percent(100).of(u64::MAX), u64::MAX);
        assert_eq!(Amount::Bytes(7).of(1000), 7);
    }

    #[test]
    fn bytes_are_shown_in_iec_units() {
        let shown = [4 << 30, 6_307_840_000, 512, 1536].map(|bytes| Bytes(bytes).to_string());
        assert_eq!(shown, ["4 GiB", "5.87 GiB", "512 B", "1.50 KiB"]);
    }
}
