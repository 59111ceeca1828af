//! Collections of styles: listed, made, read, changed, deleted.
//!
//! # Source
//! `community.md` § 8.4, § 8.6; `observed.md` 26, 35.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use ordu_api::collection::{CollectionChange, CollectionForm, CollectionView, Member};
use ordu_api::style::Saved;
use ordu_api::worker::WorkKind;
use ordu_api::{CollectionId, ReturnCode, StyleId, UserId};
use ordu_core::style::{Category, Name, rules};
use ordu_store::{Collection, NewCollection, Style};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::style::{check_keeper, check_not_anonymous, check_stays, check_words};
use super::style::{read_page, read_sort};
use super::user_edit::readable;
use crate::app::App;
use crate::audit::Deed;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Checked, OptionalKey};
use crate::{styles, text};

/// Which collections to list.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    sort: Option<String>,
    page: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// `GET /collections`: the public ones.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
) -> ApiResult<Json<Vec<CollectionView>>> {
    let sort = read_sort(wanted.sort.as_deref())?;
    let kind = read_kind(wanted.kind.as_deref())?;
    let page = read_page(wanted.page.as_deref())?;
    let found = app.store.list_collections(kind, sort, page).await?;
    show_all(&app, found).await.map(Json)
}

fn read_kind(kind: Option<&str>) -> ApiResult<Option<WorkKind>> {
    match kind {
        None | Some("all") => Ok(None),
        Some("image") => Ok(Some(WorkKind::Image)),
        Some("text") => Ok(Some(WorkKind::Text)),
        Some(other) => {
            let message = format!("`type` is '{other}': use all, image or text");
            Err(ApiError::refused(ReturnCode::BadRequest, message))
        }
    }
}

/// `GET /collections/{id}`
pub(crate) async fn by_id(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> ApiResult<Json<CollectionView>> {
    let found = find(&app, &id).await?;
    show(&app, found).await
}

/// `GET /collection_by_name/{name}`
pub(crate) async fn by_name(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> ApiResult<Json<CollectionView>> {
    let found = styles::collection_named(&app.store, &name).await?;
    show(&app, found.ok_or_else(|| missing(&name))?).await
}

async fn find(app: &App, id: &str) -> ApiResult<Collection> {
    let parsed: CollectionId = id.parse().map_err(|_| missing(id))?;
    let found = app.store.find_collection(parsed).await?;
    found.ok_or_else(|| missing(id))
}

fn missing(collection: &str) -> ApiError {
    let message = format!("There is no collection '{collection}'");
    ApiError::refused(ReturnCode::CollectionNotFound, message)
}

async fn show(app: &App, collection: Collection) -> ApiResult<Json<CollectionView>> {
    let name = collection.name.clone();
    let shown = show_all(app, vec![collection]).await?;
    let first = shown.into_iter().next();
    first.map(Json).ok_or_else(|| missing(&name))
}

async fn show_all(app: &App, found: Vec<Collection>) -> ApiResult<Vec<CollectionView>> {
    let ids: Vec<CollectionId> = found.iter().map(|collection| collection.id).collect();
    let mut members: BTreeMap<CollectionId, Vec<Member>> = BTreeMap::new();
    if !ids.is_empty() {
        for member in app.store.list_members(&ids).await? {
            let alias = format!("{}#{}", member.username, member.owner);
            members.entry(member.collection).or_default().push(Member {
                name: Name::print(Category::Style, &alias, &member.name),
                id: member.style,
            });
        }
    }
    let mut views = Vec::with_capacity(found.len());
    for collection in found {
        let creator = app.accounts.by_id(collection.owner).await?;
        views.push(CollectionView {
            id: collection.id,
            name: collection.name,
            kind: collection.kind.name().to_owned(),
            info: Some(collection.info).filter(|info| !info.is_empty()),
            public: collection.public,
            styles: members.remove(&collection.id).unwrap_or_default(),
            use_count: collection.use_count,
            creator: creator.map(|account| account.alias()).unwrap_or_default(),
        });
    }
    Ok(views)
}

/// `POST /collections`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Checked(form): Checked<CollectionForm>,
) -> ApiResult<Json<Saved<CollectionId>>> {
    rules::check_members(form.styles.len())?;
    let account = app.accounts.by_key(&key.require()?).await?;
    check_not_anonymous(&account)?;
    check_stays(&account)?;
    check_words(&app, [&form.name].into_iter().chain(&form.info))?;
    let owner = account.user.id;
    let name = readable("name", &form.name)?;
    check_name(&app, &name, owner, None).await?;
    let (styles, kind) = find_styles(&app, &form.styles, None).await?;
    let new = NewCollection {
        id: CollectionId::from_uuid(Uuid::new_v4()),
        owner,
        kind,
        name,
        info: form.info.as_deref().map(text::clean).unwrap_or_default(),
        public: form.public,
        styles,
        created: app.clock.now(),
    };
    let id = new.id;
    let this = Arc::clone(&app);
    app.complete(async move {
        let inserted = this.store.insert_collection(&new).await;
        inserted.map_err(|error| gone(error, id))?;
        this.styles.changed();
        Ok(())
    })
    .await?;
    Ok(Json(Saved::new(id, Some(Vec::new()))))
}

/// A name is used once by its owner.
async fn check_name(
    app: &App,
    name: &str,
    owner: UserId,
    except: Option<CollectionId>,
) -> ApiResult<()> {
    let named = app.store.find_collection_named(name, Some(owner)).await?;
    match named {
        Some(collection) if Some(collection.id) != except => Err(name_taken()),
        _ => Ok(()),
    }
}

fn name_taken() -> ApiError {
    let message = "You have a collection of this name, choose another one";
    ApiError::refused(ReturnCode::BadRequest, message)
}

/// The styles that are named, each once, and what they are for: all for the same.
async fn find_styles(
    app: &App,
    named: &[String],
    wanted: Option<WorkKind>,
) -> ApiResult<(Vec<StyleId>, WorkKind)> {
    let mut styles = Vec::with_capacity(named.len());
    let mut kind = wanted;
    for text in named {
        let style = find_style(app, text).await?.ok_or_else(|| {
            let message = format!("There is no style '{text}'");
            ApiError::refused(ReturnCode::BadRequest, message)
        })?;
        let expected = *kind.get_or_insert(style.kind);
        if style.kind != expected {
            let (is, wanted) = (style.kind.name(), expected.name());
            let message = format!("'{text}' is a style for {is}, not for {wanted}");
            return Err(ApiError::refused(ReturnCode::StyleMismatch, message));
        }
        if !styles.contains(&style.id) {
            styles.push(style.id);
        }
    }
    let kind = kind.ok_or_else(|| ApiError::Internal("a collection of nothing".to_owned()))?;
    Ok((styles, kind))
}

/// By id, else by name.
async fn find_style(app: &App, text: &str) -> ApiResult<Option<Style>> {
    if let Ok(id) = text.parse::<StyleId>()
        && let Some(style) = app.store.find_style(id).await?
    {
        return Ok(Some(style));
    }
    Ok(styles::style_named(&app.store, text).await?)
}

/// `PATCH /collections/{id}`
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
    Checked(change): Checked<CollectionChange>,
) -> ApiResult<Json<Saved<CollectionId>>> {
    let collection = find(&app, &id).await?;
    let account = app.accounts.by_key(&key.require()?).await?;
    check_not_anonymous(&account)?;
    if collection.owner != account.user.id {
        let message = "This collection belongs to somebody else";
        return Err(ApiError::refused(ReturnCode::Forbidden, message));
    }
    check_stays(&account)?;
    let stored = plan(&app, &collection, change).await?;
    let id = collection.id;
    let this = Arc::clone(&app);
    app.complete(async move {
        let updated = this.store.update_collection(id, &stored).await;
        updated.map_err(|error| gone(error, id))?;
        this.styles.changed();
        Ok(())
    })
    .await?;
    Ok(Json(Saved::new(id, Some(Vec::new()))))
}

/// What a change makes of a collection, if everything agrees to it.
async fn plan(
    app: &App,
    collection: &Collection,
    change: CollectionChange,
) -> ApiResult<ordu_store::CollectionChange> {
    check_words(app, change.name.iter().chain(&change.info))?;
    let name = match &change.name {
        Some(name) => Some(readable("name", name)?),
        None => None,
    };
    if let Some(name) = &name {
        check_name(app, name, collection.owner, Some(collection.id)).await?;
    }
    let styles = match &change.styles {
        Some(named) => {
            rules::check_members(named.len())?;
            Some(find_styles(app, named, Some(collection.kind)).await?.0)
        }
        None => None,
    };
    Ok(ordu_store::CollectionChange {
        name,
        info: change.info.as_deref().map(text::clean),
        public: change.public,
        styles,
    })
}

/// `DELETE /collections/{id}`: its styles stay.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let collection = find(&app, &id).await?;
    let account = app.accounts.by_key(&key.require()?).await?;
    check_not_anonymous(&account)?;
    check_keeper(&app, &account, collection.owner)?;
    let id = collection.id;
    let deed = (account.user.id != collection.owner).then(|| {
        Deed::new(account.user.id, "collection.delete", "collection", id)
            .change(json!({ "name": collection.name }), json!({}))
    });
    let this = Arc::clone(&app);
    app.complete(async move {
        let deleted = this.recorded(deed, this.store.delete_collection(id)).await;
        deleted.map_err(|error| gone(error, id))?;
        this.styles.changed();
        Ok(())
    })
    .await?;
    Ok(Json(json!({ "message": "OK" })))
}

/// Somebody was faster.
fn gone(error: ordu_store::Error, id: CollectionId) -> ApiError {
    match error {
        ordu_store::Error::Taken => name_taken(),
        ordu_store::Error::NotFound => missing(&id.to_string()),
        other => other.into(),
    }
}
