//! How the steps of a task are shared out between samplers that follow each other.
//!
//! # Source
//! `worker.md` § 2.8 (Stable Cascade) and 2.12 (QR code).

/// Steps of Stable Cascade's stages C and B.
#[must_use]
pub fn cascade(steps: u32) -> (u32, u32) {
    (share(steps, 0.67), share(steps, 0.33))
}

/// The step at which the halves of a QR picture are merged. Eleven of few steps would leave nothing
/// to finish with.
#[must_use]
pub fn qr_hand_over(steps: u32) -> u32 {
    if steps >= 20 { 11 } else { share(steps, 0.44) }
}

/// The step at which the finders of a QR picture start: they need not be found in noise alone.
#[must_use]
pub fn qr_finder_start(steps: u32) -> u32 {
    qr_hand_over(steps).saturating_sub(1).min(1)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a count"
)]
fn share(steps: u32, part: f64) -> u32 {
    ((f64::from(steps) * part).round_ties_even() as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checklist: vectors: Cascade steps.
    #[test]
    fn steps_are_shared_as_the_table_says() {
        assert_eq!(cascade(30), (20, 10));
        assert_eq!(cascade(25), (17, 8));
        assert_eq!(cascade(1), (1, 1));
        for (steps, expected) in [(50, 11), (20, 11), (19, 8), (8, 4), (1, 1)] {
            assert_eq!(qr_hand_over(steps), expected, "{steps}");
            let start = u32::from(expected > 1);
            assert_eq!(qr_finder_start(steps), start, "{steps}");
        }
    }
}
