//! The style that a request asks for: found, chosen, applied, rewarded.
//!
//! Applying comes before everything else; [`reward`] belongs into the request's activation,
//! [`Styled::note_use`] after it. Whoever changes a style or a collection calls [`Styles::changed`].
//!
//! # Source
//! `generation.md` § 3.6; `community.md` § 8.4, § 8.5.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    at_hand: Cache<String, Look>,
    /// How often styles and collections were changed on this node.
    changes: AtomicU64,
}

/// What a look found, and when.
#[derive(Clone)]
struct Look {
    found: Found,
    at: Timestamp,
    /// [`Styles::changes`] before the look.
    changes: u64,
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
            changes: AtomicU64::new(0),
        }
    }
}

impl Styles {
    /// Forgets everything that was found before now, also what is being looked for.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    fn remembered(&self, text: &str, now: Timestamp) -> Option<Found> {
        let look = self.at_hand.get(text)?;
        let is_fresh = now.since(look.at) < FRESH_FOR && look.changes == self.changes();
        is_fresh.then_some(look.found)
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

/// Any of its styles, each as likely as the others. One that is gone meanwhile does not count.
async fn choose_from(app: &App, collection: &Collection) -> ApiResult<Styled> {
    let mut left = collection.styles.clone();
    while !left.is_empty() {
        let place = app.live().dice.random_range(0..left.len());
        let chosen = left.swap_remove(place).to_string();
        if let Some(Found::Style(style)) = find(app, &chosen).await? {
            return Ok(Styled {
                style,
                collection: Some(collection.id),
            });
        }
    }
    let message = "There is no style left in this collection";
    Err(ApiError::refused(ReturnCode::BadRequest, message))
}

async fn find(app: &App, text: &str) -> ApiResult<Option<Found>> {
    let now = app.clock.now();
    if let Some(found) = app.styles.remembered(text, now) {
        return Ok(Some(found));
    }
    let changes = app.styles.changes();
    let found = look_up(&app.store, text).await?;
    if let Some(found) = &found {
        let look = Look {
            found: found.clone(),
            at: now,
            changes,
        };
        app.styles.at_hand.insert(text.to_owned(), look);
    }
    Ok(found)
}

/// By id a style, else a collection; then the same by name.
async fn look_up(store: &Store, text: &str) -> Result<Option<Found>, ordu_store::Error> {
    if text.contains('\0') {
        return Ok(None);
    }
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
    if let Some(found) = style_named(store, text).await? {
        return Ok(Some(style(found)));
    }
    let found = collection_named(store, text).await?;
    Ok(found.map(collection))
}

/// The style of a name in any of its forms; who means a collection finds none.
pub(crate) async fn style_named(
    store: &Store,
    text: &str,
) -> Result<Option<Style>, ordu_store::Error> {
    let wanted = Name::parse(text);
    if text.contains('\0') || !wanted.is_in(Category::Style) {
        return Ok(None);
    }
    store.find_style_named(&wanted.name, wanted.owner).await
}

/// The collection of a name in any of its forms; who means a style finds none.
pub(crate) async fn collection_named(
    store: &Store,
    text: &str,
) -> Result<Option<Collection>, ordu_store::Error> {
    let wanted = Name::parse(text);
    if text.contains('\0') || !wanted.is_in(Category::Collection) {
        return Ok(None);
    }
    store
        .find_collection_named(&wanted.name, wanted.owner)
        .await
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
