//! The Date field: IMF-fixdate (RFC 9110 §5.6.7) from a number of seconds. The clock is the caller's. Back: `parse`.

mod parse;

pub use parse::parse_http_date;

const SECONDS_PER_DAY: u64 = 86_400;

/// Last second of the year 9999: the format has four digits.
const UNIX_SECONDS_MAX: u64 = 253_402_300_799;

const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

/// `Sun, 06 Nov 1994 08:49:37 GMT`. Make one per second and keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpDate([u8; 29]);

impl HttpDate {
    /// The date of that second; beyond the year 9999 its last second.
    #[must_use]
    pub fn at(unix_seconds: u64) -> Self {
        let seconds = unix_seconds.min(UNIX_SECONDS_MAX);
        let (days, second_of_day) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
        let (year, month, day) = civil(days);
        let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
        let weekday = index(days % 7) * 3;
        text[..3].copy_from_slice(&DAYS[weekday..weekday + 3]);
        two_digits(&mut text[5..7], day);
        let month = index(month - 1) * 3;
        text[8..11].copy_from_slice(&MONTHS[month..month + 3]);
        two_digits(&mut text[12..14], year / 100);
        two_digits(&mut text[14..16], year % 100);
        two_digits(&mut text[17..19], second_of_day / 3600);
        two_digits(&mut text[20..22], second_of_day / 60 % 60);
        two_digits(&mut text[23..25], second_of_day % 60);
        Self(text)
    }

    /// The 29 characters.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 29] {
        &self.0
    }
}

/// Year, month and day (from 1) of the days since 1970-01-01: Hinnant's `civil_from_days`, years that begin in March
/// so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn index(small: u64) -> usize {
    debug_assert!(small < 12);
    small as usize
}

fn two_digits(out: &mut [u8], number: u64) {
    debug_assert!(number < 100);
    out[0] = b'0' + (number / 10) as u8;
    out[1] = b'0' + (number % 10) as u8;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(unix_seconds: u64) -> String {
        String::from_utf8_lossy(HttpDate::at(unix_seconds).as_bytes()).into_owned()
    }

    #[test]
    fn known_dates() {
        assert_eq!(text(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT"); // the example of the RFC
        assert_eq!(text(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(text(1_709_251_199), "Thu, 29 Feb 2024 23:59:59 GMT");
        assert_eq!(text(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT"); // 2100 is no leap year
        assert_eq!(text(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn every_day_of_400_years_follows_the_one_before() {
        let is_leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let mut expected = (1970, 1, 1);
        for days in 0..146_097 {
            assert_eq!(civil(days), expected);
            let (year, month, day) = expected;
            let month_days = match month {
                2 => 28 + u64::from(is_leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (month, day == month_days) {
                (_, false) => (year, month, day + 1),
                (12, true) => (year + 1, 1, 1),
                (_, true) => (year, month + 1, 1),
            };
        }
    }
}
