//! The pictures that requests bring: kept when they come, handed to workers when they are needed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ordu_api::image::{ExtraSourceImage, SourceProcessing};
use ordu_api::{JobId, RequestId, ReturnCode};
use ordu_core::Timestamp;
use ordu_core::agent::Agent;
use ordu_core::alchemy::{self, AlchemySpec};
use ordu_core::horde::Work;
use ordu_core::image::ImageSpec;

use crate::app::App;
use crate::blobs::{self, Permission, SourcePart};
use crate::error::{ApiError, ApiResult};
use crate::pictures::Keep;

/// Fetches, checks and keeps the pictures that a request brings; the spec then names the copies.
pub(crate) async fn keep(app: &App, id: RequestId, work: &mut Work) -> ApiResult<()> {
    match work {
        Work::Image(spec) => {
            let spec = std::sync::Arc::make_mut(spec);
            keep_of_image(app, id, spec).await
        }
        Work::Text(spec) => {
            let spec = std::sync::Arc::make_mut(spec);
            keep_extra(app, (id, Keep::Seen), &mut spec.extra_source_images).await
        }
        Work::Alchemy(spec) => {
            let spec = std::sync::Arc::make_mut(spec);
            keep_of_alchemy(app, id, spec).await
        }
    }
}

async fn keep_of_image(app: &App, id: RequestId, spec: &mut ImageSpec) -> ApiResult<()> {
    if let Some(source) = spec.source_image.take() {
        let name = blobs::source_name(id, SourcePart::Image);
        let picture = app.pictures.read(&source, Keep::Picture).await?;
        let needs_mask = spec.source_processing == SourceProcessing::Inpainting;
        if needs_mask && spec.source_mask.is_none() && !picture.has_alpha {
            let message = "Inpainting needs `source_mask` or a source image with alpha";
            return Err(ApiError::refused(
                ReturnCode::InpaintingMissingMask,
                message,
            ));
        }
        app.blobs.put(&name, picture.webp).await?;
        spec.source_image = Some(name).into();
    }
    if let Some(mask) = spec.source_mask.take() {
        let name = blobs::source_name(id, SourcePart::Mask);
        let picture = app.pictures.read(&mask, Keep::Mask).await?;
        app.blobs.put(&name, picture.webp).await?;
        spec.source_mask = Some(name).into();
    }
    keep_extra(app, (id, Keep::Picture), &mut spec.extra_source_images).await
}

/// Keeps more pictures of a request.
async fn keep_extra(
    app: &App,
    (id, keep): (RequestId, Keep),
    extras: &mut [ExtraSourceImage],
) -> ApiResult<()> {
    for (index, extra) in extras.iter_mut().enumerate() {
        let name = blobs::source_name(id, SourcePart::Extra(index));
        let picture = app.pictures.read(&extra.image, keep).await?;
        app.blobs.put(&name, picture.webp).await?;
        extra.image = name;
    }
    Ok(())
}

/// Measures the picture that forms are about. What lies elsewhere stays there.
async fn keep_of_alchemy(app: &App, id: RequestId, spec: &mut AlchemySpec) -> ApiResult<()> {
    if spec.is_linked() {
        return measure(app, spec).await;
    }
    let picture = app.pictures.read(&spec.source_image, Keep::Fine).await?;
    spec.tiles = alchemy::tiles(picture.width, picture.height)?;
    let name = blobs::source_name(id, SourcePart::Image);
    app.blobs.put(&name, picture.webp).await?;
    spec.source_image = name;
    Ok(())
}

/// Measures the picture that forms are about, without keeping it.
pub(crate) async fn measure(app: &App, spec: &mut AlchemySpec) -> ApiResult<()> {
    let (width, height) = app.pictures.measure(&spec.source_image).await?;
    spec.tiles = alchemy::tiles(width, height)?;
    Ok(())
}

/// What a result reads when its picture is gone.
pub(crate) const GONE: &str = "N/A";

/// A fresh link to the picture that a job made. Whether the worker really put one there is not
/// looked up: that would cost a call for each result at each look.
pub(crate) fn result_link(app: &App, job: JobId) -> String {
    let name = blobs::result_name(job);
    app.blobs.link(&name, Permission::Download, app.clock.now())
}

/// The pictures that go with a job.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) image: Option<String>,
    pub(crate) mask: Option<String>,
    pub(crate) extra: Option<Vec<ExtraSourceImage>>,
}

/// The pictures of an image request as a worker gets them.
pub(crate) async fn hand_over(
    app: &App,
    spec: &ImageSpec,
    agent: &Agent,
    now: Timestamp,
) -> ApiResult<Sources> {
    let mut sources = Sources::default();
    if let Some(name) = spec.source_image.as_ref() {
        sources.image = Some(hand_over_one(app, name, agent, now).await?);
    }
    if let Some(name) = spec.source_mask.as_ref() {
        sources.mask = Some(hand_over_one(app, name, agent, now).await?);
    }
    for extra in &spec.extra_source_images {
        let extra = ExtraSourceImage {
            image: hand_over_one(app, &extra.image, agent, now).await?,
            strength: extra.strength,
        };
        sources.extra.get_or_insert_default().push(extra);
    }
    Ok(sources)
}

/// More pictures of a request as links; `None` if there are none.
pub(crate) fn links(
    app: &App,
    extras: &[ExtraSourceImage],
    now: Timestamp,
) -> Option<Vec<ExtraSourceImage>> {
    let link = |extra: &ExtraSourceImage| ExtraSourceImage {
        image: app.blobs.link(&extra.image, Permission::Download, now),
        strength: extra.strength,
    };
    (!extras.is_empty()).then(|| extras.iter().map(link).collect())
}

/// One picture as a link, or as base64 for agents that know no links.
async fn hand_over_one(app: &App, name: &str, agent: &Agent, now: Timestamp) -> ApiResult<String> {
    if agent.can("r2_source") {
        return Ok(app.blobs.link(name, Permission::Download, now));
    }
    Ok(STANDARD.encode(app.blobs.get(name).await?))
}
