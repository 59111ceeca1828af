//! Styles with their models and tags, and collections of them.
//!
//! # Source
//! `community.md` § 8.

use std::collections::{HashMap, HashSet};

use ordu_api::image::ImageParams;
use ordu_api::text::TextParams;
use ordu_api::worker::WorkKind;
use serde_json::Value as Json;
use sqlx::FromRow;
use uuid::Uuid;

use super::{Desk, Known, Result, Rows, Tally};
use crate::pool::{InsertInto, Value, args, places};

const PAGE: &str = "
    SELECT id, style_type, info, name, public, nsfw, prompt, CAST(params AS TEXT) AS params,
        use_count, user_id, sharedkey_id,
        CAST(EXTRACT(EPOCH FROM created) * 1000 AS BIGINT) AS created
    FROM styles
    WHERE $1 IS NULL OR id > $1
    ORDER BY id
    LIMIT $2";

const MODELS: &str = "
    SELECT style_id, model
    FROM style_models
    WHERE style_id = ANY ($1)
    ORDER BY id";

const TAGS: &str = "
    SELECT style_id, tag
    FROM style_tags
    WHERE style_id = ANY ($1)
    ORDER BY id";

const EXAMPLES: &str = r#"
    SELECT id, style_id, url, "primary" AS is_primary
    FROM style_examples
    WHERE style_id = ANY ($1)
    ORDER BY style_id, "primary" DESC, id"#;

const COLLECTIONS: &str = "
    SELECT id, style_type, info, name, public, use_count, user_id,
        CAST(EXTRACT(EPOCH FROM created) * 1000 AS BIGINT) AS created
    FROM style_collections
    WHERE $1 IS NULL OR id > $1
    ORDER BY id
    LIMIT $2";

/// The oldest style first: the old table keeps no order.
const MEMBERS: &str = "
    SELECT m.collection_id, m.style_id
    FROM style_collection_mapping AS m
        JOIN styles AS s ON s.id = m.style_id
    WHERE m.collection_id = ANY ($1)
    ORDER BY s.created, s.id";

const INTO_STYLES: InsertInto<'static> = InsertInto {
    table: "styles",
    columns: &[
        "id",
        "owner",
        "kind",
        "name",
        "info",
        "prompt",
        "params",
        "models",
        "tags",
        "public",
        "nsfw",
        "shared_key",
        "use_count",
        "created",
    ],
    suffix: "",
};

const INTO_EXAMPLES: InsertInto<'static> = InsertInto {
    table: "style_examples",
    columns: &["id", "style", "place", "url", "is_primary"],
    suffix: "ON CONFLICT DO NOTHING",
};

const INTO_WORDS: InsertInto<'static> = InsertInto {
    table: "style_words",
    columns: &["style", "sort", "word"],
    suffix: "ON CONFLICT DO NOTHING",
};

const INTO_COLLECTIONS: InsertInto<'static> = InsertInto {
    table: "collections",
    columns: &[
        "id",
        "owner",
        "kind",
        "name",
        "info",
        "public",
        "use_count",
        "created",
    ],
    suffix: "",
};

const INTO_MEMBERS: InsertInto<'static> = InsertInto {
    table: "collection_styles",
    columns: &["collection", "style", "place"],
    suffix: "",
};

#[derive(Debug, FromRow)]
struct OldStyle {
    id: Uuid,
    style_type: String,
    info: Option<String>,
    name: String,
    public: bool,
    nsfw: bool,
    prompt: String,
    params: String,
    use_count: i32,
    user_id: i32,
    sharedkey_id: Option<Uuid>,
    created: i64,
}

#[derive(Debug, FromRow)]
struct OldExample {
    id: Uuid,
    style_id: Uuid,
    url: String,
    is_primary: bool,
}

#[derive(Debug, FromRow)]
struct OldCollection {
    id: Uuid,
    style_type: String,
    info: Option<String>,
    name: String,
    public: bool,
    use_count: i32,
    user_id: i32,
    created: i64,
}

/// Names by owner: what an owner has once, there and here.
type Names = HashSet<(i64, String)>;

pub(super) async fn import(desk: &mut Desk<'_>) -> Result<Vec<Tally>> {
    let mut styles = Tally::new("styles");
    let mut after = None;
    while let Some(last) = import_styles(desk, after, &mut styles).await? {
        after = Some(last);
    }
    let mut collections = Tally::new("style_collections");
    let mut after = None;
    while let Some(last) = import_collections(desk, after, &mut collections).await? {
        after = Some(last);
    }
    Ok(vec![styles, collections])
}

async fn import_styles(
    desk: &mut Desk<'_>,
    after: Option<Uuid>,
    tally: &mut Tally,
) -> Result<Option<Uuid>> {
    let page: Vec<OldStyle> = desk.source.identified(PAGE, after).await?;
    let ids: Vec<Uuid> = page.iter().map(|old| old.id).collect();
    let Some(last) = ids.last().copied() else {
        return Ok(None);
    };
    let known = desk.known(Known::Styles, &ids).await?;
    let named = page.iter().map(|old| old.name.as_str());
    let mut names = names(desk, Known::Styles, named.collect()).await?;
    let models = by_style(desk.source.of_ids(MODELS, &ids).await?);
    let tags = by_style(desk.source.of_ids(TAGS, &ids).await?);
    let mut rows = Rows::new(INTO_STYLES);
    let mut taken = HashSet::new();
    for old in page {
        tally.found += 1;
        if known.contains(&old.id) {
            tally.already += 1;
            desk.styles.insert(old.id);
            continue;
        }
        let shown = format!("{} ({})", old.name, old.id);
        let key = old
            .sharedkey_id
            .filter(|key| desk.shared_keys.contains(key));
        let row = accept(&old, desk, &mut names).and_then(|kind| {
            let params = params(kind, &old.params)?;
            Ok(row(&old, kind, params, [&models, &tags], key))
        });
        match row {
            Ok(row) => {
                tally.imported += 1;
                desk.styles.insert(old.id);
                taken.insert(old.id);
                if old.sharedkey_id != key {
                    tally.note(shown, "without its shared key, which was not taken over");
                }
                rows.rows.push(row);
            }
            Err(reason) => tally.skip(shown, reason),
        }
    }
    let words = words(&taken, &models, &tags);
    let examples = examples(desk, &taken, &ids, tally).await?;
    desk.write(vec![rows, words, examples]).await?;
    Ok(Some(last))
}

/// The words by which styles are found.
fn words(
    taken: &HashSet<Uuid>,
    models: &HashMap<Uuid, Vec<String>>,
    tags: &HashMap<Uuid, Vec<String>>,
) -> Rows {
    let mut rows = Rows::new(INTO_WORDS);
    for (sort, words) in [("model", models), ("tag", tags)] {
        for (style, words) in words.iter().filter(|(style, _)| taken.contains(style)) {
            let words = words.iter().map(|word| args![*style, sort, word.clone()]);
            rows.rows.extend(words);
        }
    }
    rows
}

/// The pictures that show what styles do; of each style one is the first.
async fn examples(
    desk: &mut Desk<'_>,
    taken: &HashSet<Uuid>,
    ids: &[Uuid],
    tally: &mut Tally,
) -> Result<Rows> {
    let mut rows = Rows::new(INTO_EXAMPLES);
    if !desk.source.has("style_examples") {
        return Ok(rows);
    }
    let old: Vec<OldExample> = desk.source.of_ids(EXAMPLES, ids).await?;
    let mut places: HashMap<Uuid, i64> = HashMap::new();
    for old in old.into_iter().filter(|old| taken.contains(&old.style_id)) {
        let place = places.entry(old.style_id).or_default();
        let is_first = *place == 0;
        rows.rows
            .push(args![old.id, old.style_id, *place, old.url, is_first]);
        if old.is_primary && !is_first {
            tally.note(
                old.style_id,
                format!("with example {} behind another one", old.id),
            );
        }
        *place += 1;
    }
    Ok(rows)
}

fn row(
    old: &OldStyle,
    kind: WorkKind,
    params: String,
    [models, tags]: [&HashMap<Uuid, Vec<String>>; 2],
    key: Option<Uuid>,
) -> Vec<Value> {
    let list = |all: &HashMap<Uuid, Vec<String>>| {
        let list = all.get(&old.id).map(Vec::as_slice).unwrap_or_default();
        serde_json::to_string(list).unwrap_or_else(|_| "[]".to_owned())
    };
    args![
        old.id,
        i64::from(old.user_id),
        kind.name(),
        old.name.clone(),
        old.info.clone().unwrap_or_default(),
        old.prompt.clone(),
        params,
        list(models),
        list(tags),
        old.public,
        old.nsfw,
        key,
        i64::from(old.use_count),
        old.created,
    ]
}

/// The kind of a style that can be taken, or why it cannot.
fn accept(
    old: &OldStyle,
    desk: &Desk<'_>,
    names: &mut Names,
) -> std::result::Result<WorkKind, String> {
    let kind = kind(&old.style_type)?;
    claim(desk, names, old.user_id, &old.name)?;
    Ok(kind)
}

fn kind(name: &str) -> std::result::Result<WorkKind, String> {
    match name {
        "image" => Ok(WorkKind::Image),
        "text" => Ok(WorkKind::Text),
        other => Err(format!("there are no styles for `{other}`")),
    }
}

fn claim(
    desk: &Desk<'_>,
    names: &mut Names,
    owner: i32,
    name: &str,
) -> std::result::Result<(), String> {
    let owner = i64::from(owner);
    if !desk.users.contains(&owner) {
        return Err(format!("account {owner} was not taken over"));
    }
    if !names.insert((owner, name.to_owned())) {
        return Err("its owner has another one of this name".to_owned());
    }
    Ok(())
}

/// Parameters as ours reads them. Members that say nothing are left out.
pub(crate) fn params(kind: WorkKind, text: &str) -> std::result::Result<String, String> {
    let unreadable = |error: serde_json::Error| format!("its parameters cannot be used: {error}");
    let mut params: Json = serde_json::from_str(text).map_err(unreadable)?;
    if params.is_null() {
        params = Json::Object(serde_json::Map::new());
    }
    if let Some(members) = params.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    let text = params.to_string();
    match kind {
        WorkKind::Text => serde_json::from_str::<TextParams>(&text).map(drop),
        WorkKind::Image | WorkKind::Interrogation => {
            serde_json::from_str::<ImageParams>(&text).map(drop)
        }
    }
    .map_err(unreadable)?;
    Ok(text)
}

async fn import_collections(
    desk: &mut Desk<'_>,
    after: Option<Uuid>,
    tally: &mut Tally,
) -> Result<Option<Uuid>> {
    let page: Vec<OldCollection> = desk.source.identified(COLLECTIONS, after).await?;
    let ids: Vec<Uuid> = page.iter().map(|old| old.id).collect();
    let Some(last) = ids.last().copied() else {
        return Ok(None);
    };
    let known = desk.known(Known::Collections, &ids).await?;
    let named = page.iter().map(|old| old.name.as_str());
    let mut names = names(desk, Known::Collections, named.collect()).await?;
    let members: HashMap<Uuid, Vec<Uuid>> = by_style(desk.source.of_ids(MEMBERS, &ids).await?);
    let (mut rows, mut places) = (Rows::new(INTO_COLLECTIONS), Rows::new(INTO_MEMBERS));
    for old in page {
        tally.found += 1;
        if known.contains(&old.id) {
            tally.already += 1;
            continue;
        }
        let shown = format!("{} ({})", old.name, old.id);
        let taken = kind(&old.style_type)
            .and_then(|kind| claim(desk, &mut names, old.user_id, &old.name).map(|()| kind));
        let kind = match taken {
            Ok(kind) => kind,
            Err(reason) => {
                tally.skip(shown, reason);
                continue;
            }
        };
        tally.imported += 1;
        let all = members.get(&old.id).map(Vec::as_slice).unwrap_or_default();
        let here = all.iter().filter(|style| desk.styles.contains(style));
        let here = (0_i64..).zip(here);
        places
            .rows
            .extend(here.map(|(place, style)| args![old.id, *style, place]));
        for style in all.iter().filter(|style| !desk.styles.contains(style)) {
            tally.note(
                &shown,
                format!("without style {style}, which was not taken over"),
            );
        }
        rows.rows.push(args![
            old.id,
            i64::from(old.user_id),
            kind.name(),
            old.name,
            old.info.unwrap_or_default(),
            old.public,
            i64::from(old.use_count),
            old.created,
        ]);
    }
    desk.write(vec![rows, places]).await?;
    Ok(Some(last))
}

/// Who of ours has things of these names.
async fn names(desk: &Desk<'_>, table: Known, names: Vec<&str>) -> Result<Names> {
    let sql = format!(
        "SELECT owner, name FROM {} WHERE name IN ({})",
        table.name(),
        places(1, names.len())
    );
    let values = names.into_iter().map(Value::from).collect();
    let rows: Vec<(i64, String)> = desk.reader().await?.all_made(sql, values).await?;
    Ok(rows.into_iter().collect())
}

fn by_style<T>(rows: Vec<(Uuid, T)>) -> HashMap<Uuid, Vec<T>> {
    let mut sorted: HashMap<Uuid, Vec<T>> = HashMap::new();
    for (style, value) in rows {
        sorted.entry(style).or_default().push(value);
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_before_they_are_taken() {
        let read = |text| params(WorkKind::Image, text);
        assert_eq!(read("null"), Ok("{}".to_owned()));
        let kept = Ok(r#"{"width":512}"#.to_owned());
        assert_eq!(read(r#"{"width": 512, "steps": null}"#), kept);
        assert!(read(r#"{"width": "wide"}"#).is_err());
        assert!(params(WorkKind::Text, r#"{"max_length": 80}"#).is_ok());
    }
}
