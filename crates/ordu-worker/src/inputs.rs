//! The pictures that come with a job: fetched or unpacked, decoded, with a remark for each that fails.
//!
//! A job goes on without a picture that cannot be had. Source, mask and further pictures are fetched at
//! the same time.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::{join_all, join3};
use image::{DynamicImage, ImageReader};
use ordu_api::image::{ImageJob, Metadata};
use ordu_api::text::TextJob;
use ordu_client::{Fetcher, Trust};

use crate::Timing;
use crate::bridge::image::Sources;
use crate::encode::jpeg;
use crate::pacing::jitter;
use crate::retry::{Next, after_download, pause};

/// The largest picture that is fetched.
const MAX_BYTES: usize = 20 << 20;

/// The largest picture that is decoded, in pixels.
const MAX_PIXELS: u64 = 64_000_000;

/// Further pictures of one job.
const MAX_EXTRAS: usize = 5;

/// How often one picture is tried.
const MAX_TRIES: u32 = 5;

/// The pictures of a job, and what there is to say about those that are missing.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    pub(crate) sources: Sources,
    pub(crate) remarks: Vec<Metadata>,
}

/// Why a picture is missing, in the words of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Download,
    Parse,
}

impl Missing {
    fn remark(self, kind: &str, reference: String) -> Metadata {
        let value = match self {
            Self::Download => "download_failed",
            Self::Parse => "parse_failed",
        };
        Metadata {
            kind: kind.to_owned(),
            value: value.to_owned(),
            reference: Some(reference),
        }
    }
}

/// Where pictures are had from.
#[derive(Debug)]
pub(crate) struct Larder {
    pub(crate) fetcher: Fetcher,
    pub(crate) trust: Trust,
    pub(crate) timing: Timing,
}

impl Larder {
    /// Everything that came with a job.
    pub(crate) async fn gather(&self, job: &ImageJob) -> Inputs {
        let trust = self.trust_for(job);
        let extras = || job.extra_source_images.iter().flatten().take(MAX_EXTRAS);
        let (source, mask, fetched) = join3(
            self.optional(job.source_image.as_deref(), &trust),
            self.optional(job.source_mask.as_deref(), &trust),
            join_all(extras().map(|extra| self.picture(&extra.image, &trust))),
        )
        .await;
        let mut inputs = Inputs::default();
        inputs.sources.source = inputs.kept(source, "source_image", None);
        let mask = inputs.kept(mask, "source_mask", None);
        inputs.sources.mask = mask.map(|mask| mask.to_luma8());
        for (index, (fetched, extra)) in fetched.into_iter().zip(extras()).enumerate() {
            let kept = inputs.kept(fetched.map(Some), "extra_source_images", Some(index));
            let kept = kept.map(|picture| (picture, extra.strength));
            inputs.sources.extras.extend(kept);
        }
        inputs
    }

    /// The store that results go to is the horde's own, so sources may lie there too.
    fn trust_for(&self, job: &ImageJob) -> Trust {
        let uploads = job.r2_uploads.iter().flatten().chain(&job.r2_upload);
        uploads.fold(self.trust.clone(), |trust, url| trust.and(url))
    }

    /// The pictures that a text is about, as JPEG: all of them, because a text that leaves one out
    /// says what is not so.
    pub(crate) async fn seen(&self, job: &TextJob) -> Result<Vec<Vec<u8>>, Missing> {
        let pictures = || job.extra_source_images.iter().flatten();
        if pictures().count() > MAX_EXTRAS {
            return Err(Missing::Download);
        }
        let mut seen = Vec::new();
        for one in pictures() {
            let picture = self.picture(&one.image, &self.trust).await?;
            let file = tokio::task::spawn_blocking(move || jpeg(picture)).await;
            seen.push(file.ok().and_then(Result::ok).ok_or(Missing::Parse)?);
        }
        Ok(seen)
    }

    async fn optional(
        &self,
        text: Option<&str>,
        trust: &Trust,
    ) -> Result<Option<DynamicImage>, Missing> {
        match text.filter(|text| !text.is_empty()) {
            Some(text) => self.picture(text, trust).await.map(Some),
            None => Ok(None),
        }
    }

    /// One picture, by its address or as base64.
    pub(crate) async fn picture(&self, text: &str, trust: &Trust) -> Result<DynamicImage, Missing> {
        let bytes = if text.starts_with("http") {
            self.download(text, trust).await?
        } else {
            unpack(text)?
        };
        // A task that panics or is cancelled has not decoded anything either.
        tokio::task::spawn_blocking(move || decode(&bytes))
            .await
            .unwrap_or(Err(Missing::Parse))
    }

    async fn download(&self, url: &str, trust: &Trust) -> Result<Bytes, Missing> {
        let mut tries = 0;
        loop {
            let error = match self.fetcher.fetch(url, trust, MAX_BYTES).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => error,
            };
            tries += 1;
            let Next::Again(asked) = after_download(&error, tries, MAX_TRIES) else {
                tracing::debug!(error = %error, tries, "a source picture could not be fetched");
                return Err(Missing::Download);
            };
            tokio::time::sleep(pause(&self.timing, tries, asked, jitter())).await;
        }
    }
}

impl Inputs {
    /// The picture, or a remark that it is missing. One of many is referred to by its place.
    fn kept(
        &mut self,
        picture: Result<Option<DynamicImage>, Missing>,
        kind: &str,
        place: Option<usize>,
    ) -> Option<DynamicImage> {
        picture.unwrap_or_else(|missing| {
            let reference = place.map_or_else(|| kind.to_owned(), |place| place.to_string());
            self.remarks.push(missing.remark(kind, reference));
            None
        })
    }
}

/// The bytes behind base64, with or without a `data:` head.
pub(crate) fn unpack(text: &str) -> Result<Bytes, Missing> {
    let code = match text.split_once("base64,") {
        Some((head, code)) if head.starts_with("data:") => code,
        _ => text,
    };
    let code: Vec<u8> = code
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    if code.len() / 4 * 3 > MAX_BYTES {
        return Err(Missing::Parse);
    }
    STANDARD
        .decode(code)
        .map(Bytes::from)
        .map_err(|_| Missing::Parse)
}

/// A picture, if its head does not promise too many pixels.
pub(crate) fn decode(bytes: &[u8]) -> Result<DynamicImage, Missing> {
    let open = || ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let head = open().map_err(|_| Missing::Parse)?;
    let (width, height) = head.into_dimensions().map_err(|_| Missing::Parse)?;
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Missing::Parse);
    }
    let body = open().map_err(|_| Missing::Parse)?;
    body.decode().map_err(|_| Missing::Parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::new_rgb8(width, height)
            .write_to(&mut bytes, image::ImageFormat::Png)
            .unwrap();
        bytes.into_inner()
    }

    #[test]
    fn base64_is_read_with_and_without_a_head() {
        let code = STANDARD.encode(png(2, 3));
        for text in [
            code.clone(),
            format!("data:image/png;base64,{code}"),
            format!("{code}\n"),
        ] {
            let picture = decode(&unpack(&text).unwrap()).unwrap();
            assert_eq!((picture.width(), picture.height()), (2, 3));
        }
        assert_eq!(unpack("not base64!"), Err(Missing::Parse));
        assert_eq!(
            unpack(&"A".repeat(MAX_BYTES / 3 * 4 + 8)),
            Err(Missing::Parse)
        );
    }

    #[test]
    fn a_bomb_is_refused_by_its_head() {
        let mut bomb = png(1, 1);
        bomb[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
        assert_eq!(decode(&bomb), Err(Missing::Parse));
        assert_eq!(decode(b"GIF89a"), Err(Missing::Parse));
        assert_eq!(decode(b""), Err(Missing::Parse));
    }
}
