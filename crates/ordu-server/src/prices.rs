//! What a request would cost, and why: the answer to a dry run.

use std::sync::Arc;

use ordu_api::image::{DryRun, PriceItem};
use ordu_core::Kudos;
use ordu_core::horde::Work;
use ordu_core::pricing::breakdown::Item;

use crate::app::App;
use crate::error::ApiResult;
use crate::routes::request::whole;
use crate::sources;

/// The price of work that nobody has begun.
pub(crate) async fn of(app: &App, mut work: Work) -> ApiResult<DryRun> {
    if let Work::Alchemy(spec) = &mut work {
        sources::measure(app, Arc::make_mut(spec)).await?;
    }
    let reference = app.reference();
    let price = work.full_price(&reference);
    let shown = whole(price);
    let rounding = Kudos::round(shown) - price;
    let items = work.breakdown(&reference).into_iter().map(item);
    let mut breakdown: Vec<PriceItem> = items.collect();
    if rounding != Kudos::ZERO {
        breakdown.push(PriceItem {
            name: "rounding".to_owned(),
            detail: None,
            kudos: rounding.as_f64(),
        });
    }
    Ok(DryRun {
        kudos: shown,
        breakdown,
    })
}

fn item(item: Item) -> PriceItem {
    PriceItem {
        name: item.name.to_owned(),
        detail: Some(item.detail).filter(|detail| !detail.is_empty()),
        kudos: item.amount.as_f64(),
    }
}
