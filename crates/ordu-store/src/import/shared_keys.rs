//! Shared keys.
//!
//! # Source
//! `community.md` § 3.1.

use sqlx::FromRow;
use uuid::Uuid;

use super::{Desk, Known, Result, Rows, Tally};
use crate::pool::{InsertInto, args};

const PAGE: &str = "
    SELECT id, user_id, kudos, name, utilized, max_image_pixels, max_image_steps, max_text_tokens,
        CAST(EXTRACT(EPOCH FROM created) * 1000 AS BIGINT) AS created,
        CAST(EXTRACT(EPOCH FROM expiry) * 1000 AS BIGINT) AS expires
    FROM user_sharedkeys
    WHERE $1 IS NULL OR id > $1
    ORDER BY id
    LIMIT $2";

const INTO: InsertInto<'static> = InsertInto {
    table: "shared_keys",
    columns: &[
        "id",
        "owner",
        "name",
        "budget",
        "utilized",
        "expires",
        "max_image_pixels",
        "max_image_steps",
        "max_text_tokens",
        "created",
    ],
    suffix: "",
};

#[derive(Debug, FromRow)]
struct Old {
    id: Uuid,
    user_id: i32,
    kudos: i64,
    name: Option<String>,
    utilized: i64,
    max_image_pixels: i32,
    max_image_steps: i32,
    max_text_tokens: i32,
    created: i64,
    expires: Option<i64>,
}

pub(super) async fn import(desk: &mut Desk<'_>) -> Result<Tally> {
    let mut tally = Tally::new("user_sharedkeys");
    let mut after = None;
    loop {
        let page: Vec<Old> = desk.source.identified(PAGE, after).await?;
        let ids: Vec<Uuid> = page.iter().map(|old| old.id).collect();
        let Some(last) = ids.last() else {
            return Ok(tally);
        };
        after = Some(*last);
        let known = desk.known(Known::SharedKeys, &ids).await?;
        let mut rows = Rows::new(INTO);
        for old in page {
            tally.found += 1;
            if !desk.users.contains(&i64::from(old.user_id)) {
                tally.skip(
                    old.id,
                    format!("account {} was not taken over", old.user_id),
                );
                continue;
            }
            desk.shared_keys.insert(old.id);
            if known.contains(&old.id) {
                tally.already += 1;
                continue;
            }
            tally.imported += 1;
            rows.rows.push(args![
                old.id,
                i64::from(old.user_id),
                old.name,
                (old.kudos != -1).then(|| old.kudos.max(0).saturating_mul(1000)),
                old.utilized.saturating_mul(1000),
                old.expires,
                limit(old.max_image_pixels),
                limit(old.max_image_steps),
                limit(old.max_text_tokens),
                old.created,
            ]);
        }
        desk.write(vec![rows]).await?;
    }
}

/// Below 0 stands for no limit.
fn limit(number: i32) -> Option<i64> {
    (number >= 0).then(|| i64::from(number))
}
