//! `ordu imagine`: ask for pictures, watch, save.

mod qr;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use indicatif::{ProgressBar, ProgressStyle};
use ordu_api::event::Event;
use ordu_api::image::{
    AcceptedRequest, Generation, ImageParams, ImageRequest, Lora, Progress, SourceProcessing,
    TextualInversion,
};
use ordu_api::worker::WorkKind;
use ordu_client::{Error, Horde, Pace};
use serde_json::json;

use super::explanation;
use super::host;
use super::picture;
use super::remix;
use super::target::Target;
use crate::cli::{AddOn, Imagine};
use crate::exit::Exit;

/// The largest picture that is taken from a horde, in bytes.
const MAX_PICTURE_BYTES: usize = 64 << 20;

pub(crate) async fn run(args: Imagine) -> Result<Exit> {
    if let Some(out) = &args.out {
        picture::format_of(out)?;
    }
    qr::check(&args.qr, args.size)?;
    let mut request = request(&args)?;
    let target = Target::named_or_started(&args.client, || {
        let hosting = host::Hosting {
            computing: args.computing,
            cascade: !args.remix.is_empty(),
            ..host::Hosting::default()
        };
        Ok(host::start(&hosting)?.into())
    })
    .await?;
    if target.is_started() {
        remix::name_model(&mut request, &args);
    }
    let exit = imagine(&target.horde, &request, &args).await;
    target.finish().await;
    exit
}

async fn imagine(horde: &Horde, request: &ImageRequest, args: &Imagine) -> Result<Exit> {
    let accepted = match horde.async_image(request).await {
        Ok(accepted) => accepted,
        Err(Error::Refused(refusal)) => {
            eprintln!("The horde refused: {refusal}");
            return Ok(Exit::Refused);
        }
        Err(error) => return Err(error).context("the request could not be sent"),
    };
    tell_warnings(&accepted);
    if accepted.message.is_some() {
        explanation::tell(horde, accepted.id, WorkKind::Image).await;
    }
    let waited = tokio::time::timeout(
        Duration::from_secs(args.timeout),
        watch(horde, &accepted, args.n),
    );
    let Ok(progress) = waited.await else {
        explanation::tell(horde, accepted.id, WorkKind::Image).await;
        // What nobody waits for should not be painted.
        horde.cancel(accepted.id).await.ok();
        eprintln!(
            "Nothing came within {} s; the request was cancelled",
            args.timeout
        );
        return Ok(Exit::TimedOut);
    };
    if progress?.faulted {
        eprintln!("The horde gave up on this request: workers failed three times");
        return Ok(Exit::Failed);
    }
    save_all(horde, &accepted, args).await
}

fn tell_warnings(accepted: &AcceptedRequest) {
    // The message repeats one of the warnings for clients that do not read those.
    let warnings = accepted.warnings.iter().map(|warning| &warning.message);
    let messages: BTreeSet<&String> = accepted.message.iter().chain(warnings).collect();
    for message in messages {
        eprintln!("Note: {message}");
    }
}

/// Waits with a progress bar: place in the queue and expected time, then what is painted.
async fn watch(horde: &Horde, accepted: &AcceptedRequest, n: u32) -> Result<Progress> {
    let bar = ProgressBar::new(u64::from(n));
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} pictures  {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let pace = Pace {
        interval: Duration::from_millis(250),
        ..Pace::default()
    };
    let mut now = Progress::default();
    let show = |progress: &Progress| {
        bar.set_position(u64::from(progress.finished));
        bar.set_message(describe(progress));
    };
    let extensions = horde.extensions().await.unwrap_or_default();
    let progress = if extensions.tells_events() {
        let told = horde.follow(accepted.id, &pace, |event| {
            take(event, &mut now);
            show(&now);
        });
        told.await
    } else {
        horde.wait_for(accepted.id, &pace, show).await
    };
    bar.finish_and_clear();
    progress.context("the request was lost from sight")
}

/// Keeps how far a request is up to date by what is told of it.
fn take(event: &Event, now: &mut Progress) {
    match event {
        Event::Queued(progress) | Event::Done(progress) | Event::Faulted(progress) => {
            now.clone_from(progress);
        }
        Event::Assigned(_) => {
            now.is_possible = true;
            now.processing += 1;
            // Nobody tells how long it takes from here on.
            now.wait_time = 0;
        }
        Event::Progress(told) => now.steps = Some(told.steps),
        Event::Generation(_) => {
            now.finished += 1;
            now.processing = now.processing.saturating_sub(1);
            now.steps = None;
        }
        Event::Token(_) => {}
    }
}

fn describe(progress: &Progress) -> String {
    let seconds = progress.wait_time;
    if !progress.is_possible {
        return "no worker that is online can paint this; waiting for one".to_owned();
    }
    if progress.processing == 0 {
        return format!(
            "place {} in the queue, about {seconds} s",
            progress.queue_position
        );
    }
    let about = match seconds {
        0 => String::new(),
        seconds => format!(", about {seconds} s"),
    };
    match &progress.steps {
        Some(steps) => format!("step {} of {}{about}", steps.step, steps.of),
        None => format!("painting{about}"),
    }
}

async fn save_all(horde: &Horde, accepted: &AcceptedRequest, args: &Imagine) -> Result<Exit> {
    let status = horde
        .status(accepted.id)
        .await
        .context("the pictures could not be listed")?;
    let mut saved = Vec::new();
    for (index, generation) in status.generations.iter().enumerate() {
        let path = path_for(args, generation, index);
        let bytes = horde
            .download(&generation.img, MAX_PICTURE_BYTES)
            .await
            .context("a picture could not be fetched")?;
        picture::save(&bytes, &path)?;
        if generation.censored {
            eprintln!("Note: the worker censored {}", path.display());
        }
        let scans = qr::scans(generation);
        if scans == Some(false) {
            eprintln!("Note: the worker could not scan {}", path.display());
        }
        if !args.client.json {
            println!("{}", path.display());
        }
        let mut told = json!({
            "path": path, "seed": generation.seed, "model": generation.model,
            "worker": generation.worker_name, "censored": generation.censored,
        });
        if let Some(scans) = scans {
            told["scans"] = scans.into();
        }
        saved.push(told);
    }
    if args.client.json {
        let kudos = status.progress.kudos;
        println!(
            "{}",
            json!({ "id": accepted.id, "kudos": kudos, "pictures": saved })
        );
    }
    Ok(if saved.is_empty() {
        Exit::Failed
    } else {
        Exit::Done
    })
}

fn path_for(args: &Imagine, generation: &Generation, index: usize) -> PathBuf {
    if let Some(out) = &args.out {
        return picture::numbered(out, index);
    }
    let id = generation.id.to_string();
    let short = id.split('-').next().unwrap_or_default();
    PathBuf::from(format!("ordu-{short}.png"))
}

fn request(args: &Imagine) -> Result<ImageRequest> {
    let prompt = match &args.negative {
        Some(negative) => format!("{}###{negative}", args.prompt),
        None => args.prompt.clone(),
    };
    let first = remix::first(&args.remix)?.or(args.init.as_deref());
    Ok(ImageRequest {
        prompt,
        params: params(args),
        models: args.model.clone(),
        style: args.style.clone(),
        source_image: first.map(read_base64).transpose()?,
        extra_source_images: remix::further(&args.remix)?,
        source_mask: args.mask.as_deref().map(read_base64).transpose()?,
        source_processing: match (&args.mask, args.remix.as_slice()) {
            (_, [_, ..]) => SourceProcessing::Remix,
            (Some(_), _) => SourceProcessing::Inpainting,
            _ => SourceProcessing::Img2Img,
        },
        ..ImageRequest::default()
    })
}

fn params(args: &Imagine) -> ImageParams {
    ImageParams {
        width: Some(args.size.width),
        height: Some(args.size.height),
        n: Some(args.n),
        steps: args.steps,
        seed: args.seed.clone(),
        sampler_name: args.sampler.clone(),
        cfg_scale: args.cfg_scale,
        karras: args.no_karras.then_some(false),
        clip_skip: args.clip_skip,
        tiling: args.tiling.then_some(true),
        transparent: args.transparent.then_some(true),
        denoising_strength: args.strength,
        loras: args.lora.iter().map(lora).collect(),
        tis: args.ti.iter().map(ti).collect(),
        hires_fix: args.hires_fix.then_some(true),
        hires_fix_denoising_strength: args.hires_strength,
        control_type: args.control.clone(),
        image_is_control: args.init_is_map.then_some(true),
        return_control_map: args.map_only.then_some(true),
        post_processing: args.post.clone(),
        facefixer_strength: args.face_strength,
        workflow: qr::workflow(&args.qr),
        extra_texts: qr::texts(&args.qr),
        ..ImageParams::default()
    }
}

fn lora(add_on: &AddOn) -> Lora {
    Lora {
        name: add_on.name.clone(),
        model: add_on.strength,
        clip: add_on.strength,
        inject_trigger: None,
        is_version: false,
    }
}

fn ti(add_on: &AddOn) -> TextualInversion {
    TextualInversion {
        name: add_on.name.clone(),
        inject_ti: Some("prompt".to_owned()),
        strength: add_on.strength,
    }
}

pub(super) fn read_base64(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use ordu_api::event::{Assigned, JobSteps};
    use ordu_api::image::Steps;

    use super::*;

    #[test]
    fn what_is_told_becomes_a_line() {
        let id: ordu_api::JobId = "00000000-0000-4000-8000-000000000001".parse().unwrap();
        let mut now = Progress::default();
        let mut line = |event| {
            take(&event, &mut now);
            describe(&now)
        };
        let queued = Progress {
            queue_position: 3,
            wait_time: 40,
            is_possible: true,
            waiting: 1,
            ..Progress::default()
        };
        let waits = line(Event::Queued(queued.clone()));
        assert_eq!(waits, "place 3 in the queue, about 40 s");
        let nobody = Progress {
            is_possible: false,
            ..queued.clone()
        };
        assert!(line(Event::Queued(nobody)).starts_with("no worker"));
        let model = String::new();
        assert_eq!(line(Event::Assigned(Assigned { id, model })), "painting");
        let steps = Steps { step: 2, of: 9 };
        let told = JobSteps {
            id,
            steps,
            preview: None,
        };
        assert_eq!(line(Event::Progress(told)), "step 2 of 9");
        assert_eq!(line(Event::Queued(queued)), waits, "the worker was lost");
    }
}
