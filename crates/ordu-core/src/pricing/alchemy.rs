//! What a form costs.
//!
//! # Source
//! `generation.md` § 7.9.

use ordu_api::alchemy::makes_picture;

use crate::Kudos;
use crate::alchemy::AlchemySpec;

/// What it costs on top of what the worker gets.
const MARGIN: Kudos = Kudos::new(1);
/// The same where slow workers may serve. As deployed it is dearer, not cheaper.
const SLOW_MARGIN: Kudos = Kudos::new(2);

/// The reward for an alchemist that was online for a while.
pub const UPTIME: Kudos = Kudos::new(40);

/// What a form is worth.
pub fn form_kudos(form: &str, tiles: u32) -> Kudos {
    if makes_picture(form) {
        Kudos::new(i64::from(tiles).saturating_mul(3))
    } else if form == "interrogation" {
        Kudos::new(3)
    } else {
        Kudos::new(1)
    }
}

/// What the requester pays for a form that is worth `worth`.
pub fn burn(spec: &AlchemySpec, worth: Kudos) -> Kudos {
    worth + margin(spec)
}

/// What a form costs on top of what it is worth.
pub(super) const fn margin(spec: &AlchemySpec) -> Kudos {
    if spec.slow_workers {
        SLOW_MARGIN
    } else {
        MARGIN
    }
}

/// The price of all forms.
pub fn full_price(spec: &AlchemySpec) -> Kudos {
    let price = |name: &str| burn(spec, form_kudos(name, spec.tiles));
    spec.forms.iter().map(|form| price(&form.name)).sum()
}

#[cfg(test)]
mod tests {
    use ordu_api::alchemy::Form;

    use super::*;

    #[test]
    fn forms_are_priced_by_what_they_make() {
        let cases = [
            ("caption", 9, 1),
            ("nsfw", 9, 1),
            ("interrogation", 9, 3),
            ("RealESRGAN_x4plus", 1, 3),
            ("GFPGAN", 255, 765),
        ];
        for (form, tiles, kudos) in cases {
            assert_eq!(form_kudos(form, tiles), Kudos::new(kudos), "{form}");
        }
    }

    /// The recorded scenario `alchemy-flow/happy`: 11 kudos.
    #[test]
    fn slow_workers_are_dearer() {
        let form = |name: &str| Form {
            name: name.to_owned(),
            payload: None,
        };
        let mut spec = AlchemySpec {
            forms: ["caption", "nsfw", "interrogation"].map(form).to_vec(),
            tiles: 1,
            slow_workers: true,
            ..AlchemySpec::default()
        };
        assert_eq!(full_price(&spec), Kudos::new(11));
        spec.slow_workers = false;
        assert_eq!(full_price(&spec), Kudos::new(8));
    }
}
