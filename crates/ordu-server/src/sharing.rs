//! The public dataset: copies of results that stay, each with a description.
//!
//! # Source
//! `generation.md` § 9.3.

use ordu_api::UserId;
use ordu_core::horde::{Delivery, Effect, Requester, Settlement, Work};
use ordu_core::{Role, Standing};
use serde_json::{Value, json};

use crate::app::App;
use crate::blobs::{SHARED, result_name};

/// What a request says about sharing its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// It cannot be.
    Never,
    /// It asks for it.
    Wanted,
    /// It says nothing.
    Unasked,
}

impl App {
    /// Whether results of a request go to the public dataset.
    ///
    /// Never without the operator's consent, never what schools ask for; always what nobody signed
    /// for.
    pub(crate) fn shares(&self, sharing: Sharing, standing: &Standing) -> bool {
        let wanted = match sharing {
            Sharing::Never => false,
            Sharing::Wanted => true,
            Sharing::Unasked => standing.user == UserId::ANONYMOUS,
        };
        self.config.share_results && wanted && !standing.roles.has(Role::Education)
    }

    /// Keeps a copy of a result that was just settled, if it is a shared one.
    pub(crate) async fn share(&self, settlement: &Settlement) {
        let Effect::Delivered(delivery) = &settlement.effect else {
            return;
        };
        if !self.config.share_results {
            return;
        }
        let Some(description) = self.description(settlement, delivery) else {
            return;
        };
        let name = result_name(settlement.job);
        let copied = async {
            self.blobs.copy(&name, &format!("{SHARED}/{name}")).await?;
            let sidecar = format!("{SHARED}/{}.json", settlement.job);
            let text = description.to_string();
            self.blobs.put(&sidecar, text.into()).await
        };
        if let Err(error) = copied.await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                job.id = %settlement.job,
                "a result could not be shared"
            );
        }
    }

    /// What is said of a result; `None` if it is not shared.
    fn description(&self, settlement: &Settlement, delivery: &Delivery) -> Option<Value> {
        let live = self.live();
        let request = live.horde.request(settlement.request)?;
        let job = live.horde.job(settlement.job)?;
        let Work::Image(spec) = &request.work else {
            return None;
        };
        let remarks = &delivery.delivered.metadata;
        let is_criminal = remarks.iter().any(|remark| remark.value == "csam");
        (spec.shared && !is_criminal).then(|| {
            json!({
                "prompt": spec.prompt,
                "width": spec.width,
                "height": spec.height,
                "steps": spec.steps,
                "sampler": spec.sampler_name,
                "cfg": spec.cfg_scale,
                "karras": spec.karras,
                "pp": spec.post_processing,
                "set": settlement.request,
                "user_type": user_type(request.requester),
                "seed": delivery.delivered.seed,
                "model": job.model,
                "censored": delivery.delivered.censored,
            })
        })
    }
}

fn user_type(requester: Requester) -> &'static str {
    if requester.user == UserId::ANONYMOUS {
        "anon"
    } else if requester.roles.has(Role::Pseudonymous) {
        "pseudonymous"
    } else {
        "oauth"
    }
}
