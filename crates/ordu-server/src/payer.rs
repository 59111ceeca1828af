//! Who pays for a request: the account behind a key, or behind a shared key.
//!
//! For every kind of work. [`resolve`] comes where the protocol asks who it is, [`Payer::promise`]
//! and [`Payer::check_limits`] once the price is known.
//!
//! # Source
//! `generation.md` § 1.3, § 3.3 steps 6 and 36; `community.md` § 3.3.

use std::sync::Arc;

use ordu_api::{ApiKey, RequestId, ReturnCode, SharedKeyId, UserId};
use ordu_core::horde::Work;
use ordu_core::shared_key::{self, Downgrade, Use};
use ordu_core::standing::Service;
use ordu_core::{Kudos, Refusal};

use crate::accounts::Account;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::shared_keys::{Known, Promise, Short};
use crate::styles::Styled;

/// Who pays, through what, and how well that is served.
#[derive(Debug, Clone)]
pub(crate) struct Payer {
    /// Whose request it is.
    pub(crate) account: Arc<Account>,
    /// Where it waits.
    pub(crate) service: Service,
    through: Option<Through>,
}

/// The shared key that is spent from.
#[derive(Debug, Clone)]
struct Through {
    known: Known,
    used: Use,
}

/// Who pays when `key` is presented for a request; a style's own shared key goes before.
///
/// # Errors
/// `InvalidAPIKey`; `SharedKeyEmpty`, `SharedKeyExpired`, `SharedKeyAssignedStyles`.
pub(crate) async fn resolve(
    app: &App,
    key: &ApiKey,
    downgrade: Downgrade,
    styled: Option<&Styled>,
) -> ApiResult<Payer> {
    if let Some(styled) = styled
        && let Some(payer) = styled.payer(app).await?
    {
        return Ok(payer);
    }
    let shared = match key.reveal().parse::<SharedKeyId>() {
        Ok(id) => app.accounts.shared_keys().find(id).await?,
        Err(_) => None,
    };
    match shared {
        Some(known) => resolve_shared(app, known, downgrade).await,
        None => of_account(app, key).await,
    }
}

/// Who pays where shared keys are not accepted: the account of the key.
///
/// # Errors
/// `InvalidAPIKey`.
pub(crate) async fn of_account(app: &App, key: &ApiKey) -> ApiResult<Payer> {
    Ok(Payer {
        account: app.accounts.by_key(key).await?,
        service: Service::Full,
        through: None,
    })
}

async fn resolve_shared(app: &App, known: Known, downgrade: Downgrade) -> ApiResult<Payer> {
    let terms = known.key.terms;
    if terms.is_empty() && downgrade == Downgrade::Allowed {
        // The anonymous account pays, but the request still goes when the key does.
        return Ok(Payer {
            account: owner(app, UserId::ANONYMOUS).await?,
            service: Service::Downgraded,
            through: Some(Through {
                known,
                used: Use::Direct,
            }),
        });
    }
    terms.check(app.clock.now())?;
    if known.key.attached {
        let message = "This shared key belongs to a style: ask with the style instead";
        return Err(ApiError::refused(
            ReturnCode::SharedKeyAssignedStyles,
            message,
        ));
    }
    Payer::through(app, known, Use::Direct).await
}

/// Who pays for a request whose style carries this key; nobody if the key is of no use.
pub(crate) async fn by_style(app: &App, key: SharedKeyId) -> ApiResult<Option<Payer>> {
    let known = app.accounts.shared_keys().find(key).await?;
    let now = app.clock.now();
    match known.filter(|known| known.key.terms.check(now).is_ok()) {
        Some(known) => {
            let payer = Payer::through(app, known, Use::ByStyle).await?;
            // An account that is about to be deleted asks for nothing, and pays for nobody.
            Ok(Some(payer).filter(|payer| !payer.account.user.roles.deleted))
        }
        None => Ok(None),
    }
}

async fn owner(app: &App, id: UserId) -> ApiResult<Arc<Account>> {
    let account = app.accounts.by_id(id).await?;
    account.ok_or_else(|| {
        let message = "The owner of this shared key is gone";
        ApiError::refused(ReturnCode::InvalidAPIKey, message)
    })
}

impl Payer {
    async fn through(app: &App, known: Known, used: Use) -> ApiResult<Self> {
        Ok(Self {
            account: owner(app, known.key.owner).await?,
            service: Service::Full,
            through: Some(Through { known, used }),
        })
    }

    /// The shared key that is spent from.
    pub(crate) fn shared_key(&self) -> Option<SharedKeyId> {
        self.through.as_ref().map(|through| through.known.key.id)
    }

    /// Promises what a request may cost of the shared key's budget. Where that does not suffice,
    /// the request waits behind all others if that is allowed.
    ///
    /// # Errors
    /// `SharedKeyInsufficientKudos`.
    pub(crate) fn promise(
        &mut self,
        app: &App,
        request: RequestId,
        most_cost: Kudos,
        downgrade: Downgrade,
    ) -> Result<Option<Promise>, Refusal> {
        let Some(through) = &self.through else {
            return Ok(None);
        };
        let keys = app.accounts.shared_keys();
        let promise = keys
            .promise(&through.known, request, most_cost, downgrade)
            .map_err(|Short(left)| shared_key::insufficient(most_cost, left))?;
        if !promise.suffices() {
            self.service = Service::Downgraded;
        }
        Ok(Some(promise))
    }

    /// Checks a job against the limits of the shared key, unless a style brought the key.
    ///
    /// # Errors
    /// `BadRequest`.
    pub(crate) fn check_limits(&self, work: &Work) -> Result<(), Refusal> {
        match &self.through {
            Some(through) if through.used == Use::Direct => {
                through.known.key.terms.check_work(work)
            }
            _ => Ok(()),
        }
    }
}
