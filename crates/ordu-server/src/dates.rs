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

#[cfg(test)]
mod tests {
    use super::rfc822;
    use ordu_core::Timestamp;

    #[test]
    fn days_have_two_digits_and_the_zone_is_a_number() {
        assert_eq!(
            rfc822(Timestamp(1_770_114_030_999)),
            "Tue, 03 Feb 2026 10:20:30 -0000"
        );
        assert!(rfc822(Timestamp(i64::MAX)).contains(" 9999 "));
    }
}
