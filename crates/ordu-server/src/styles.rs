//! The style that a request asks for: found, chosen, applied, rewarded.
//!
//! Applying comes before everything else; [`reward`] belongs into the request's activation,
//! [`Styled::note_use`] after it.
//!
//! # Source
//! `generation.md` § 3.6; `community.md` § 8.4, § 8.5.

use std::sync::Arc;

use ordu_api::image::ImageRequest;
use ordu_api::text::TextRequest;
use ordu_api::worker::WorkKind;
use ordu_api::{CollectionId, ReturnCode, UserId};
use ordu_core::ledger::{Entry, Reason};
use ordu_core::style::{Category, ImageStyle, Name, REWARD, TextStyle};
use ordu_core::{Millis, Timestamp};
use ordu_store::{Collection, Store, Style};
use quick_cache::sync::Cache;
use rand::RngExt as _;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::payer::{self, Payer};

/// How long what a name led to counts as the truth.
const FRESH_FOR: Millis = Millis::from_seconds(10);

/// How many names are kept at hand.
const KEPT: usize = 10_000;

/// What names and ids led to lately, so that a style in use costs no round trip.
pub(crate) struct Styles {
    at_hand: Cache<String, (Found, Timestamp)>,
}

/// What a name leads to.
#[derive(Clone)]
enum Found {
    Style(Arc<Style>),
    Collection(Arc<Collection>),
}

/// A style that was chosen for a request.
#[derive(Debug, Clone)]
pub(crate) struct Styled {
    style: Arc<Style>,
    collection: Option<CollectionId>,
}

impl Default for Styles {
    fn default() -> Self {
        Self {
            at_hand: Cache::new(KEPT),
        }
    }
}

/// The style that `text` names, by id or name; of a collection any one of its styles.
///
/// # Errors
/// `StyleNotFound`; `StyleMismatch` for a style of another kind; `BadRequest` for a collection
/// without styles.
async fn choose(app: &App, text: &str, kind: WorkKind) -> ApiResult<Styled> {
    match find(app, text).await?.ok_or_else(|| missing(text))? {
        Found::Style(style) => {
            check_kind(style.kind, kind)?;
            Ok(Styled {
                style,
                collection: None,
            })
        }
        Found::Collection(collection) => {
            check_kind(collection.kind, kind)?;
            choose_from(app, &collection).await
        }
    }
}

async fn choose_from(app: &App, collection: &Collection) -> ApiResult<Styled> {
    let empty = || {
        let message = "There is no style left in this collection";
        ApiError::refused(ReturnCode::BadRequest, message)
    };
    if collection.styles.is_empty() {
        return Err(empty());
    }
    let place = app.live().dice.random_range(0..collection.styles.len());
    let chosen = collection.styles.get(place).ok_or_else(empty)?.to_string();
    match find(app, &chosen).await? {
        Some(Found::Style(style)) => Ok(Styled {
            style,
            collection: Some(collection.id),
        }),
        _ => Err(empty()),
    }
}

async fn find(app: &App, text: &str) -> ApiResult<Option<Found>> {
    let now = app.clock.now();
    let at_hand = &app.styles.at_hand;
    if let Some((found, read)) = at_hand.get(text)
        && now.since(read) < FRESH_FOR
    {
        return Ok(Some(found));
    }
    let found = look_up(&app.store, text).await?;
    if let Some(found) = &found {
        at_hand.insert(text.to_owned(), (found.clone(), now));
    }
    Ok(found)
}

/// By id a style, else a collection; then the same by name.
async fn look_up(store: &Store, text: &str) -> Result<Option<Found>, ordu_store::Error> {
    let style = |style| Found::Style(Arc::new(style));
    let collection = |collection| Found::Collection(Arc::new(collection));
    if let Ok(id) = text.parse()
        && let Some(found) = store.find_style(id).await?
    {
        return Ok(Some(style(found)));
    }
    if let Ok(id) = text.parse()
        && let Some(found) = store.find_collection(id).await?
    {
        return Ok(Some(collection(found)));
    }
    let wanted = Name::parse(text);
    if wanted.category != Some(Category::Collection)
        && let Some(found) = store.find_style_named(&wanted.name, wanted.owner).await?
    {
        return Ok(Some(style(found)));
    }
    if wanted.category == Some(Category::Style) {
        return Ok(None);
    }
    let found = store
        .find_collection_named(&wanted.name, wanted.owner)
        .await?;
    Ok(found.map(collection))
}

fn missing(text: &str) -> ApiError {
    let message = format!("There is no style or collection `{text}`");
    ApiError::refused(ReturnCode::StyleNotFound, message)
}

fn check_kind(is: WorkKind, wanted: WorkKind) -> ApiResult<()> {
    if is == wanted {
        return Ok(());
    }
    let message = format!(
        "This is a style for {}, not for {}",
        is.name(),
        wanted.name()
    );
    Err(ApiError::refused(ReturnCode::StyleMismatch, message))
}

/// Makes the request one for the style that it asks for, if it asks for one.
pub(crate) async fn apply_to_image(
    app: &App,
    request: &mut ImageRequest,
) -> ApiResult<Option<Styled>> {
    let Some(text) = &request.style else {
        return Ok(None);
    };
    let styled = choose(app, text, WorkKind::Image).await?;
    let style = ImageStyle {
        prompt: styled.style.prompt.clone(),
        params: styled.params()?,
        models: styled.style.models.clone(),
    };
    style.apply(request);
    Ok(Some(styled))
}

/// The same for a text.
pub(crate) async fn apply_to_text(
    app: &App,
    request: &mut TextRequest,
) -> ApiResult<Option<Styled>> {
    let Some(text) = &request.style else {
        return Ok(None);
    };
    let styled = choose(app, text, WorkKind::Text).await?;
    let style = TextStyle {
        prompt: styled.style.prompt.clone(),
        params: styled.params()?,
        models: styled.style.models.clone(),
    };
    style.apply(request);
    Ok(Some(styled))
}

/// The reward for whoever is thanked; part of the request's activation.
pub(crate) const fn reward(owner: UserId) -> Entry {
    Entry::reward(owner, REWARD, Reason::Style)
}

impl Styled {
    fn params<T: DeserializeOwned>(&self) -> ApiResult<T> {
        serde_json::from_str(&self.style.params).map_err(|error| {
            ApiError::Internal(format!("style {} cannot be read: {error}", self.style.id))
        })
    }

    /// Who pays because the style carries a shared key that can be used, whoever asks.
    pub(crate) async fn payer(&self, app: &App) -> ApiResult<Option<Payer>> {
        match self.style.shared_key {
            Some(key) => payer::by_style(app, key).await,
            None => Ok(None),
        }
    }

    /// Whose style it is, if its use by `requester` earns a reward: never one's own.
    pub(crate) fn rewarded(&self, requester: UserId) -> Option<UserId> {
        Some(self.style.owner).filter(|owner| *owner != requester)
    }

    /// The request waits: the style was used.
    pub(crate) fn note_use(&self, app: &App) {
        app.store.style_used_later(self.style.id, self.collection);
    }
}
