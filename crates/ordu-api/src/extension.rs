//! What this server speaks beyond the protocol, each with a version: for programs that look before
//! they ask.
//!
//! # Source
//! `platform.md` § 4.

/// Extensions and their versions. A version grows when old clients would be wrong.
pub const EXTENSIONS: &[(&str, &str)] = &[
    // `POST /generate/progress`, with previews and texts.
    ("progress", "2"),
    // `GET /generate/events/{id}`.
    ("events", "1"),
    // `Prefer: wait=N` on pop, check and status.
    ("prefer-wait", "1"),
    // `/v1`, for OpenAI's clients.
    ("openai-gateway", "1"),
    // `Idempotency-Key` on requests.
    ("idempotency-key", "1"),
    // `webhook-id`, `webhook-timestamp`, `webhook-signature`; `GET /webhooks/secret`.
    ("signed-webhooks", "1"),
    // Warnings name the values that would do, also those of dry runs; `GET /reference/models`.
    ("model-advice", "2"),
    // `capabilities` in pops.
    ("capabilities", "1"),
    // `vision` among those of text workers: they get requests that bring pictures.
    ("text-vision", "1"),
    // `controlnet_lines` among them.
    ("controlnet-lines", "1"),
    // `/operations/models`.
    ("model-edits", "1"),
    // `GET /operations/notices`.
    ("notices", "1"),
    // `X-Request-Id`.
    ("request-id", "1"),
    // `?strict=1` of the heartbeat.
    ("strict-heartbeat", "1"),
    // `GET /stats/history`.
    ("stats-history", "1"),
    // `GET /kudos/history`.
    ("kudos-history", "1"),
    // `GET /status/pulse`.
    ("pulse", "1"),
    // `?explain=true` of check and status.
    ("explain", "1"),
    // `breakdown` of dry runs; `dry_run` of alchemy.
    ("itemised-prices", "1"),
    // `GET /operations/trust-audits`.
    ("trust-audits", "1"),
    // The operator's own rules may refuse or censor.
    ("policy-hooks", "1"),
];
