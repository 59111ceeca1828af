//! Whether and when to try a transfer or a submit again, from how the last try went. Pure.

use std::time::Duration;

use ordu_api::ReturnCode;
use ordu_client::Error;

use crate::Timing;
use crate::pacing::doubled;

/// How often one picture is uploaded at most.
pub(crate) const MAX_UPLOADS: u32 = 10;

/// How often a submit is sent that the horde refuses for no known reason.
const MAX_REFUSED_SUBMITS: u32 = 2;

/// What to do after a failed try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: the horde has it, with an unknown reward.
    Delivered,
    /// Nothing: the horde wants it no more.
    Lost,
    /// Nothing: it took too long.
    TooSlow,
    /// Nothing: it will not work.
    GiveUp,
    /// Try again, after this long if the horde said so.
    Again(Option<Duration>),
}

/// After the `tries`th submit failed. Return codes decide; texts only where a horde sends no code.
pub(crate) fn after_submit(error: &Error, tries: u32) -> Next {
    let refusal = match error {
        Error::Refused(refusal) => refusal,
        // The status said that it was taken; only the reward cannot be read.
        Error::Malformed { .. } | Error::TooLarge { .. } => return Next::Delivered,
        passing if passing.is_passing() => return Next::Again(passing.retry_after()),
        _ => return Next::GiveUp,
    };
    let silent = refusal.rc.is_none();
    let says = |code, words| refusal.is(code) || (silent && refusal.message.contains(words));
    if says(ReturnCode::DuplicateGen, "already submitted") {
        Next::Delivered
    } else if says(ReturnCode::AbortedGen, "Please check your worker speed") {
        Next::TooSlow
    } else if refusal.status == 404 {
        Next::Lost
    } else if refusal.status == 429 {
        Next::Again(None)
    } else if matches!(refusal.status, 401 | 403) || tries >= MAX_REFUSED_SUBMITS {
        Next::GiveUp
    } else {
        Next::Again(None)
    }
}

/// After the `tries`th upload failed.
pub(crate) fn after_upload(error: &Error, tries: u32) -> Next {
    if tries >= MAX_UPLOADS || matches!(error, Error::Malformed { .. }) {
        Next::GiveUp
    } else {
        Next::Again(error.retry_after())
    }
}

/// After the `tries`th download of a source failed, of `most`.
pub(crate) fn after_download(error: &Error, tries: u32, most: u32) -> Next {
    let may_pass = error.is_passing() || error.refusal().is_some_and(|r| r.status == 408);
    if may_pass && tries < most {
        Next::Again(error.retry_after())
    } else {
        Next::GiveUp
    }
}

/// How long to wait after the `tries`th try. `jitter` is between -1 and 1.
pub(crate) fn pause(timing: &Timing, tries: u32, asked: Option<Duration>, jitter: f64) -> Duration {
    asked.unwrap_or_else(|| doubled(timing.retry_first, tries, timing.retry_last, jitter))
}

#[cfg(test)]
mod tests {
    use ordu_client::Refusal;

    use super::*;

    fn refusal(status: u16, rc: Option<&str>, message: &str) -> Error {
        Error::Refused(Refusal {
            status,
            rc: rc.map(str::to_owned),
            message: message.to_owned(),
            ..Refusal::default()
        })
    }

    fn outage(retry_after: Option<Duration>) -> Error {
        Error::Unavailable {
            reason: String::new(),
            retry_after,
            source: None,
        }
    }

    fn malformed() -> Error {
        Error::Malformed {
            reason: String::new(),
        }
    }

    /// Checklist: `rc` drives error handling.
    #[test]
    fn a_refused_submit_is_handled_by_its_code() {
        for (status, rc, message, tries, expected) in [
            (404, Some("InvalidJobID"), "", 1, Next::Lost),
            (
                404,
                None,
                "Processing Job with ID x does not exist.",
                1,
                Next::Lost,
            ),
            (400, Some("DuplicateGen"), "", 1, Next::Delivered),
            (
                400,
                None,
                "Processing Generation already submitted",
                1,
                Next::Delivered,
            ),
            (
                400,
                Some("Other"),
                "already submitted",
                1,
                Next::Again(None),
            ),
            (400, Some("AbortedGen"), "", 1, Next::TooSlow),
            (
                400,
                None,
                "took too long. Please check your worker speed",
                1,
                Next::TooSlow,
            ),
            (401, Some("InvalidAPIKey"), "", 1, Next::GiveUp),
            (403, Some("WrongCredentials"), "", 1, Next::GiveUp),
            (400, Some("BadRequest"), "", 1, Next::Again(None)),
            (400, Some("BadRequest"), "", 2, Next::GiveUp),
            (429, Some("TooManyPrompts"), "", 9, Next::Again(None)),
        ] {
            let next = after_submit(&refusal(status, rc, message), tries);
            assert_eq!(next, expected, "{status} {rc:?} {message} {tries}");
        }
    }

    #[test]
    fn outages_are_waited_out_and_an_odd_answer_was_a_yes() {
        let asked = Some(Duration::from_secs(4));
        assert_eq!(after_submit(&outage(None), 99), Next::Again(None));
        assert_eq!(after_submit(&outage(asked), 1), Next::Again(asked));
        assert_eq!(after_submit(&malformed(), 1), Next::Delivered);
    }

    #[test]
    fn pauses_double_unless_the_horde_says_how_long() {
        let timing = Timing::default();
        let seconds = |tries, asked| pause(&timing, tries, asked, 0.0).as_secs();
        assert_eq!(
            [1, 2, 3, 5, 6, 99].map(|tries| seconds(tries, None)),
            [1, 2, 4, 16, 30, 30]
        );
        assert_eq!(seconds(1, Some(Duration::from_secs(9))), 9);
    }

    #[test]
    fn uploads_are_tried_ten_times_whatever_the_store_says() {
        assert_eq!(after_upload(&refusal(403, None, ""), 9), Next::Again(None));
        assert_eq!(after_upload(&outage(None), 10), Next::GiveUp);
        assert_eq!(after_upload(&malformed(), 1), Next::GiveUp);
    }

    #[test]
    fn downloads_are_tried_again_only_if_that_may_help() {
        let forbidden = Error::Forbidden { reason: "x" };
        assert_eq!(after_download(&outage(None), 4, 5), Next::Again(None));
        assert_eq!(after_download(&outage(None), 5, 5), Next::GiveUp);
        assert_eq!(after_download(&refusal(404, None, ""), 1, 5), Next::GiveUp);
        assert_eq!(
            after_download(&refusal(408, None, ""), 1, 5),
            Next::Again(None)
        );
        assert_eq!(after_download(&forbidden, 1, 5), Next::GiveUp);
    }
}
