//! The rules for requests that do not depend on the kind of work.
//!
//! # Source
//! `generation.md` § 3.3.

use ordu_api::image::Metadata;
use ordu_api::{ReturnCode, WorkerId};

use crate::{Refusal, Role, Standing};

/// The most worker ids of a request that count.
pub const MAX_WORKERS: usize = 5;

/// The most remarks that a submit may carry.
pub const MAX_METADATA: usize = 50;

/// The most extra source images of a request.
const MAX_EXTRA_SOURCE_IMAGES: usize = 5;

/// What a rule says.
pub(crate) type Verdict = Result<(), Refusal>;

/// Refuses if a rule is broken.
pub(crate) fn refuse_if(broken: bool, code: ReturnCode, message: impl Into<String>) -> Verdict {
    if broken {
        return Err(Refusal::new(code, message));
    }
    Ok(())
}

/// No text may hold the NUL character: databases do not take it.
pub(crate) fn no_nul<'a>(texts: impl IntoIterator<Item = &'a str>) -> Verdict {
    refuse_if(
        texts.into_iter().any(|text| text.contains('\0')),
        ReturnCode::NulByteInPayload,
        "A text contains a NUL character, remove it",
    )
}

/// How many extra source images somebody may send.
pub(crate) fn extra_image_count(count: usize, standing: &Standing) -> Verdict {
    refuse_if(
        count > MAX_EXTRA_SOURCE_IMAGES,
        ReturnCode::TooManyExtraSourceImages,
        format!("{count} extra source images, {MAX_EXTRA_SOURCE_IMAGES} are allowed"),
    )?;
    refuse_if(
        count > 1 && !is_vouched_for(standing),
        ReturnCode::MoreThanMinExtraSourceImage,
        "Only trusted users and patrons may send more than 1 extra source image",
    )
}

/// Who may have each of `n` results made as a job of its own.
pub(crate) fn unbatched(n: u32, standing: &Standing) -> Verdict {
    refuse_if(
        n > 1 && !is_vouched_for(standing),
        ReturnCode::RequiresTrust,
        "Only trusted users and patrons may disable batching with `n` above 1",
    )
}

fn is_vouched_for(standing: &Standing) -> bool {
    standing.roles.has_any(&[Role::Trusted, Role::Patron])
}

/// Reads the worker ids of a request; the first [`MAX_WORKERS`] count, but all must be ids.
///
/// # Errors
/// `WorkerNotFound` for what is not an id.
pub fn worker_ids(ids: &[String]) -> Result<Vec<WorkerId>, Refusal> {
    let mut workers = Vec::new();
    for id in ids {
        let worker = id.parse().map_err(|_| {
            let message = format!("No worker has the id `{id}`");
            Refusal::new(ReturnCode::WorkerNotFound, message)
        })?;
        workers.push(worker);
    }
    workers.truncate(MAX_WORKERS);
    Ok(workers)
}

/// Checks what cannot be read from the form of a submit alone.
///
/// # Errors
/// `BadRequest` for more than [`MAX_METADATA`] remarks.
pub fn check_metadata(remarks: &[Metadata]) -> Result<(), Refusal> {
    let count = remarks.len();
    refuse_if(
        count > MAX_METADATA,
        ReturnCode::BadRequest,
        format!("`gen_metadata` has {count} entries, {MAX_METADATA} are allowed"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submits_carry_fifty_remarks_at_most() {
        let remark = Metadata {
            kind: "information".to_owned(),
            value: "see_ref".to_owned(),
            reference: None,
        };
        let remarks = vec![remark; 51];
        assert_eq!(check_metadata(&remarks[..50]), Ok(()));
        let refused = check_metadata(&remarks).unwrap_err();
        assert_eq!(refused.code, ReturnCode::BadRequest);
    }
}
