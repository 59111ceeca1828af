//! Dates as the protocol writes them.

use ordu_core::Timestamp;

/// RFC 822 in UTC, to the second: `Tue, 03 Feb 2026 10:20:30 -0000`.
///
/// # Source
/// `community.md` § 1.1.
pub(crate) fn rfc822(at: Timestamp) -> String {
    // What lies beyond the calendar is as good as its end.
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%a, %d %b %Y %H:%M:%S -0000").to_string()
}

/// The same day and time one month later; the last day of that month if it has no such day.
pub(crate) fn month_after(at: Timestamp) -> Timestamp {
    let later = jiff::Timestamp::from_millisecond(at.0).and_then(|at| {
        let utc = at.to_zoned_datetime(jiff::tz::TimeZone::UTC);
        utc.checked_add(jiff::Span::new().months(1))
    });
    // Beyond the calendar there is no month to come.
    later.map_or(Timestamp(i64::MAX), |later| {
        Timestamp(later.timestamp().as_millisecond())
    })
}

#[cfg(test)]
mod tests {
    use super::{month_after, rfc822};
    use ordu_core::Timestamp;

    #[test]
    fn days_have_two_digits_and_the_zone_is_a_number() {
        assert_eq!(
            rfc822(Timestamp(1_770_114_030_999)),
            "Tue, 03 Feb 2026 10:20:30 -0000"
        );
        assert!(rfc822(Timestamp(i64::MAX)).contains(" 9999 "));
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        let after = |at| rfc822(month_after(Timestamp(at)));
        assert_eq!(after(1_770_114_030_000), "Tue, 03 Mar 2026 10:20:30 -0000");
        assert_eq!(after(1_769_850_000_000), "Sat, 28 Feb 2026 09:00:00 -0000");
        assert_eq!(after(1_798_189_200_000), "Mon, 25 Jan 2027 09:00:00 -0000");
        assert_eq!(month_after(Timestamp(i64::MAX)), Timestamp(i64::MAX));
    }
}
