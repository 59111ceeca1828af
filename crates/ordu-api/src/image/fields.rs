//! The tables of image bodies: every member with its type and bounds.
//!
//! # Source
//! `generation.md` § 3 and § 6. Defaults are the effective ones.

use crate::schema::{Field, Kind, Schema};

/// The samplers of the protocol.
pub const SAMPLERS: &[&str] = &[
    "k_lms",
    "k_heun",
    "k_euler",
    "k_euler_a",
    "k_dpm_2",
    "k_dpm_2_a",
    "k_dpm_fast",
    "k_dpm_adaptive",
    "k_dpmpp_2s_a",
    "k_dpmpp_2m",
    "dpmsolver",
    "k_dpmpp_sde",
    "DDIM",
    "lcm",
];

/// The post-processors of the protocol, upscalers and others.
pub const POST_PROCESSORS: &[&str] = &[
    "GFPGAN",
    "RealESRGAN_x4plus",
    "RealESRGAN_x2plus",
    "RealESRGAN_x4plus_anime_6B",
    "NMKD_Siax",
    "4x_AnimeSharp",
    "CodeFormers",
    "strip_background",
    "4xNomos8kSC",
    "4xLSDIRplus",
    "4xNomosWebPhoto_RealPLKSR",
    "4xNomos2_realplksr_dysample",
    "4xNomos2_hq_dat2",
    "2xModernSpanimationV1",
    "GFPGANv1.3",
    "RestoreFormer",
];

/// The control types of the public protocol.
pub const CONTROL_TYPES: &[&str] = &[
    "canny",
    "hed",
    "depth",
    "normal",
    "openpose",
    "seg",
    "scribble",
    "fakescribbles",
    "hough",
];

const LORA: &[Field] = &[
    Field::required(
        "name",
        Kind::text(1, 255),
        "CivitAI id, version id or free name.",
    ),
    Field::optional(
        "model",
        Kind::number(-5.0, 5.0),
        "Strength on the diffusion model, default 1.",
    ),
    Field::optional(
        "clip",
        Kind::number(-5.0, 5.0),
        "Strength on the text encoder, default 1.",
    ),
    Field::optional(
        "inject_trigger",
        Kind::text(1, 30),
        "`any`, `all` or a trigger's text.",
    ),
    Field::optional("is_version", Kind::Bool, "Whether `name` is a version id."),
];

const TEXTUAL_INVERSION: &[Field] = &[
    Field::required("name", Kind::text(1, 255), "CivitAI id or free name."),
    Field::optional(
        "inject_ti",
        Kind::Choice(&["prompt", "negprompt"]),
        "Where to put it.",
    ),
    Field::optional(
        "strength",
        Kind::number(-5.0, 5.0),
        "Weight of the injected token, default 1.",
    ),
];

const EXTRA_TEXT: &[Field] = &[
    Field::optional("text", Kind::text(1, usize::MAX), "The text itself."),
    Field::optional(
        "reference",
        Kind::text(3, usize::MAX),
        "What it is for, such as `qr_code`.",
    ),
];

const EXTRA_SOURCE_IMAGE: &[Field] = &[
    Field::optional("image", Kind::text(1, usize::MAX), "URL or base64."),
    Field::optional("strength", Kind::NUMBER, "Its weight, default 1."),
];

const SIZE: Kind = Kind::Integer {
    min: 64,
    max: 3072,
    multiple_of: 64,
};
const DENOISE: Kind = Kind::number(0.01, 1.0);

/// How to paint.
pub(crate) const PARAMS: &[Field] = &[
    Field::optional(
        "sampler_name",
        Kind::Choice(SAMPLERS),
        "Default `k_euler_a`.",
    ),
    Field::optional(
        "cfg_scale",
        Kind::number(0.0, 100.0),
        "At most two decimals, default 5.",
    ),
    Field::optional("width", SIZE, "Pixels, default 512."),
    Field::optional("height", SIZE, "Pixels, default 512."),
    Field::optional(
        "steps",
        Kind::integer(1, 500),
        "Default 30; 20 with `control_type`.",
    ),
    Field::optional("n", Kind::integer(1, 20), "How many pictures, default 1."),
    Field::optional(
        "seed",
        Kind::TEXT,
        "Digits or any text; random if left out.",
    ),
    Field::optional(
        "seed_variation",
        Kind::integer(1, 1000),
        "Seed distance between pictures.",
    ),
    Field::optional("karras", Kind::Bool, "Karras noise schedule, default true."),
    Field::optional(
        "denoising_strength",
        DENOISE,
        "How much of a source image is redrawn.",
    ),
    Field::optional("hires_fix", Kind::Bool, "Two passes for large pictures."),
    Field::optional(
        "hires_fix_denoising_strength",
        DENOISE,
        "Of the second pass.",
    ),
    Field::optional(
        "clip_skip",
        Kind::integer(1, 12),
        "Text encoder layers to leave out, plus 1.",
    ),
    Field::optional("tiling", Kind::Bool, "Seamless edges."),
    Field::optional(
        "post_processing",
        Kind::List {
            items: &Kind::Choice(POST_PROCESSORS),
            unique: true,
        },
        "Run in this order.",
    ),
    Field::optional(
        "facefixer_strength",
        Kind::number(0.0, 1.0),
        "Of the face fixers.",
    ),
    Field::optional("loras", Kind::list(&Kind::Object(LORA)), "At most 5."),
    Field::optional(
        "tis",
        Kind::list(&Kind::Object(TEXTUAL_INVERSION)),
        "At most 20.",
    ),
    Field::optional("special", Kind::FreeObject, "For special users."),
    Field::optional(
        "workflow",
        Kind::Choice(&["qr_code"]),
        "A pipeline by name.",
    ),
    Field::optional("transparent", Kind::Bool, "A picture with alpha."),
    Field::optional("control_type", Kind::Choice(CONTROL_TYPES), "ControlNet."),
    Field::optional(
        "image_is_control",
        Kind::Bool,
        "The source is a control map already.",
    ),
    Field::optional(
        "return_control_map",
        Kind::Bool,
        "The map instead of a picture.",
    ),
    Field::optional(
        "extra_texts",
        Kind::list(&Kind::Object(EXTRA_TEXT)),
        "For `workflow`.",
    ),
];

/// The body of `POST /generate/async`.
pub const REQUEST_SCHEMA: Schema = Schema {
    name: "ImageRequest",
    fields: &[
        Field::required(
            "prompt",
            Kind::text(1, usize::MAX),
            "`###` starts the negative part.",
        ),
        Field::optional("params", Kind::Object(PARAMS), "How to paint."),
        Field::optional(
            "nsfw",
            Kind::Bool,
            "Whether results may be NSFW, default true.",
        ),
        Field::optional("censor_nsfw", Kind::Bool, "Censor accidents, default true."),
        Field::optional("trusted_workers", Kind::Bool, "Trusted owners only."),
        Field::optional(
            "validated_backends",
            Kind::Bool,
            "Means something for text only.",
        ),
        Field::optional(
            "slow_workers",
            Kind::Bool,
            "Allow slow workers, default true.",
        ),
        Field::optional(
            "extra_slow_workers",
            Kind::Bool,
            "Allow workers that say they crawl.",
        ),
        Field::optional(
            "workers",
            Kind::list(&Kind::TEXT),
            "Worker ids, the first 5 count.",
        ),
        Field::optional(
            "worker_blacklist",
            Kind::Bool,
            "Turns `workers` into exclusions.",
        ),
        Field::optional(
            "models",
            Kind::list(&Kind::TEXT),
            "Any of these; `[]` for any at all.",
        ),
        Field::optional("source_image", Kind::TEXT, "URL or base64."),
        Field::optional(
            "source_processing",
            Kind::Choice(&["img2img", "inpainting", "outpainting", "remix"]),
            "What to do with the source, default `img2img`.",
        ),
        Field::optional(
            "source_mask",
            Kind::TEXT,
            "URL or base64; white is redrawn.",
        ),
        Field::optional(
            "extra_source_images",
            Kind::list(&Kind::Object(EXTRA_SOURCE_IMAGE)),
            "At most 5, remix only.",
        ),
        Field::optional(
            "r2",
            Kind::Bool,
            "`img` as URL instead of base64, default true.",
        ),
        Field::optional("shared", Kind::Bool, "Give results to the public dataset."),
        Field::optional(
            "replacement_filter",
            Kind::Bool,
            "Sanitise instead of refuse.",
        ),
        Field::optional("dry_run", Kind::Bool, "Only tell the price."),
        Field::optional(
            "proxied_account",
            Kind::TEXT,
            "Service accounts: their user's id.",
        ),
        Field::optional("disable_batching", Kind::Bool, "One picture per job."),
        Field::optional("allow_downgrade", Kind::Bool, "Shrink instead of refuse."),
        Field::optional(
            "webhook",
            Kind::text(10, 1024),
            "Where to post each result, https.",
        ),
        Field::optional("style", Kind::text(3, 1024), "A style's id or name."),
    ],
};

/// The body of `POST /generate/pop`.
pub const POP_SCHEMA: Schema = Schema {
    name: "ImagePop",
    fields: &[
        Field::required(
            "name",
            Kind::TEXT,
            "The worker's name, unique in the horde.",
        ),
        Field::optional(
            "priority_usernames",
            Kind::list(&Kind::TEXT),
            "Aliases served first.",
        ),
        Field::optional("nsfw", Kind::Bool, "Serves NSFW requests, default true."),
        Field::optional(
            "models",
            Kind::list(&Kind::text(3, 255)),
            "The first 300 count.",
        ),
        Field::optional(
            "bridge_agent",
            Kind::text(0, 1000),
            "`name:version:contact`.",
        ),
        Field::optional(
            "threads",
            Kind::integer(1, 50),
            "Jobs at the same time, default 1.",
        ),
        Field::optional(
            "require_upfront_kudos",
            Kind::Bool,
            "Only requesters who can pay.",
        ),
        Field::optional(
            "amount",
            Kind::integer(1, 20),
            "The largest batch, default 1.",
        ),
        Field::optional("extra_slow_worker", Kind::Bool, "Slow, and says so."),
        Field::optional(
            "max_pixels",
            Kind::INTEGER,
            "The largest picture, default 262144.",
        ),
        Field::optional(
            "blacklist",
            Kind::list(&Kind::TEXT),
            "Words in prompts to refuse.",
        ),
        Field::optional("allow_img2img", Kind::Bool, "Default true."),
        Field::optional("allow_painting", Kind::Bool, "Default true."),
        Field::optional("allow_unsafe_ipaddr", Kind::Bool, "Default true."),
        Field::optional("allow_post_processing", Kind::Bool, "Default true."),
        Field::optional("allow_controlnet", Kind::Bool, "Default false."),
        Field::optional("allow_sdxl_controlnet", Kind::Bool, "Default false."),
        Field::optional("allow_lora", Kind::Bool, "Default false."),
        Field::optional(
            "limit_max_steps",
            Kind::Bool,
            "Refuse requests of many steps.",
        ),
        Field::optional(
            "capabilities",
            Kind::list(&Kind::text(1, 100)),
            "What it can do, instead of being judged by its agent's name.",
        ),
    ],
};

/// What a worker may say about a picture.
pub const METADATA_TYPES: &[&str] = &[
    "lora",
    "ti",
    "censorship",
    "source_image",
    "source_mask",
    "extra_source_images",
    "batch_index",
    "information",
    "aesthetic_score",
];

/// With which values.
pub const METADATA_VALUES: &[&str] = &[
    "download_failed",
    "parse_failed",
    "baseline_mismatch",
    "csam",
    "nsfw",
    "see_ref",
];

const METADATA: &[Field] = &[
    Field::required("type", Kind::Choice(METADATA_TYPES), "What it is about."),
    Field::required("value", Kind::Choice(METADATA_VALUES), "What happened."),
    Field::optional("ref", Kind::text(0, 255), "Which one."),
];

/// The states a job may be handed back in.
pub const SUBMIT_STATES: &[&str] = &["ok", "censored", "faulted", "csam"];

/// The body of `POST /generate/submit`.
pub const SUBMIT_SCHEMA: Schema = Schema {
    name: "ImageSubmit",
    fields: &[
        Field::required("id", Kind::TEXT, "The job."),
        Field::required_last(
            "generation",
            Kind::TEXT,
            "`R2` after an upload, or base64 WebP.",
        ),
        Field::optional("state", Kind::Choice(SUBMIT_STATES), "Default `ok`."),
        Field::required("seed", Kind::INTEGER, "The seed that was used."),
        Field::optional("censored", Kind::Bool, "Obsolete, ignored."),
        Field::optional(
            "gen_metadata",
            Kind::list(&Kind::Object(METADATA)),
            "At most 50.",
        ),
    ],
};
