//! Styles: listed, made, read, changed, deleted.
//!
//! Handlers know the kind of a style by the type of its parameters.
//!
//! # Source
//! `community.md` § 8.2–8.4; `observed.md` 26, 27, 33, 34.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use ordu_api::image::Warning;
use ordu_api::style::{ExampleView, Saved, StyleChange, StyleForm, StyleView};
use ordu_api::worker::WorkKind;
use ordu_api::{ReturnCode, SharedKeyId, StyleId, UserId};
use ordu_core::style::rules::{self, StyleRules, Template};
use ordu_core::{Kudos, Refusal};
use ordu_store::{Example, NewStyle, Style, StyleFilter, StyleSort};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::shared_key;
use super::user_edit::readable;
use crate::accounts::Account;
use crate::app::App;
use crate::audit::Deed;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Checked, OptionalKey};
use crate::{styles, text};

/// Which styles to list.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    sort: Option<String>,
    page: Option<String>,
    tag: Option<String>,
    model: Option<String>,
}

/// `GET /styles/{kind}`: the public ones.
pub(crate) async fn list<P: StyleRules>(
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
) -> ApiResult<Json<Vec<StyleView>>> {
    let filter = StyleFilter {
        kind: P::KIND,
        sort: read_sort(wanted.sort.as_deref())?,
        page: read_page(wanted.page.as_deref())?,
        tag: wanted.tag,
        model: wanted.model,
    };
    let words = filter.tag.iter().chain(&filter.model);
    if words.into_iter().any(|word| word.contains('\0')) {
        return Ok(Json(Vec::new()));
    }
    let found = app.store.list_styles(&filter).await?;
    show_all::<P>(&app, found).await.map(Json)
}

/// What comes first in a list.
pub(super) fn read_sort(sort: Option<&str>) -> ApiResult<StyleSort> {
    match sort {
        None | Some("popular") => Ok(StyleSort::Popular),
        Some("age") => Ok(StyleSort::Age),
        Some(other) => {
            let message = format!("`sort` is '{other}': use popular or age");
            Err(ApiError::refused(ReturnCode::BadRequest, message))
        }
    }
}

/// Pages are counted from 1 by clients, and from 0 here; there is none before the first.
pub(super) fn read_page(page: Option<&str>) -> ApiResult<u32> {
    let page = page.unwrap_or("1");
    let number: i64 = page
        .parse()
        .map_err(|_| ApiError::field("page", format!("'{page}' is no number of a page")))?;
    Ok(u32::try_from(number.saturating_sub(1).max(0)).unwrap_or(u32::MAX))
}

/// `GET /styles/{kind}/{id}`
pub(crate) async fn by_id<P: StyleRules>(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> ApiResult<Json<StyleView>> {
    let found = find(&app, &id).await?;
    show::<P>(&app, found).await
}

/// `GET /styles/{kind}_by_name/{name}`
pub(crate) async fn by_name<P: StyleRules>(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> ApiResult<Json<StyleView>> {
    let found = styles::style_named(&app.store, &name).await?;
    show::<P>(&app, found.ok_or_else(|| missing(&name))?).await
}

async fn show<P: StyleRules>(app: &App, style: Style) -> ApiResult<Json<StyleView>> {
    check_kind::<P>(&style, ReturnCode::StyleGetMistmatch)?;
    let name = style.name.clone();
    let shown = show_all::<P>(app, vec![style]).await?;
    let first = shown.into_iter().next();
    first.map(Json).ok_or_else(|| missing(&name))
}

/// The style of this id.
pub(super) async fn find(app: &App, id: &str) -> ApiResult<Style> {
    let parsed: StyleId = id.parse().map_err(|_| missing(id))?;
    let found = app.store.find_style(parsed).await?;
    found.ok_or_else(|| missing(id))
}

pub(super) fn missing(style: &str) -> ApiError {
    let message = format!("There is no style '{style}'");
    ApiError::refused(ReturnCode::StyleNotFound, message)
}

fn check_kind<P: StyleRules>(style: &Style, code: ReturnCode) -> ApiResult<()> {
    if style.kind == P::KIND {
        return Ok(());
    }
    let (is, wanted) = (style.kind.name(), P::KIND.name());
    let message = format!("This is a style for {is}, not for {wanted}");
    Err(ApiError::refused(code, message))
}

async fn show_all<P: StyleRules>(app: &App, found: Vec<Style>) -> ApiResult<Vec<StyleView>> {
    let mut examples = if P::KIND == WorkKind::Image && !found.is_empty() {
        let ids: Vec<StyleId> = found.iter().map(|style| style.id).collect();
        app.store.list_examples(&ids).await?
    } else {
        BTreeMap::new()
    };
    let mut views = Vec::with_capacity(found.len());
    for style in found {
        let examples = examples.remove(&style.id).unwrap_or_default();
        views.push(view::<P>(app, style, examples).await?);
    }
    Ok(views)
}

async fn view<P: StyleRules>(
    app: &App,
    style: Style,
    examples: Vec<Example>,
) -> ApiResult<StyleView> {
    let is_for_pictures = P::KIND == WorkKind::Image;
    let creator = app.accounts.by_id(style.owner).await?;
    let creator = creator.map(|account| account.alias()).unwrap_or_default();
    let key = match style.shared_key.filter(|_| is_for_pictures) {
        Some(key) => app.accounts.shared_keys().find(key).await?,
        None => None,
    };
    let shared_key = match key {
        Some(known) => {
            let owner = app.accounts.by_id(known.key.owner).await?;
            owner.map(|owner| shared_key::view(&known.key, owner.alias()))
        }
        None => None,
    };
    let params: P = read_params(&style)?;
    let examples = examples.into_iter().map(|example| ExampleView {
        url: example.url,
        primary: example.primary,
        id: example.id,
    });
    Ok(StyleView {
        id: style.id,
        use_count: style.use_count,
        creator,
        examples: is_for_pictures.then(|| examples.collect()),
        shared_key,
        name: style.name,
        info: style.info,
        prompt: style.prompt,
        params: params.shown(),
        public: style.public,
        nsfw: style.nsfw,
        tags: style.tags,
        models: style.models,
    })
}

fn read_params<P: StyleRules>(style: &Style) -> ApiResult<P> {
    serde_json::from_str(&style.params)
        .map_err(|error| ApiError::Internal(format!("style {} cannot be read: {error}", style.id)))
}

fn write_params<P: StyleRules>(params: &P) -> ApiResult<String> {
    serde_json::to_string(params).map_err(|error| ApiError::Internal(error.to_string()))
}

/// `POST /styles/{kind}`
pub(crate) async fn create<P: StyleRules>(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Checked(form): Checked<StyleForm<P>>,
) -> ApiResult<Json<Saved<StyleId>>> {
    rules::check_counts(form.models.len(), form.tags.len())?;
    let account = app.accounts.by_key(&key.require()?).await?;
    check_maker(&account)?;
    let words = [&form.name, &form.info].into_iter();
    check_words(&app, words.chain(&form.tags).chain(&form.models))?;
    let owner = account.user.id;
    let name = readable("name", &form.name)?;
    check_name(&app, &name, owner, None).await?;
    let shared_key = match &form.sharedkey {
        Some(id) => Some(usable_key(&app, id, owner).await?),
        None => None,
    };
    let template = Template {
        prompt: &form.prompt,
        params: &form.params,
        models: &form.models,
    };
    let warnings = check_template(&app, &template, &account)?;
    let new = NewStyle {
        id: StyleId::from_uuid(Uuid::new_v4()),
        owner,
        kind: P::KIND,
        name,
        info: text::clean(&form.info),
        params: write_params(&form.params)?,
        prompt: form.prompt,
        models: form.models,
        tags: form.tags,
        public: form.public,
        nsfw: form.nsfw,
        shared_key,
        created: app.clock.now(),
    };
    let id = new.id;
    let this = Arc::clone(&app);
    app.complete(async move {
        let inserted = this.store.insert_style(&new).await;
        inserted.map_err(|error| gone(error, id))?;
        this.style_changed(new.shared_key);
        Ok(())
    })
    .await?;
    Ok(Json(Saved::new(id, warnings)))
}

/// Who may make styles, or change those that it made.
fn check_maker(account: &Account) -> ApiResult<()> {
    rules::check_maker(&account.standing(Kudos::ZERO))?;
    check_stays(account)
}

/// Who is about to leave makes nothing more.
pub(super) fn check_stays(account: &Account) -> ApiResult<()> {
    if account.user.roles.deleted {
        let message = "This account is about to be deleted";
        return Err(ApiError::refused(ReturnCode::DeletedUser, message));
    }
    Ok(())
}

/// Words that everybody sees.
pub(super) fn check_words<'a>(
    app: &App,
    words: impl IntoIterator<Item = &'a String>,
) -> ApiResult<()> {
    for word in words {
        app.check_text(word, ReturnCode::BadRequest)?;
    }
    Ok(())
}

/// A name is used once by its owner, whatever for.
async fn check_name(
    app: &App,
    name: &str,
    owner: UserId,
    except: Option<StyleId>,
) -> ApiResult<()> {
    let named = app.store.find_style_named(name, Some(owner)).await?;
    match named {
        Some(style) if Some(style.id) != except => Err(name_taken()),
        _ => Ok(()),
    }
}

fn name_taken() -> ApiError {
    let message = "You have a style of this name, choose another one";
    ApiError::refused(ReturnCode::BadRequest, message)
}

/// Somebody deleted it meanwhile, or was faster.
fn gone(error: ordu_store::Error, id: StyleId) -> ApiError {
    match error {
        ordu_store::Error::Taken => name_taken(),
        ordu_store::Error::NotFound => missing(&id.to_string()),
        other => other.into(),
    }
}

/// The shared key of this id, if it is the owner's own and something is left of it.
async fn usable_key(app: &App, id: &str, owner: UserId) -> ApiResult<SharedKeyId> {
    let refuse = |code, message: &str| Err(ApiError::refused(code, message));
    let known = match id.parse::<SharedKeyId>() {
        Ok(id) => app.store.find_shared_key(id).await?,
        Err(_) => None,
    };
    let Some(key) = known.filter(|key| key.owner == owner) else {
        let message = "None of your shared keys has this id, name your own in `sharedkey`";
        return refuse(ReturnCode::SharedKeyInvalid, message);
    };
    if key.terms.is_empty() {
        let message = "Nothing is left of this shared key's kudos, add some first";
        return refuse(ReturnCode::SharedKeyEmptyNamed, message);
    }
    if key.terms.is_expired(app.clock.now()) {
        let message = "This shared key has expired, give it more time first";
        return refuse(ReturnCode::SharedKeyExpiredNamed, message);
    }
    Ok(key.id)
}

fn check_template<P: StyleRules>(
    app: &App,
    template: &Template<'_, P>,
    maker: &Account,
) -> Result<Option<Vec<Warning>>, Refusal> {
    P::check(template, &maker.standing(Kudos::ZERO), &app.reference())
}

/// `PATCH /styles/{kind}/{id}`
pub(crate) async fn update<P: StyleRules>(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
    Checked(change): Checked<StyleChange<P>>,
) -> ApiResult<Json<Saved<StyleId>>> {
    let style = find(&app, &id).await?;
    check_kind::<P>(&style, ReturnCode::StyleMismatch)?;
    let account = app.accounts.by_key(&key.require()?).await?;
    if style.owner != account.user.id {
        let message = "This style belongs to somebody else";
        return Err(ApiError::refused(ReturnCode::Forbidden, message));
    }
    check_maker(&account)?;
    let (stored, warnings) = plan::<P>(&app, &style, change, &account).await?;
    let id = style.id;
    let this = Arc::clone(&app);
    app.complete(async move {
        let updated = this.store.update_style(id, &stored).await;
        updated.map_err(|error| gone(error, id))?;
        this.style_changed(style.shared_key);
        this.style_changed(stored.shared_key.flatten());
        Ok(())
    })
    .await?;
    Ok(Json(Saved::new(id, warnings)))
}

/// What a change makes of a style, if everything agrees to it.
async fn plan<P: StyleRules>(
    app: &App,
    style: &Style,
    change: StyleChange<P>,
    owner: &Account,
) -> ApiResult<(ordu_store::StyleChange, Option<Vec<Warning>>)> {
    let models = change.models.filter(|models| !models.is_empty());
    let named = models.as_ref().unwrap_or(&style.models);
    let tags = change.tags.as_ref().unwrap_or(&style.tags);
    rules::check_counts(named.len(), tags.len())?;
    let words = change.name.iter().chain(&change.info);
    let words = words.chain(change.tags.iter().flatten());
    check_words(app, words.chain(models.iter().flatten()))?;
    let name = match &change.name {
        Some(name) => Some(readable("name", name)?),
        None => None,
    };
    if let Some(name) = &name {
        check_name(app, name, style.owner, Some(style.id)).await?;
    }
    let shared_key = match change.sharedkey.as_deref() {
        None => None,
        Some("") => Some(None),
        Some(id) => Some(Some(usable_key(app, id, style.owner).await?)),
    };
    let params = match &change.params {
        Some(params) => params.clone(),
        None => read_params(style)?,
    };
    let template = Template {
        prompt: change.prompt.as_ref().unwrap_or(&style.prompt),
        params: &params,
        models: named,
    };
    let warnings = check_template(app, &template, owner)?;
    let stored = ordu_store::StyleChange {
        name,
        info: change.info.as_deref().map(text::clean),
        params: change.params.as_ref().map(write_params).transpose()?,
        prompt: change.prompt,
        models,
        tags: change.tags,
        public: change.public,
        nsfw: change.nsfw,
        shared_key,
    };
    Ok((stored, warnings))
}

/// `DELETE /styles/{kind}/{id}`: also out of collections.
pub(crate) async fn delete<P: StyleRules>(
    State(app): State<Arc<App>>,
    key: OptionalKey,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let style = find(&app, &id).await?;
    check_kind::<P>(&style, ReturnCode::StyleMismatch)?;
    let account = app.accounts.by_key(&key.require()?).await?;
    check_not_anonymous(&account)?;
    check_keeper(&app, &account, style.owner)?;
    let deed = (account.user.id != style.owner).then(|| {
        Deed::new(account.user.id, "style.delete", "style", style.id)
            .change(json!({ "name": style.name }), json!({}))
    });
    let this = Arc::clone(&app);
    app.complete(async move {
        let deleted = this.recorded(deed, this.store.delete_style(style.id)).await;
        deleted.map_err(|error| gone(error, style.id))?;
        this.style_changed(style.shared_key);
        Ok(())
    })
    .await?;
    Ok(Json(json!({ "message": "OK" })))
}

/// Nobody can say which anonymous user made a thing.
pub(super) fn check_not_anonymous(account: &Account) -> ApiResult<()> {
    if account.user.id == UserId::ANONYMOUS {
        let message = "Anonymous users have no styles and collections: make an account first";
        return Err(ApiError::refused(ReturnCode::StylesAnonForbidden, message));
    }
    Ok(())
}

/// Owners and those who keep order.
pub(super) fn check_keeper(app: &App, account: &Account, owner: UserId) -> ApiResult<()> {
    let caller = account.user.id;
    if caller == owner || app.is_moderator(account) {
        return Ok(());
    }
    let message = "This belongs to somebody else";
    Err(ApiError::refused(ReturnCode::Forbidden, message))
}

impl App {
    /// A style is another one from now on, and so is the key that it has or had.
    fn style_changed(&self, key: Option<SharedKeyId>) {
        if let Some(key) = key {
            self.accounts.shared_keys().forget(key);
        }
        self.styles.changed();
    }
}
