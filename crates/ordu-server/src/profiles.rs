//! Accounts as they are shown: what is read for them, and how much of it whoever looks may see.
//!
//! # Source
//! `community.md` § 2.6, § 2.8.

use std::collections::{BTreeMap, BTreeSet};

use ordu_api::user::{
    ActiveGenerations, CountRecord, KudosDetails, MonthlyKudos, Records, StyleLink, UserView,
    WorkRecord,
};
use ordu_api::worker::WorkKind;
use ordu_api::{UserId, WorkerId};
use ordu_core::style::{Category, Name};
use ordu_store::{Bucket, OwnStyle, Record, Totals, User};

use crate::accounts::{alias_of, is_pseudonymous};
use crate::app::App;
use crate::dates;
use crate::error::ApiResult;

/// How much of an account is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum View {
    Public,
    Own,
    Moderator,
    Admin,
}

/// What is read for some accounts beside the accounts themselves.
pub(crate) struct Profiles {
    totals: BTreeMap<UserId, Totals>,
    styles: BTreeMap<UserId, Vec<OwnStyle>>,
    workers: BTreeMap<UserId, Vec<WorkerId>>,
}

impl Profiles {
    pub(crate) async fn read(app: &App, users: &[UserId]) -> ApiResult<Self> {
        let mut styles: BTreeMap<UserId, Vec<OwnStyle>> = BTreeMap::new();
        for style in app.store.list_styles_of(users).await? {
            styles.entry(style.owner).or_default().push(style);
        }
        let owners: BTreeSet<UserId> = users.iter().copied().collect();
        Ok(Self {
            totals: app.store.totals(users).await?,
            workers: app.registry.owned_by_each(&owners),
            styles,
        })
    }

    /// One of the accounts. Shared keys are left out.
    pub(crate) fn draw(&self, app: &App, user: &User, view: View) -> UserView {
        let totals = self.totals.get(&user.id).cloned().unwrap_or_default();
        let workers = self.workers.get(&user.id).cloned().unwrap_or_default();
        let shown = UserView {
            username: alias_of(user),
            id: user.id,
            kudos: user.spendable.as_f64(),
            concurrency: u32::try_from(user.concurrency).unwrap_or(0),
            worker_invited: u32::try_from(user.worker_invited).unwrap_or(0),
            moderator: user.roles.moderator,
            kudos_details: kudos_details(&totals),
            worker_count: workers.len() as u64,
            worker_ids: (view >= View::Own || user.public_workers).then_some(workers),
            styles: self.styles(user, view),
            trusted: user.roles.trusted,
            flagged: user.roles.flagged,
            service: user.roles.service,
            education: user.roles.education,
            customizer: user.roles.customizer,
            deleted: user.roles.deleted,
            pseudonymous: is_pseudonymous(user),
            account_age: app.clock.now().since(user.created).0 / 1000,
            records: records(&totals),
            ..UserView::default()
        };
        let shown = match view {
            View::Public => shown,
            View::Own | View::Moderator | View::Admin => with_own(app, user, shown),
        };
        match view {
            View::Public | View::Own => shown,
            View::Moderator => with_moderators(app, user, shown),
            View::Admin => UserView {
                proxy_passkey: user.proxy_passkey.clone(),
                ..with_moderators(app, user, shown)
            },
        }
    }

    /// The styles of an account; everybody sees only what everybody finds.
    fn styles(&self, user: &User, view: View) -> Vec<StyleLink> {
        let styles = self.styles.get(&user.id).into_iter().flatten();
        let shown = styles.filter(|style| style.public || view >= View::Own);
        let link = |style: &OwnStyle| StyleLink {
            name: Name::print(Category::Style, &alias_of(user), &style.name),
            id: style.id.to_string(),
            kind: style.kind.name().to_owned(),
        };
        shown.map(link).collect()
    }
}

/// What an account sees of itself.
fn with_own(app: &App, user: &User, shown: UserView) -> UserView {
    UserView {
        vpn: Some(user.roles.vpn),
        special: Some(user.roles.special),
        contact: user.contact.clone(),
        active_generations: Some(active_generations(app, user.id))
            .filter(|active| *active != ActiveGenerations::default()),
        ..shown
    }
}

/// What those see who keep order.
fn with_moderators(app: &App, user: &User, shown: UserView) -> UserView {
    UserView {
        evaluating_kudos: Some(user.escrow.as_f64()),
        monthly_kudos: Some(MonthlyKudos {
            amount: app.monthly(user).as_f64(),
            last_received: user.monthly_received.map(dates::rfc822),
        }),
        suspicious: Some(app.guard.suspicions.of_user(user.id).into()),
        admin_comment: user.admin_comment.clone(),
        ..shown
    }
}

/// What an account has under way, also what ended and can still be read.
fn active_generations(app: &App, user: UserId) -> ActiveGenerations {
    let live = app.live();
    let of = |kind| live.horde.requests_of(user, kind).collect();
    ActiveGenerations {
        image: of(WorkKind::Image),
        text: of(WorkKind::Text),
        alchemy: of(WorkKind::Interrogation),
    }
}

fn kudos_details(totals: &Totals) -> KudosDetails {
    let sum = |bucket| totals.kudos(bucket).as_f64();
    KudosDetails {
        accumulated: sum(Bucket::Accumulated),
        gifted: sum(Bucket::Gifted),
        donated: sum(Bucket::Donated),
        admin: sum(Bucket::Admin),
        received: sum(Bucket::Received),
        recurring: sum(Bucket::Recurring),
        awarded: sum(Bucket::Awarded),
        styled: sum(Bucket::Styled),
    }
}

fn records(totals: &Totals) -> Records {
    let work = |record| WorkRecord {
        megapixelsteps: megapixelsteps(totals.record(record, WorkKind::Image)),
        tokens: totals.record(record, WorkKind::Text),
    };
    let count = |record| CountRecord {
        image: totals.record(record, WorkKind::Image),
        text: totals.record(record, WorkKind::Text),
        interrogation: totals.record(record, WorkKind::Interrogation),
    };
    Records {
        usage: work(Record::Usage),
        contribution: work(Record::Contribution),
        fulfillment: count(Record::Fulfillment),
        request: count(Record::Request),
        style: count(Record::Style),
    }
}

#[expect(clippy::cast_precision_loss, reason = "work is far below 2^53 units")]
fn megapixelsteps(pixelsteps: i64) -> f64 {
    (pixelsteps as f64 / 10_000.0).round() / 100.0
}
