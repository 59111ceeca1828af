//! What a style must be to be made or changed.
//!
//! Knows no keys, names and owners of others: whose style it is, and whether its name is free, is
//! looked up elsewhere.
//!
//! # Source
//! `community.md` § 8.3; `observed.md` 26.

use ordu_api::ReturnCode;
use ordu_api::image::{ImageParams, ImageRequest, Warning};
use ordu_api::style::StyleParams;
use ordu_api::text::{TextParams, TextRequest};

use crate::asking::{Verdict, refuse_if};
use crate::model_reference::ModelReference;
use crate::text::Vision;
use crate::{Refusal, Role, Standing, image, text};

/// The most models of a style.
pub const MAX_MODELS: usize = 5;

/// The most tags of a style.
pub const MAX_TAGS: usize = 10;

/// The most examples of a style.
pub const MAX_EXAMPLES: u32 = 4;

/// The most styles of a collection.
pub const MAX_MEMBERS: usize = 500;

/// What the link to an example starts with.
const SECURE: &str = "https://";

/// What a style makes of requests.
#[derive(Debug, Clone, Copy)]
pub struct Template<'a, P> {
    /// The prompt with its places.
    pub prompt: &'a str,
    /// How to work.
    pub params: &'a P,
    /// With which models.
    pub models: &'a [String],
}

/// What is checked by the rules of a kind of work.
pub trait StyleRules: StyleParams {
    /// Checks a style by the rules for requests, and says what its models would rather have: `None`
    /// where nobody ever says.
    ///
    /// # Errors
    /// `StylePromptMissingVars`; what a request like it would be refused for.
    fn check(
        template: &Template<'_, Self>,
        standing: &Standing,
        reference: &ModelReference,
    ) -> Result<Option<Vec<Warning>>, Refusal>;
}

impl StyleRules for ImageParams {
    fn check(
        template: &Template<'_, Self>,
        standing: &Standing,
        reference: &ModelReference,
    ) -> Result<Option<Vec<Warning>>, Refusal> {
        has_places(template.prompt, &["{p}", "{np}"])?;
        let request = ImageRequest {
            prompt: template.prompt.to_owned(),
            params: template.params.clone(),
            models: template.models.to_vec(),
            ..ImageRequest::default()
        };
        image::precheck(&request, standing)?;
        image::check_models(&request, standing, reference)?;
        Ok(Some(image::warnings(&request, reference)))
    }
}

impl StyleRules for TextParams {
    fn check(
        template: &Template<'_, Self>,
        standing: &Standing,
        _: &ModelReference,
    ) -> Result<Option<Vec<Warning>>, Refusal> {
        has_places(template.prompt, &["{p}"])?;
        let request = TextRequest {
            prompt: template.prompt.to_owned(),
            params: template.params.clone(),
            models: template.models.to_vec(),
            ..TextRequest::default()
        };
        text::check(&request, standing, Vision::Off)?;
        Ok(None)
    }
}

fn has_places(prompt: &str, places: &[&str]) -> Verdict {
    let missing = places.iter().find(|place| !prompt.contains(**place));
    refuse_if(
        missing.is_some(),
        ReturnCode::StylePromptMissingVars,
        format!(
            "The prompt has no `{}`, where what is asked for would go",
            missing.unwrap_or(&"")
        ),
    )
}

/// Checks how much a new style names.
///
/// # Errors
/// `BadRequest`.
pub fn check_counts(models: usize, tags: usize) -> Result<(), Refusal> {
    refuse_if(
        models == 0,
        ReturnCode::BadRequest,
        "A style needs a model, name 1 to 5 in `models`",
    )?;
    refuse_if(
        models > MAX_MODELS,
        ReturnCode::BadRequest,
        format!("{models} models, {MAX_MODELS} are allowed"),
    )?;
    refuse_if(
        tags > MAX_TAGS,
        ReturnCode::BadRequest,
        format!("{tags} tags, {MAX_TAGS} are allowed"),
    )
}

/// Checks who may make styles, and change those that it made.
///
/// # Errors
/// `StylesRequiresCustomizer`, `StylesAnonForbidden`.
pub fn check_maker(standing: &Standing) -> Result<(), Refusal> {
    refuse_if(
        !standing.roles.has_any(&[Role::Trusted, Role::Customizer]),
        ReturnCode::StylesRequiresCustomizer,
        "Styles are made by trusted users and customizers; ask a moderator to become one",
    )?;
    refuse_if(
        standing.is_anonymous(),
        ReturnCode::StylesAnonForbidden,
        "Anonymous users cannot make styles: make an account first",
    )
}

/// Checks the link to an example.
///
/// # Errors
/// `BadRequest`, `NulByteInPayload`.
pub fn check_example_url(url: &str) -> Result<(), Refusal> {
    crate::asking::no_nul([url])?;
    refuse_if(
        !url.starts_with(SECURE) || url.len() == SECURE.len(),
        ReturnCode::BadRequest,
        format!("The link to an example must start with {SECURE}"),
    )
}

/// Checks how many styles a collection names.
///
/// # Errors
/// `BadRequest`.
pub fn check_members(count: usize) -> Result<(), Refusal> {
    refuse_if(
        count == 0,
        ReturnCode::BadRequest,
        "A collection needs a style, name it in `styles`",
    )?;
    refuse_if(
        count > MAX_MEMBERS,
        ReturnCode::BadRequest,
        format!("{count} styles, {MAX_MEMBERS} are allowed"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kudos, Roles};

    fn standing(roles: &[Role]) -> Standing {
        Standing {
            user: ordu_api::UserId::new(7).unwrap(),
            alias: "x#7".to_owned(),
            roles: roles.iter().copied().collect::<Roles>(),
            kudos: Kudos::ZERO,
        }
    }

    fn image(prompt: &str, params: &ImageParams, model: &str) -> Result<Vec<String>, ReturnCode> {
        let reference = ModelReference::from_json(
            r#"{ "flux": { "baseline": "flux_1" },
                 "picky": { "requirements": { "min_steps": 40, "samplers": ["k_lms"] } } }"#,
        )
        .unwrap();
        let template = Template {
            prompt,
            params,
            models: &[model.to_owned()],
        };
        let found = StyleRules::check(&template, &standing(&[]), &reference);
        let warnings = found.map_err(|refusal| refusal.code)?.unwrap();
        Ok(warnings.into_iter().map(|warning| warning.code).collect())
    }

    #[test]
    fn prompts_have_places() {
        let plain = |prompt| image(prompt, &ImageParams::default(), "x").err();
        let missing = Some(ReturnCode::StylePromptMissingVars);
        assert_eq!(plain("{p}{np}"), None);
        assert_eq!(plain("{np} of {p} and {other}"), None);
        assert_eq!(plain("only {p}"), missing);
        assert_eq!(plain("only {np}"), missing);
        assert_eq!(plain("{ p }{ np }"), missing);
        let text = |prompt| {
            let template = Template {
                prompt,
                params: &TextParams::default(),
                models: &[],
            };
            let checked = StyleRules::check(&template, &standing(&[]), &ModelReference::default());
            checked.map_err(|refusal| refusal.code)
        };
        assert_eq!(text("Say {p}"), Ok(None));
        assert_eq!(text("Say {np}"), Err(ReturnCode::StylePromptMissingVars));
        assert_eq!(text("Say {p}\0"), Err(ReturnCode::NulByteInPayload));
    }

    #[test]
    fn a_style_obeys_the_rules_for_requests() {
        let cases = [
            (r#"{"hires_fix": true}"#, "flux", ReturnCode::HiResMismatch),
            (r#"{"cfg_scale": 5.123}"#, "x", ReturnCode::BadCFGDecimals),
            (
                r#"{"transparent": true}"#,
                "flux",
                ReturnCode::InvalidTransparencyModel,
            ),
            (
                r#"{"workflow": "qr_code"}"#,
                "flux",
                ReturnCode::ControlNetWorkflowMismatch,
            ),
            ("{}", "GFPGAN", ReturnCode::UnexpectedModelName),
            (
                "{}",
                "horde_special::y#1",
                ReturnCode::SpecialModelNeedsSpecialUser,
            ),
            (
                r#"{"loras": [{"name": "x", "is_version": true}]}"#,
                "x",
                ReturnCode::BadLoraVersion,
            ),
            (
                r#"{"post_processing": ["NMKD_Siax", "4x_AnimeSharp"]}"#,
                "x",
                ReturnCode::TooManyUpscalers,
            ),
        ];
        for (params, model, code) in cases {
            let params: ImageParams = serde_json::from_str(params).unwrap();
            assert_eq!(image("{p}{np}", &params, model), Err(code), "{code}");
        }
        let advice = image("{p}{np}", &ImageParams::default(), "picky").unwrap();
        assert_eq!(advice, ["StepsTooFew", "SamplerMismatch"]);
    }

    #[test]
    fn counts_and_links_have_borders() {
        let refused = |result: Result<(), Refusal>| result.err().map(|refusal| refusal.code);
        let bad = Some(ReturnCode::BadRequest);
        let cases = [
            (refused(check_counts(1, 0)), None),
            (refused(check_counts(5, 10)), None),
            (refused(check_counts(0, 0)), bad),
            (refused(check_counts(6, 0)), bad),
            (refused(check_counts(1, 11)), bad),
            (refused(check_members(1)), None),
            (refused(check_members(500)), None),
            (refused(check_members(0)), bad),
            (refused(check_members(501)), bad),
            (refused(check_example_url("https://x")), None),
            (refused(check_example_url("https://")), bad),
            (refused(check_example_url("http://x")), bad),
            (refused(check_example_url("HTTPS://x")), bad),
            (
                refused(check_example_url("https://\0")),
                Some(ReturnCode::NulByteInPayload),
            ),
        ];
        for (place, (found, wanted)) in cases.into_iter().enumerate() {
            assert_eq!(found, wanted, "case {place}");
        }
    }

    #[test]
    fn makers_are_trusted_or_customizers() {
        let code = |standing| check_maker(&standing).err().map(|refusal| refusal.code);
        let refused = Some(ReturnCode::StylesRequiresCustomizer);
        assert_eq!(code(standing(&[Role::Trusted])), None);
        assert_eq!(code(standing(&[Role::Customizer])), None);
        assert_eq!(code(standing(&[Role::Special])), refused);
        let mut anonymous = Standing::anonymous(Kudos::ZERO);
        assert_eq!(code(anonymous.clone()), refused);
        anonymous.roles = anonymous.roles.with(Role::Trusted);
        assert_eq!(code(anonymous), Some(ReturnCode::StylesAnonForbidden));
    }
}
