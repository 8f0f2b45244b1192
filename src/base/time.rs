//! Instants of the civil calendar in the forms that S3 uses, without a clock: callers pass the time in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Of 365.2425 days.
const FIFTY_YEARS_S: i64 = 1_577_847_600;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Seconds and nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds within the second, below 10^9.
    pub nanoseconds: u32,
}

/// A timestamp taken apart by the proleptic Gregorian calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: i64,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    /// 0 is Monday.
    pub weekday: u32,
}

impl Timestamp {
    /// Whole seconds since the epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    /// The system clock's time. Only the rooms that drive (`net`, `server`) call this; the others are told the time.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// A file's time.
    pub fn from_nanoseconds(nanoseconds: i64) -> Self {
        let (seconds, nanoseconds) = (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
        Self { seconds, nanoseconds: nanoseconds as u32 }
    }

    /// Nanoseconds since the epoch; saturates in the year 2262.
    pub fn as_nanoseconds(self) -> i64 {
        self.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(self.nanoseconds))
    }

    /// Calendar fields, UTC.
    pub fn civil(self) -> Civil {
        let days = self.seconds.div_euclid(86_400);
        let of_day = self.seconds.rem_euclid(86_400) as u32;
        // Days to civil by the 400-year cycle that starts on 0000-03-01.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_shifted = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * month_shifted + 2) / 5 + 1) as u32;
        let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 } as u32;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Civil {
            year,
            month,
            day,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            weekday: (days + 3).rem_euclid(7) as u32,
        }
    }

    /// `None` for fields out of range (`2026-02-30`).
    pub fn from_civil(year: i64, month: u32, day: u32, hour: u32, minute: u32, second: u32) -> Option<Self> {
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let year_shifted = year - i64::from(month <= 2);
        let era = year_shifted.div_euclid(400);
        let year_of_era = year_shifted.rem_euclid(400);
        let month_shifted = i64::from(if month > 2 { month - 3 } else { month + 9 });
        let day_of_year = (153 * month_shifted + 2) / 5 + i64::from(day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let seconds = days * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
        let timestamp = Self::from_seconds(seconds);
        (timestamp.civil().day == day || second == 60).then_some(timestamp)
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7), for `Date` and `Last-Modified`.
    pub fn http_date(self) -> String {
        let c = self.civil();
        let (weekday, month) = (DAYS[c.weekday as usize], MONTHS[c.month as usize - 1]);
        let (Ok(year), true) = (u32::try_from(c.year), c.year <= 9999) else {
            return format!("{weekday}, {:02} {month} {:04} {:02}:{:02}:{:02} GMT", c.day, c.year, c.hour, c.minute, c.second);
        };
        // Every answer about an object has one, and `format!` costs ten times as much.
        let two = |number: u32| [char::from(b'0' + (number / 10 % 10) as u8), char::from(b'0' + (number % 10) as u8)];
        let mut text = String::with_capacity(29);
        text.extend([weekday, ", "]);
        text.extend(two(c.day));
        text.extend([" ", month, " "]);
        text.extend(two(year / 100));
        text.extend(two(year));
        for (separator, number) in [(' ', c.hour), (':', c.minute), (':', c.second)] {
            text.push(separator);
            text.extend(two(number));
        }
        text.push_str(" GMT");
        text
    }

    /// `1994-11-06T08:49:37.000Z`, for S3's XML.
    pub fn iso8601(self) -> String {
        let c = self.civil();
        let milliseconds = self.nanoseconds / 1_000_000;
        format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{milliseconds:03}Z", c.year, c.month, c.day, c.hour, c.minute, c.second)
    }

    /// `19941106T084937Z`, SigV4's `X-Amz-Date`.
    pub fn amz_date(self) -> String {
        let c = self.civil();
        format!("{:04}{:02}{:02}T{:02}{:02}{:02}Z", c.year, c.month, c.day, c.hour, c.minute, c.second)
    }

    /// Reads `19941106T084937Z`.
    pub fn parse_amz_date(text: &str) -> Option<Self> {
        let bytes: &[u8; 16] = text.as_bytes().try_into().ok()?;
        if bytes[8] != b'T' || bytes[15] != b'Z' {
            return None;
        }
        let n = |from: usize, to: usize| number(&bytes[from..to]);
        Self::from_civil(i64::from(n(0, 4)?), n(4, 6)?, n(6, 8)?, n(9, 11)?, n(11, 13)?, n(13, 15)?)
    }

    /// Reads the three forms of RFC 9110 section 5.6.7: IMF-fixdate, RFC 850 and asctime. `now` tells the century of two digits.
    pub fn parse_http_date(text: &str, now: Self) -> Option<Self> {
        // botocore signs a `Date` of its caller as `… -0000`, e-mail's way to write UTC (RFC 5322 section 3.3).
        let date = [" GMT", " -0000", " +0000"].iter().find_map(|zone| text.strip_suffix(zone));
        let fields: Vec<&str> = date.unwrap_or(text).split([' ', ',', '-']).filter(|field| !field.is_empty()).collect();
        match (date, &*fields) {
            (Some(_), [_, day, month, year, time]) => Self::from_date_fields(year, month, day, time, now),
            (None, [_, month, day, time, year]) => Self::from_date_fields(year, month, day, time, now),
            _ => None,
        }
    }

    fn from_date_fields(year: &str, month: &str, day: &str, time: &str, now: Self) -> Option<Self> {
        let month = MONTHS.iter().position(|name| *name == month)? as u32 + 1;
        let mut year_number = i64::from(number(year.as_bytes())?);
        let mut clock = time.split(':').map(|part| number(part.as_bytes()));
        let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
        if clock.next().is_some() {
            return None;
        }
        let day = number(day.as_bytes())?;
        if year.len() != 2 {
            return Self::from_civil(year_number, month, day, hour, minute, second);
        }
        // RFC 850's: what would lie more than 50 years ahead was the last year that ended so.
        let civil = now.civil();
        let ahead = Self { seconds: now.seconds + FIFTY_YEARS_S, ..now };
        year_number += civil.year + 50 - (civil.year + 50).rem_euclid(100);
        let date = |year| Self::from_civil(year, month, day, hour, minute, second);
        [year_number, year_number - 100].into_iter().filter_map(date).find(|date| *date <= ahead)
    }

    /// Reads `1994-11-06T08:49:37Z` and `1994-11-06T08:49:37.123Z`.
    pub fn parse_iso8601(text: &str) -> Option<Self> {
        let (whole, fraction) = text.strip_suffix('Z')?.split_once('.').unwrap_or((text.strip_suffix('Z')?, ""));
        let bytes: &[u8; 19] = whole.as_bytes().try_into().ok()?;
        if bytes[4] != b'-' || bytes[7] != b'-' || bytes[10] != b'T' || bytes[13] != b':' || bytes[16] != b':' {
            return None;
        }
        if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let n = |from: usize, to: usize| number(&bytes[from..to]);
        let mut timestamp = Self::from_civil(i64::from(n(0, 4)?), n(5, 7)?, n(8, 10)?, n(11, 13)?, n(14, 16)?, n(17, 19)?)?;
        timestamp.nanoseconds = format!("{fraction:0<9}").parse().ok()?;
        Some(timestamp)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() },
            Err(before) => {
                let ahead: Duration = before.duration();
                let borrow = i64::from(ahead.subsec_nanos() > 0);
                let nanoseconds = (1_000_000_000 - ahead.subsec_nanos()) % 1_000_000_000;
                Self { seconds: -(ahead.as_secs() as i64) - borrow, nanoseconds }
            }
        }
    }
}

/// Decimal digits only, at most nine of them.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_rfc_9110_name_one_instant() {
        let expected = Timestamp::from_seconds(784_111_777);
        let now = Timestamp::from_civil(2026, 11, 30, 0, 0, 0).unwrap();
        let forms = ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"];
        for text in forms.into_iter().chain(["Sun, 06 Nov 1994 08:49:37 -0000"]) {
            assert_eq!(Timestamp::parse_http_date(text, now), Some(expected), "{text}");
        }
        assert_eq!(expected.http_date(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(expected.iso8601(), "1994-11-06T08:49:37.000Z");
        assert_eq!(expected.amz_date(), "19941106T084937Z");
        assert_eq!(Timestamp::parse_amz_date("19941106T084937Z"), Some(expected));
        assert_eq!(Timestamp::parse_iso8601("1994-11-06T08:49:37.000Z"), Some(expected));
    }

    /// RFC 9110 section 5.6.7.
    #[test]
    fn two_digits_of_a_year_lie_at_most_fifty_years_ahead() {
        let at = |year| Timestamp::from_civil(year, 6, 15, 12, 0, 0).unwrap();
        for (now, digits, year) in [
            (2026, 76, 2076),
            (2026, 77, 1977),
            (2026, 0, 2000),
            (2026, 26, 2026),
            (1994, 94, 1994),
            (1994, 44, 2044),
            (2050, 99, 2099),
        ] {
            let text = format!("Monday, 01-Jan-{digits:02} 00:00:00 GMT");
            assert_eq!(Timestamp::parse_http_date(&text, at(now)), Timestamp::from_civil(year, 1, 1, 0, 0, 0), "{now} {digits}");
        }
        // The same year, but behind the day fifty years ahead.
        let text = "Monday, 01-Dec-76 00:00:00 GMT";
        assert_eq!(Timestamp::parse_http_date(text, at(2026)), Timestamp::from_civil(1976, 12, 1, 0, 0, 0));
        assert_eq!(Timestamp::parse_http_date("Friday, 30-Feb-26 00:00:00 GMT", at(2026)), None);
    }

    #[test]
    fn calendar_edges() {
        let leap = Timestamp::from_civil(2024, 2, 29, 0, 0, 0).unwrap();
        assert_eq!(leap.http_date(), "Thu, 29 Feb 2024 00:00:00 GMT");
        assert_eq!(Timestamp::from_civil(2023, 2, 29, 0, 0, 0), None);
        assert_eq!(Timestamp::from_civil(2026, 13, 1, 0, 0, 0), None);
        assert_eq!(Timestamp::from_seconds(-1).http_date(), "Wed, 31 Dec 1969 23:59:59 GMT");
        assert_eq!(Timestamp::parse_amz_date("2026-11-22T000000"), None);
        assert_eq!(Timestamp::parse_http_date("yesterday", leap), None);
    }
}
