//! `--remix`: pictures to mix.

use std::path::Path;

use anyhow::{Result, bail};
use ordu_api::image::{ExtraSourceImage, ImageRequest};
use ordu_engine::native::cascade::files::BUNDLED as CASCADE;

use super::imagine::read_base64;
use crate::cli::{AddOn, Imagine};

/// Pictures that one request may mix.
const MAX_PICTURES: usize = 6;

/// Names the bundled model that mixes, if nobody says which: requests that name none do not get it.
pub(super) fn name_model(request: &mut ImageRequest, args: &Imagine) {
    if !args.remix.is_empty() && args.model.is_empty() && args.style.is_none() {
        request.models = vec![CASCADE.to_owned()];
    }
}

/// The first picture, which always counts fully.
pub(super) fn first(pictures: &[AddOn]) -> Result<Option<&Path>> {
    if pictures.len() > MAX_PICTURES {
        bail!(
            "`--remix` mixes {MAX_PICTURES} pictures at most, not {}",
            pictures.len()
        );
    }
    let Some(first) = pictures.first() else {
        return Ok(None);
    };
    if (first.strength - 1.0).abs() > f64::EPSILON {
        bail!("the first picture of `--remix` always counts 1; say how strongly the others count");
    }
    Ok(Some(Path::new(&first.name)))
}

/// The others.
pub(super) fn further(pictures: &[AddOn]) -> Result<Vec<ExtraSourceImage>> {
    let others = pictures.iter().skip(1).map(|picture| {
        Ok(ExtraSourceImage {
            image: read_base64(Path::new(&picture.name))?,
            strength: picture.strength,
        })
    });
    others.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures(count: usize, strength: f64) -> Vec<AddOn> {
        let picture = |number| AddOn {
            name: format!("{number}.png"),
            strength,
        };
        (0..count).map(picture).collect()
    }

    #[test]
    fn up_to_six_are_mixed_and_the_first_counts_fully() {
        assert_eq!(first(&[]).unwrap(), None);
        let found = first(&pictures(6, 1.0)).map(|it| it.map(Path::to_owned));
        assert_eq!(found.unwrap(), Some("0.png".into()));
        let said = |pictures: &[AddOn]| first(pictures).unwrap_err().to_string();
        assert!(said(&pictures(7, 1.0)).contains("at most, not 7"));
        assert!(said(&pictures(2, 0.5)).contains("always counts 1"));
        let missing = further(&pictures(2, 0.5)).unwrap_err().to_string();
        assert!(missing.contains("`1.png`"), "{missing}");
    }
}
