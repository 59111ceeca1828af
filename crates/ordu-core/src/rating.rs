//! Ratings: which are accepted, and what they are worth.
//!
//! # Source
//! `generation.md` § 9.1, `observed.md` 16.

use std::collections::BTreeSet;

use ordu_api::rating::{Rating, RatingForm};
use ordu_api::{JobId, ReturnCode};

use crate::{Kudos, Refusal};

/// For a rating, and once more for its artifacts.
const PER_RATING: Kudos = Kudos::new(5);

/// For naming the best picture where that says something.
const FOR_BEST: Kudos = Kudos::new(15);

/// What is always left of what a request cost.
const LEAST_PRICE: Kudos = Kudos::new(1);

/// From here on a single picture counts as a good one.
const GOOD: u8 = 7;

/// A request whose pictures are rated.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its delivered pictures.
    pub images: &'a [JobId],
    /// What it consumed so far.
    pub consumed: Kudos,
}

/// What comes of a rating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What the requester gets for it.
    pub reward: Kudos,
    /// The best picture, given or found out.
    pub best: Option<JobId>,
}

/// Judges a rating of a request that is completed and shared.
///
/// # Errors
/// `ProcGenNotFound`, `AestheticsDuplicate`, `AestheticsMissing`, `AestheticsSolo`,
/// `AestheticsConfused`.
pub fn judge(form: &RatingForm, subject: Subject<'_>) -> Result<Verdict, Refusal> {
    let mut rated = BTreeSet::new();
    for rating in &form.ratings {
        let id = image(&rating.id, subject)?;
        if !rated.insert(id) {
            let message = format!("The picture {id} is rated twice");
            return Err(Refusal::new(ReturnCode::AestheticsDuplicate, message));
        }
    }
    let given = match &form.best {
        Some(best) => Some(image(best, subject)?),
        None => None,
    };
    if given.is_none() && rated.is_empty() {
        let message = "Send `ratings`, `best` or both";
        return Err(Refusal::new(ReturnCode::AestheticsMissing, message));
    }
    let single = subject.images.len() == 1;
    if rated.is_empty() && single {
        let message = "Of a single picture `best` says nothing: rate it";
        return Err(Refusal::new(ReturnCode::AestheticsSolo, message));
    }
    let best = best(form, given, single)?;
    Ok(Verdict {
        reward: reward(form, single).min((subject.consumed - LEAST_PRICE).max(Kudos::ZERO)),
        best,
    })
}

fn image(id: &str, subject: Subject<'_>) -> Result<JobId, Refusal> {
    let known = id.parse().ok().filter(|id| subject.images.contains(id));
    known.ok_or_else(|| {
        let message = format!("The request has no picture with the id {id}");
        Refusal::new(ReturnCode::ProcGenNotFound, message)
    })
}

/// The picture that is the best one: as given, or as the ratings say.
fn best(form: &RatingForm, given: Option<JobId>, single: bool) -> Result<Option<JobId>, Refusal> {
    let highest = form.ratings.iter().map(|rating| rating.rating).max();
    let top = form
        .ratings
        .iter()
        .filter(|rating| Some(rating.rating) == highest);
    let top: Vec<JobId> = top.filter_map(|rating| rating.id.parse().ok()).collect();
    match (given, top.as_slice()) {
        (Some(given), [_, _, ..]) if !top.contains(&given) => {
            let message = "Several pictures share the highest rating, and `best` is none of them";
            Err(Refusal::new(ReturnCode::AestheticsConfused, message))
        }
        (Some(given), _) => Ok(Some(given)),
        (None, [_]) if single && highest < Some(GOOD) => Ok(None),
        (None, [only]) => Ok(Some(*only)),
        (None, _) => Ok(None),
    }
}

/// What the work of rating is worth.
fn reward(form: &RatingForm, single: bool) -> Kudos {
    let each = |rating: &Rating| {
        let artifacts = rating.artifacts.map_or(Kudos::ZERO, |_| PER_RATING);
        PER_RATING + artifacts
    };
    let ratings: Kudos = form.ratings.iter().map(each).sum();
    let best_says_more = match form.ratings.as_slice() {
        [] => true,
        [only] => !single && only.rating < GOOD,
        _ => false,
    };
    if form.best.is_some() && best_says_more {
        ratings + FOR_BEST
    } else {
        ratings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> String {
        format!("00000000-0000-4000-8000-00000000000{number}")
    }

    /// `1=5 2=9+3 best=2` rates picture 1 with 5, picture 2 with 9 and artifacts 3.
    fn form(text: &str) -> RatingForm {
        let mut form = RatingForm::default();
        for word in text.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap();
            if name == "best" {
                form.best = Some(id(value.parse().unwrap()));
                continue;
            }
            let (rating, artifacts) = value.split_once('+').unwrap_or((value, ""));
            form.ratings.push(Rating {
                id: id(name.parse().unwrap()),
                rating: rating.parse().unwrap(),
                artifacts: artifacts.parse().ok(),
            });
        }
        form
    }

    fn check(text: &str, images: u8, expected: &str) {
        let images: Vec<JobId> = (1..=images).map(|n| id(n).parse().unwrap()).collect();
        let subject = Subject {
            images: &images,
            consumed: Kudos::new(40),
        };
        let said = match judge(&form(text), subject) {
            Err(refusal) => refusal.code.name().to_owned(),
            Ok(Verdict { reward, best }) => {
                let best = best.map(|best| best.to_string().pop().unwrap());
                format!("{reward} {}", best.map_or("-".to_owned(), String::from))
            }
        };
        assert_eq!(said, expected, "{text} of {}", images.len());
    }

    #[test]
    fn ratings_are_judged() {
        check("", 2, "AestheticsMissing");
        check("1=5", 1, "5 -");
        check("1=7", 1, "5 1");
        check("1=7+0", 1, "10 1");
        check("1=5 2=6", 2, "10 2");
        check("1=5 2=5", 2, "10 -");
        check("1=5 2=5 best=1", 2, "10 1");
        check("1=5 2=5 3=4 best=3", 3, "AestheticsConfused");
        check("1=5 2=6 best=1", 2, "10 1");
        check("best=2", 2, "15 2");
        check("best=1", 1, "AestheticsSolo");
        check("1=6 best=2", 2, "20 2");
        check("1=7 best=2", 2, "5 2");
        check("1=5 3=5", 2, "ProcGenNotFound");
        check("1=5 1=6", 2, "AestheticsDuplicate");
        check("best=3", 2, "ProcGenNotFound");
        check("1=5+1 2=5+1 3=5+1 4=5+1", 4, "39 -");
    }

    #[test]
    fn a_rating_never_pays_for_the_whole_request() {
        let images = [id(1).parse().unwrap()];
        let reward = |consumed: i64| {
            let subject = Subject {
                images: &images,
                consumed: Kudos::new(consumed),
            };
            judge(&form("1=8"), subject).unwrap().reward
        };
        assert_eq!(reward(3), Kudos::new(2));
        assert_eq!(reward(5), Kudos::new(4));
        assert_eq!(reward(6), Kudos::new(5));
        assert_eq!(reward(0), Kudos::ZERO);
    }

    #[test]
    fn what_is_no_id_is_no_picture() {
        let odd = RatingForm {
            best: Some("x".repeat(36)),
            ..RatingForm::default()
        };
        let subject = Subject {
            images: &[],
            consumed: Kudos::ZERO,
        };
        let refusal = judge(&odd, subject).unwrap_err();
        assert_eq!(refusal.code, ReturnCode::ProcGenNotFound);
    }
}
