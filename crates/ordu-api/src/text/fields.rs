//! The tables of text bodies: every member with its type and bounds.
//!
//! # Source
//! `generation.md` § 4 and § 6. Defaults are the effective ones.

use crate::image::SUBMIT_STATES;
use crate::schema::{Field, Kind, Schema};

/// How to write.
pub(crate) const PARAMS: &[Field] = &[
    Field::optional("n", Kind::integer(1, 20), "How many texts, default 1."),
    Field::optional(
        "max_length",
        Kind::integer(16, 4096),
        "Tokens of a text at most, default 80.",
    ),
    Field::optional(
        "max_context_length",
        Kind::integer(80, 1_048_576),
        "Tokens of prompt and text, default 2048.",
    ),
    Field::optional("temperature", Kind::number(0.0, 5.0), "Of the sampler."),
    Field::optional("top_p", Kind::number(0.001, 1.0), "Nucleus sampling."),
    Field::optional(
        "top_k",
        Kind::integer(0, 200),
        "Top-k sampling; 0 for none.",
    ),
    Field::optional("top_a", Kind::number(0.0, 1.0), "Top-a sampling."),
    Field::optional("typical", Kind::number(0.0, 1.0), "Typical sampling."),
    Field::optional("tfs", Kind::number(0.0, 1.0), "Tail-free sampling."),
    Field::optional(
        "min_p",
        Kind::number(0.0, 1.0),
        "Min-p sampling, default 0.",
    ),
    Field::optional(
        "smoothing_factor",
        Kind::number(0.0, 10.0),
        "Quadratic sampling, default 0.",
    ),
    Field::optional(
        "dynatemp_range",
        Kind::number(0.0, 5.0),
        "Dynamic temperature, default 0.",
    ),
    Field::optional(
        "dynatemp_exponent",
        Kind::number(0.0, 5.0),
        "Of the dynamic temperature, default 1.",
    ),
    Field::optional("rep_pen", Kind::number(1.0, 3.0), "Penalty for repeating."),
    Field::optional(
        "rep_pen_range",
        Kind::integer(0, 4096),
        "Tokens that it looks back.",
    ),
    Field::optional("rep_pen_slope", Kind::number(0.0, 10.0), "How it fades."),
    Field::optional(
        "sampler_order",
        Kind::list(&Kind::INTEGER),
        "All samplers in their order: at least 7 distinct.",
    ),
    Field::optional(
        "stop_sequence",
        Kind::list(&Kind::TEXT),
        "Where to stop: at most 128, 2000 characters in all.",
    ),
    Field::optional("singleline", Kind::Bool, "One line only."),
    Field::optional(
        "frmtadsnsp",
        Kind::Bool,
        "Add a space where one is missing.",
    ),
    Field::optional("frmtrmblln", Kind::Bool, "Remove blank lines."),
    Field::optional("frmtrmspch", Kind::Bool, "Remove special characters."),
    Field::optional(
        "frmttriminc",
        Kind::Bool,
        "Trim what is incomplete at the end.",
    ),
    Field::optional(
        "use_default_badwordsids",
        Kind::Bool,
        "Ban the words that the backend bans by default.",
    ),
];

const EXTRA_SOURCE_IMAGE: &[Field] = &[
    Field::optional("image", Kind::text(1, usize::MAX), "URL or base64."),
    Field::optional("strength", Kind::NUMBER, "Its weight, default 1."),
];

/// The body of `POST /generate/text/async`.
pub const REQUEST_SCHEMA: Schema = Schema {
    name: "TextRequest",
    fields: &[
        Field::required_last("prompt", Kind::TEXT, "What to go on from."),
        Field::optional("params", Kind::Object(PARAMS), "How to write."),
        Field::optional(
            "softprompt",
            Kind::text(1, usize::MAX),
            "Only workers that have it.",
        ),
        Field::optional("trusted_workers", Kind::Bool, "Trusted owners only."),
        Field::optional("validated_backends", Kind::Bool, "Known backends only."),
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
            "Any of these; default any at all.",
        ),
        Field::optional(
            "extra_source_images",
            Kind::list(&Kind::Object(EXTRA_SOURCE_IMAGE)),
            "Pictures to look at, where the operator lets them be: 1, of the trusted at most 5.",
        ),
        Field::optional("dry_run", Kind::Bool, "Only tell the price."),
        Field::optional(
            "proxied_account",
            Kind::TEXT,
            "Service accounts: their user's id.",
        ),
        Field::optional("disable_batching", Kind::Bool, "One text per job."),
        Field::optional("allow_downgrade", Kind::Bool, "Shorten instead of refuse."),
        Field::optional("webhook", Kind::TEXT, "Where to post each result, https."),
        Field::optional("style", Kind::text(3, 1024), "A style's id or name."),
    ],
};

/// The body of `POST /generate/text/pop`.
pub const POP_SCHEMA: Schema = Schema {
    name: "TextPop",
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
            "The first 200 count.",
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
            "max_length",
            Kind::INTEGER,
            "The longest text in tokens, default 512.",
        ),
        Field::optional(
            "max_context_length",
            Kind::INTEGER,
            "The longest context in tokens, default 2048.",
        ),
        Field::optional(
            "softprompts",
            Kind::list(&Kind::TEXT),
            "Those that it has, the first 200 count.",
        ),
        Field::optional(
            "capabilities",
            Kind::list(&Kind::text(1, 100)),
            "What it can do, instead of being judged by its agent's name.",
        ),
    ],
};

const METADATA: &[Field] = &[
    Field::required("type", Kind::Choice(&["censorship"]), "What it is about."),
    Field::required("value", Kind::Choice(&["csam"]), "What happened."),
    Field::optional("ref", Kind::text(0, 255), "Which one."),
];

/// The body of `POST /generate/text/submit`.
pub const SUBMIT_SCHEMA: Schema = Schema {
    name: "TextSubmit",
    fields: &[
        Field::required("id", Kind::TEXT, "The job."),
        Field::required_last("generation", Kind::TEXT, "The text."),
        Field::optional("state", Kind::Choice(SUBMIT_STATES), "Default `ok`."),
        Field::optional("seed", Kind::INTEGER, "The seed that was used, default 0."),
        Field::optional(
            "gen_metadata",
            Kind::list(&Kind::Object(METADATA)),
            "At most 50.",
        ),
    ],
};
