//! Reading a date of HTTP (RFC 9110 §5.6.7): IMF-fixdate, and the two older forms that a recipient must take.
//!
//! Called for Last-Modified, Expires, Date, Retry-After and the conditions that hold a date. Seconds since 1970; a date before
//! that is 0: what it says of freshness or modification is the same.

use super::{MONTHS, SECONDS_PER_DAY};

/// A two-digit year that seems to be further ahead than this is in the past (RFC 9110 §5.6.7).
const TWO_DIGIT_YEARS_AHEAD_MAX: i64 = 50;
const DAY_NAMES: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// Seconds since 1970 of a date in any of the three forms; `now_s` tells the century of a two-digit year. `None`: no date.
#[must_use]
pub fn parse_http_date(value: &[u8], now_s: u64) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    match text.split_once(", ") {
        Some((day, rest)) if is_short_day(day) => fixdate(rest),
        Some((day, rest)) if DAY_NAMES.contains(&day) => rfc_850(rest, now_s),
        Some(_) => None,
        None => asctime(text),
    }
}

/// `06 Nov 1994 08:49:37 GMT`
fn fixdate(rest: &str) -> Option<u64> {
    let fields: [&str; 5] = split(rest, ' ')?;
    let [day, month, year, time, zone] = fields;
    let is_gmt = zone == "GMT";
    seconds(number(year, 4)?, month_of(month)?, number(day, 2)?, time).filter(|_| is_gmt)
}

/// `06-Nov-94 08:49:37 GMT`
fn rfc_850(rest: &str, now_s: u64) -> Option<u64> {
    let [date, time, zone] = split(rest, ' ')?;
    let [day, month, year] = split(date, '-')?;
    let (this_year, ..) = super::civil(now_s / SECONDS_PER_DAY);
    let this_year = i64::try_from(this_year).ok()?;
    let mut year = this_year - this_year % 100 + number(year, 2)?;
    if year > this_year + TWO_DIGIT_YEARS_AHEAD_MAX {
        year -= 100;
    }
    seconds(year, month_of(month)?, number(day, 2)?, time).filter(|_| zone == "GMT")
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(text: &str) -> Option<u64> {
    let (day_name, rest) = text.split_at_checked(4)?;
    let (month, rest) = rest.split_at_checked(4)?;
    let (day, rest) = rest.split_at_checked(3)?;
    let [time, year] = split(rest, ' ')?;
    let (month, day) = (month.strip_suffix(' ')?, day.strip_suffix(' ')?);
    let day = match day.strip_prefix(' ') {
        Some(digit) => number(digit, 1)?,
        None => number(day, 2)?,
    };
    is_short_day(day_name.strip_suffix(' ')?).then_some(())?;
    seconds(number(year, 4)?, month_of(month)?, day, time)
}

fn split<const N: usize>(text: &str, at: char) -> Option<[&str; N]> {
    let mut fields = text.split(at);
    let found = [(); N].map(|()| fields.next().unwrap_or(""));
    (fields.next().is_none() && found.iter().all(|field| !field.is_empty())).then_some(found)
}

fn is_short_day(text: &str) -> bool {
    text.len() == 3 && DAY_NAMES.iter().any(|name| name.starts_with(text))
}

fn month_of(text: &str) -> Option<i64> {
    let at = MONTHS.chunks_exact(3).position(|name| name == text.as_bytes())?;
    i64::try_from(at + 1).ok()
}

fn number(text: &str, digits: usize) -> Option<i64> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn seconds(year: i64, month: i64, day: i64, time: &str) -> Option<u64> {
    let [hour, minute, second] = split(time, ':')?;
    let (hour, minute, second) = (number(hour, 2)?, number(minute, 2)?, number(second, 2)?);
    // 60 is a leap second.
    if hour > 23 || minute > 59 || second > 60 || !(1..=month_days(year, month)).contains(&day) {
        return None;
    }
    let per_day = i64::try_from(SECONDS_PER_DAY).expect("a small constant");
    let total = days_from_civil(year, month, day) * per_day + hour * 3600 + minute * 60 + second;
    Some(u64::try_from(total).unwrap_or(0))
}

fn month_days(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01: Hinnant's `days_from_civil`, the inverse of `civil`. Years are 0 to 9999.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::super::HttpDate;
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-21.
    const NOW_S: u64 = 1_795_219_200;

    #[test]
    fn the_three_forms_of_the_rfc_are_one_date() {
        let forms =
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"];
        for form in forms {
            assert_eq!(parse_http_date(form.as_bytes(), NOW_S), Some(784_111_777), "{form}");
        }
        let two_digits = "Wednesday, 16-Nov-94 08:49:37 asc";
        assert_eq!(parse_http_date(two_digits.as_bytes(), NOW_S), None);
        assert_eq!(parse_http_date(b"Wed Nov 16 08:49:37 1994", NOW_S), Some(784_975_777));
    }

    #[test]
    fn two_digits_are_of_the_nearest_century_that_is_at_most_50_years_ahead() {
        let year_of = |text: &str| {
            super::super::civil(parse_http_date(text.as_bytes(), NOW_S).expect("valid") / SECONDS_PER_DAY).0
        };
        assert_eq!(year_of("Monday, 01-Jan-76 00:00:00 GMT"), 2076);
        assert_eq!(year_of("Monday, 01-Jan-77 00:00:00 GMT"), 1977);
        assert_eq!(year_of("Monday, 01-Jan-26 00:00:00 GMT"), 2026);
    }

    #[test]
    fn what_is_no_date() {
        for bad in [
            "",
            "0",
            "-1",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Su, 06 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 29 Feb 2023 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov +994 08:49:37 GMT",
            "Sun  Nov 6 08:49:37 1994",
            "Sun Nov 6 08:49:37 1994",
            "Sün, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse_http_date(bad.as_bytes(), NOW_S), None, "{bad}");
        }
        assert_eq!(parse_http_date(b"Thu, 01 Jan 1970 00:00:00 GMT", NOW_S), Some(0));
        assert_eq!(parse_http_date(b"Mon, 01 Jan 0001 00:00:00 GMT", NOW_S), Some(0));
    }

    proptest! {
        #[test]
        fn what_we_write_we_read(seconds in 0..253_402_300_800_u64) {
            prop_assert_eq!(parse_http_date(HttpDate::at(seconds).as_bytes(), NOW_S), Some(seconds));
        }

        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..40), now_s in any::<u64>()) {
            let _ = parse_http_date(&bytes, now_s.min(253_402_300_799));
        }
    }
}
