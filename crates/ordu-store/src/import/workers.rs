//! Workers with what they declared, did and earned.
//!
//! # Source
//! `community.md` § 5.

use std::collections::{HashMap, HashSet};

use ordu_api::alchemy::AlchemyPop;
use ordu_api::image::ImagePop;
use ordu_api::text::TextPop;
use ordu_api::worker::WorkKind;
use ordu_core::horde::Declared;
use ordu_core::suspicion::Reason;
use sqlx::FromRow;
use uuid::Uuid;

use super::accounts::INTO_SUSPICIONS;
use super::{Desk, Known, Result, Rows, Tally};
use crate::pool::{InsertInto, Value, args, places};

/// How many of a worker's newest speeds count.
const SPEEDS: usize = 20;

const PAGE: &str = "
    SELECT id, worker_type, user_id, name, info, ipaddr, kudos, contributions, fulfilments,
        uncompleted_jobs, uptime, threads, bridge_agent, max_power, extra_slow_worker, paused,
        maintenance, maintenance_msg, team_id, allow_unsafe_ipaddr, nsfw, max_length,
        max_context_length, max_pixels, allow_img2img, allow_painting, allow_post_processing,
        allow_controlnet, allow_sdxl_controlnet, allow_lora, limit_max_steps,
        CAST(EXTRACT(EPOCH FROM created) * 1000 AS BIGINT) AS created,
        CAST(EXTRACT(EPOCH FROM last_check_in) * 1000 AS BIGINT) AS last_check_in
    FROM workers
    WHERE $1 IS NULL OR id > $1
    ORDER BY id
    LIMIT $2";

const MODELS: &str = "
    SELECT worker_id, model
    FROM worker_models
    WHERE model IS NOT NULL AND worker_id = ANY ($1)
    ORDER BY id";

const FORMS: &str = "
    SELECT worker_id, form
    FROM interrogation_worker_forms
    WHERE form IS NOT NULL AND worker_id = ANY ($1)
    ORDER BY id";

const WORDS: &str = "
    SELECT worker_id, word
    FROM worker_blacklists
    WHERE word IS NOT NULL AND worker_id = ANY ($1)
    ORDER BY id";

const SOFT_PROMPTS: &str = "
    SELECT worker_id, softprompt
    FROM text_worker_softprompts
    WHERE softprompt IS NOT NULL AND worker_id = ANY ($1)
    ORDER BY id";

const UPTIME: &str = "
    SELECT worker_id, value
    FROM worker_stats
    WHERE action = 'uptime' AND worker_id = ANY ($1)";

const PERFORMANCES: &str = "
    SELECT worker_id, performance
    FROM worker_performances
    WHERE performance IS NOT NULL AND worker_id = ANY ($1)
    ORDER BY created, id";

const SUSPICIONS: &str = "
    SELECT worker_id, suspicion_id, COUNT(*)
    FROM worker_suspicions
    WHERE suspicion_id IS NOT NULL AND worker_id = ANY ($1)
    GROUP BY worker_id, suspicion_id";

const INTO: InsertInto<'static> = InsertInto {
    table: "workers",
    columns: &[
        "id",
        "name",
        "name_folded",
        "kind",
        "owner",
        "agent",
        "declared",
        "paused",
        "maintenance",
        "maintenance_message",
        "info",
        "team",
        "ip",
        "created",
        "last_check_in",
        "uptime",
        "uncompleted",
        "kudos_uptime",
        "fulfilled",
        "things",
        "kudos_generated",
        "speeds",
    ],
    suffix: "",
};

#[derive(Debug, FromRow)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the columns of the old table"
)]
struct Old {
    id: Uuid,
    worker_type: String,
    user_id: Option<i32>,
    name: String,
    info: Option<String>,
    ipaddr: Option<String>,
    kudos: i64,
    contributions: i64,
    fulfilments: i32,
    uncompleted_jobs: i32,
    uptime: i64,
    threads: i32,
    bridge_agent: String,
    max_power: i32,
    extra_slow_worker: bool,
    paused: bool,
    maintenance: bool,
    maintenance_msg: String,
    team_id: Option<Uuid>,
    allow_unsafe_ipaddr: bool,
    nsfw: bool,
    max_length: i32,
    max_context_length: i32,
    max_pixels: i64,
    allow_img2img: bool,
    allow_painting: bool,
    allow_post_processing: bool,
    allow_controlnet: bool,
    allow_sdxl_controlnet: bool,
    allow_lora: bool,
    limit_max_steps: bool,
    created: Option<i64>,
    last_check_in: Option<i64>,
}

/// What a worker is, and whose.
#[derive(Debug, Clone, Copy)]
struct Owned {
    kind: WorkKind,
    owner: i64,
    team: Option<Uuid>,
}

/// What belongs to the workers of a batch, by worker.
#[derive(Debug, Default)]
struct Belongings {
    models: HashMap<Uuid, Vec<String>>,
    forms: HashMap<Uuid, Vec<String>>,
    words: HashMap<Uuid, Vec<String>>,
    soft_prompts: HashMap<Uuid, Vec<String>>,
    uptime: HashMap<Uuid, i64>,
    speeds: HashMap<Uuid, Vec<f64>>,
}

pub(super) async fn import(desk: &mut Desk<'_>) -> Result<Tally> {
    let mut tally = Tally::new("workers");
    let mut after = None;
    while let Some(last) = import_page(desk, after, &mut tally).await? {
        after = Some(last);
    }
    Ok(tally)
}

async fn import_page(
    desk: &mut Desk<'_>,
    after: Option<Uuid>,
    tally: &mut Tally,
) -> Result<Option<Uuid>> {
    let page: Vec<Old> = desk.source.identified(PAGE, after).await?;
    let ids: Vec<Uuid> = page.iter().map(|old| old.id).collect();
    let Some(last) = ids.last().copied() else {
        return Ok(None);
    };
    let known = desk.known(Known::Workers, &ids).await?;
    let mut names = names(desk, &page).await?;
    let belongings = belongings(desk, &ids).await?;
    let mut rows = Rows::new(INTO);
    let mut owners = HashMap::new();
    for old in page {
        tally.found += 1;
        if known.contains(&old.id) {
            tally.already += 1;
            desk.workers.insert(old.id);
            continue;
        }
        let taken = accept(&old, desk).and_then(|(kind, owner)| {
            let is_free = names.insert(old.name.clone());
            is_free
                .then_some((kind, owner))
                .ok_or_else(|| "another worker has its name".to_owned())
        });
        match taken {
            Ok((kind, owner)) => {
                tally.imported += 1;
                desk.workers.insert(old.id);
                owners.insert(old.id, owner);
                let team = old.team_id.filter(|team| desk.teams.contains(team));
                if team != old.team_id {
                    tally.note(&old.name, "without its team, which was not taken over");
                }
                let owned = Owned { kind, owner, team };
                rows.rows.push(row(&old, owned, &belongings));
            }
            Err(reason) => tally.skip(format!("{} ({})", old.name, old.id), reason),
        }
    }
    let suspicions = suspicions(desk, &ids, &owners, tally).await?;
    desk.write(vec![rows, suspicions]).await?;
    Ok(Some(last))
}

/// The kind and the owner of a worker that can be taken, or why it cannot.
fn accept(old: &Old, desk: &Desk<'_>) -> std::result::Result<(WorkKind, i64), String> {
    let kind = match old.worker_type.as_str() {
        "stable_worker" => WorkKind::Image,
        "text_worker" => WorkKind::Text,
        "interrogation_worker" => WorkKind::Interrogation,
        other => return Err(format!("`{other}` is no kind of worker")),
    };
    let Some(owner) = old.user_id.map(i64::from) else {
        return Err("it belongs to nobody".to_owned());
    };
    if !desk.users.contains(&owner) {
        return Err(format!("account {owner} was not taken over"));
    }
    Ok((kind, owner))
}

fn row(old: &Old, owned: Owned, belongings: &Belongings) -> Vec<Value> {
    let Owned { kind, owner, team } = owned;
    let uptime = belongings.uptime.get(&old.id).copied().unwrap_or_default();
    let scale = if kind == WorkKind::Image {
        1_000_000
    } else {
        1
    };
    let message = old.maintenance.then(|| old.maintenance_msg.clone());
    let created = old.created.unwrap_or_default();
    let mut speeds = belongings.speeds.get(&old.id).cloned().unwrap_or_default();
    speeds.drain(..speeds.len().saturating_sub(SPEEDS));
    args![
        old.id,
        old.name.clone(),
        old.name.to_lowercase(),
        kind.name(),
        owner,
        old.bridge_agent.clone(),
        declared(old, kind, belongings).to_json(),
        old.paused,
        old.maintenance,
        message,
        old.info.clone(),
        team,
        old.ipaddr.clone(),
        created,
        old.last_check_in.unwrap_or(created),
        old.uptime,
        i64::from(old.uncompleted_jobs),
        uptime.saturating_mul(1000),
        i64::from(old.fulfilments),
        old.contributions.saturating_mul(scale),
        old.kudos.saturating_sub(uptime).saturating_mul(1000),
        serde_json::to_string(&speeds).unwrap_or_else(|_| "[]".to_owned()),
    ]
}

/// What the worker said at its last pop, as far as the old database keeps it.
fn declared(old: &Old, kind: WorkKind, belongings: &Belongings) -> Declared {
    let of = |all: &HashMap<Uuid, Vec<String>>| all.get(&old.id).cloned().unwrap_or_default();
    let threads = u32::try_from(old.threads).unwrap_or(1);
    match kind {
        WorkKind::Image => ImagePop {
            name: old.name.clone(),
            nsfw: old.nsfw,
            models: of(&belongings.models),
            bridge_agent: old.bridge_agent.clone(),
            threads,
            extra_slow_worker: old.extra_slow_worker,
            max_pixels: old.max_pixels,
            blacklist: of(&belongings.words),
            allow_img2img: old.allow_img2img,
            allow_painting: old.allow_painting,
            allow_unsafe_ipaddr: old.allow_unsafe_ipaddr,
            allow_post_processing: old.allow_post_processing,
            allow_controlnet: old.allow_controlnet,
            allow_sdxl_controlnet: old.allow_sdxl_controlnet,
            allow_lora: old.allow_lora,
            limit_max_steps: old.limit_max_steps,
            ..ImagePop::default()
        }
        .into(),
        WorkKind::Text => TextPop {
            name: old.name.clone(),
            nsfw: old.nsfw,
            models: of(&belongings.models),
            bridge_agent: old.bridge_agent.clone(),
            threads,
            extra_slow_worker: old.extra_slow_worker,
            max_length: i64::from(old.max_length),
            max_context_length: i64::from(old.max_context_length),
            softprompts: of(&belongings.soft_prompts),
            ..TextPop::default()
        }
        .into(),
        WorkKind::Interrogation => AlchemyPop {
            name: old.name.clone(),
            forms: of(&belongings.forms),
            bridge_agent: old.bridge_agent.clone(),
            threads,
            max_tiles: u32::try_from(old.max_power).unwrap_or(1),
            ..AlchemyPop::default()
        }
        .into(),
    }
}

/// The names of this batch that workers of ours have.
async fn names(desk: &Desk<'_>, page: &[Old]) -> Result<HashSet<String>> {
    let sql = format!(
        "SELECT name FROM workers WHERE name IN ({})",
        places(1, page.len())
    );
    let values = page.iter().map(|old| Value::from(old.name.as_str()));
    let mut reader = desk.reader().await?;
    let rows: Vec<(String,)> = reader.all_made(sql, values.collect()).await?;
    Ok(rows.into_iter().map(|(name,)| name).collect())
}

async fn belongings(desk: &mut Desk<'_>, ids: &[Uuid]) -> Result<Belongings> {
    let uptime: Vec<(Uuid, i64)> = desk.source.of_ids(UPTIME, ids).await?;
    let speeds: Vec<(Uuid, f64)> = if desk.source.has("worker_performances") {
        desk.source.of_ids(PERFORMANCES, ids).await?
    } else {
        Vec::new()
    };
    Ok(Belongings {
        models: by_worker(desk.source.of_ids(MODELS, ids).await?),
        forms: by_worker(desk.source.of_ids(FORMS, ids).await?),
        words: by_worker(desk.source.of_ids(WORDS, ids).await?),
        soft_prompts: by_worker(desk.source.of_ids(SOFT_PROMPTS, ids).await?),
        uptime: uptime.into_iter().collect(),
        speeds: by_worker(speeds),
    })
}

fn by_worker<T>(rows: Vec<(Uuid, T)>) -> HashMap<Uuid, Vec<T>> {
    let mut sorted: HashMap<Uuid, Vec<T>> = HashMap::new();
    for (worker, value) in rows {
        sorted.entry(worker).or_default().push(value);
    }
    sorted
}

async fn suspicions(
    desk: &mut Desk<'_>,
    ids: &[Uuid],
    owners: &HashMap<Uuid, i64>,
    tally: &mut Tally,
) -> Result<Rows> {
    let mut rows = Rows::new(INTO_SUSPICIONS);
    let found: Vec<(Uuid, i32, i64)> = desk.source.of_ids(SUSPICIONS, ids).await?;
    for (worker, number, count) in found {
        let Some(owner) = owners.get(&worker) else {
            continue;
        };
        if Reason::from_number(i64::from(number)).is_none() {
            tally.note(
                worker,
                format!("without its suspicion of unknown kind {number}"),
            );
            continue;
        }
        let id = worker.to_string();
        rows.rows
            .push(args![*owner, id, i64::from(number), count, desk.now.0]);
    }
    Ok(rows)
}
