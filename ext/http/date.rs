//! Dates of RFC 1123 (`IMF-fixdate` of RFC 9110, section 5.6.7).

/// Length of every such date until the year 9999.
pub const DATE_LENGTH: usize = 29;

const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

/// `Thu, 01 Jan 1970 00:00:00 GMT` for 0: the date of so many seconds since 1970, in GMT. Seconds before 1970 and
/// after 9999, which no clock means, are taken as the nearest that can be written.
#[must_use]
pub fn format(unix_seconds: i64) -> [u8; DATE_LENGTH] {
    const LAST: u64 = 253_402_300_799; // 9999-12-31 23:59:59
    let seconds = u64::try_from(unix_seconds).unwrap_or(0).min(LAST);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);

    let mut text = *b"Ddd, 00 Mmm 0000 00:00:00 GMT";
    let weekday = index(days % 7) * 3;
    text[..3].copy_from_slice(&DAYS[weekday..weekday + 3]);
    two(&mut text[5..7], day);
    let name = index(month - 1) * 3;
    text[8..11].copy_from_slice(&MONTHS[name..name + 3]);
    two(&mut text[12..14], year / 100);
    two(&mut text[14..16], year % 100);
    two(&mut text[17..19], second / 3600);
    two(&mut text[20..22], second / 60 % 60);
    two(&mut text[23..25], second % 60);
    text
}

/// Year, month (1-12) and day (1-31) of a day since 1970, by Howard Hinnant's `civil_from_days` for days that are not
/// before 1970: years begin in March, so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097); // eras of 400 years
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153; // March is 0
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn two(place: &mut [u8], number: u64) {
    place[0] = b'0' + (number / 10).to_le_bytes()[0];
    place[1] = b'0' + (number % 10).to_le_bytes()[0];
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("a number below 12")
}

#[cfg(test)]
mod tests {
    use super::format;

    #[test]
    fn known_moments() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"), // the example of RFC 9110
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_767_225_600, "Thu, 01 Jan 2026 00:00:00 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&format(seconds)), Ok(text));
        }
    }

    #[test]
    fn moments_that_cannot_be_written_become_the_nearest() {
        assert_eq!(format(i64::MIN), format(0));
        assert_eq!(format(i64::MAX), format(253_402_300_799));
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let mut last = 0;
        for day in 0..150_000 {
            let text = format(day * 86_400 + 86_399);
            let number = |from: usize, to: usize| std::str::from_utf8(&text[from..to]).unwrap().parse::<u32>().unwrap();
            let day_of_month = number(5, 7);
            assert!(day_of_month == last + 1 || (day_of_month == 1 && last >= 28), "{day}");
            assert_eq!((number(17, 19), number(20, 22), number(23, 25)), (23, 59, 59));
            last = day_of_month;
        }
    }
}
