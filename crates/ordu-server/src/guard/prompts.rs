//! What becomes of a prompt, and of who sent it.
//!
//! # Source
//! `generation.md` § 8.3, § 8.4.

use std::net::IpAddr;

use ordu_api::image::ImageRequest;
use ordu_api::text::TextRequest;
use ordu_core::Role;
use ordu_core::filter::{Case, Ruling};
use ordu_core::suspicion::{Reason, Suspect};

use crate::accounts::Account;
use crate::app::App;
use crate::error::ApiResult;
use crate::guard::addresses::Asker;
use crate::guard::notices::{News, NoticeKind};

impl App {
    /// The prompt of a picture as it may be used: as it is, or rewritten.
    ///
    /// # Errors
    /// `CorruptPrompt`; who sent it may be suspected and shut out for a while.
    pub(crate) async fn admit_image_prompt(
        &self,
        asker: Asker<'_>,
        request: &ImageRequest,
    ) -> ApiResult<Option<String>> {
        if !self.guard.filters.is_enabled() {
            return Ok(None);
        }
        let roles = asker.account.roles();
        let case = Case {
            prompt: &request.prompt,
            may_rewrite: request.replacement_filter || roles.has(Role::Education),
            is_flagged: roles.has(Role::Flagged),
            is_nsfw_model: self.names_nsfw_model(&request.models),
        };
        match self.guard.filters.set().rule_image(&case) {
            Ruling::Clean => Ok(None),
            Ruling::Rewritten(prompt) => Ok(Some(prompt)),
            Ruling::Refused(refusal) => Err(refusal.into()),
            Ruling::Corrupt(refusal) => {
                self.punish_corrupt_prompt(asker, &request.prompt).await;
                Err(refusal.into())
            }
        }
    }

    /// The prompt of a text as it may be used: as it is, or rewritten.
    ///
    /// # Errors
    /// `CorruptPrompt` if nothing is left of it; nobody is suspected.
    pub(crate) fn admit_text_prompt(
        &self,
        asker: Asker<'_>,
        request: &TextRequest,
    ) -> ApiResult<Option<String>> {
        if !self.guard.filters.is_enabled() {
            return Ok(None);
        }
        let reference = self.reference();
        let texts = reference.text();
        let is_nsfw = |name: &String| texts.find(name).is_some_and(|model| model.nsfw);
        let case = Case {
            prompt: &request.prompt,
            may_rewrite: true,
            is_flagged: asker.account.user.roles.flagged,
            is_nsfw_model: request.models.iter().any(is_nsfw),
        };
        match self.guard.filters.set().rule_text(&case) {
            Ruling::Clean => Ok(None),
            Ruling::Rewritten(prompt) => Ok(Some(prompt)),
            Ruling::Refused(refusal) | Ruling::Corrupt(refusal) => Err(refusal.into()),
        }
    }

    fn names_nsfw_model(&self, models: &[String]) -> bool {
        let reference = self.reference();
        let is_nsfw = |name: &String| reference.get(name).is_some_and(|model| model.nsfw);
        models.iter().any(is_nsfw)
    }

    async fn count_for_service(&self, account: &Account, proxy: IpAddr) {
        if self.guard.proxies.is_too_much(proxy, self.clock.now()) {
            let news = News {
                kind: NoticeKind::CorruptService,
                subject: format!("service {}", account.user.id),
                message: format!(
                    "The service of {} at {proxy} passes on many corrupt prompts",
                    account.alias()
                ),
                prompt: None,
            };
            self.tell_moderators(news).await;
        }
    }

    /// Moderators try things; everybody else is reported.
    async fn punish_corrupt_prompt(&self, asker: Asker<'_>, prompt: &str) {
        let user = &asker.account.user;
        if user.roles.moderator {
            return;
        }
        let suspect = Suspect {
            user: user.id,
            worker: None,
        };
        self.suspect(suspect, asker.account.roles(), Reason::CorruptPrompt)
            .await;
        if let Some(address) = asker.address {
            self.report_address(address).await;
        }
        if let Some(proxy) = asker.proxy {
            self.count_for_service(asker.account, proxy).await;
        }
        tracing::info!(user.id = %user.id, "a corrupt prompt was refused");
        let news = News {
            kind: NoticeKind::CorruptPrompt,
            subject: format!("user {}", user.id),
            message: format!("{} sent a corrupt prompt", asker.account.alias()),
            prompt: Some(prompt.to_owned()),
        };
        self.keep_evidence(news).await;
    }
}
