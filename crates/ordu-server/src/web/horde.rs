//! The horde, for people: in numbers, and at work.

use askama::Template;

use super::Frame;
use super::charts::Chart;

/// The horde in numbers.
#[derive(Template)]
#[template(path = "horde.html")]
pub(crate) struct HordePage<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) loads: Vec<LoadGroup>,
    pub(crate) choices: Vec<Choice>,
    /// What the charts show: `pictures`, …
    pub(crate) things: &'static str,
    /// What work is measured in; none for forms.
    pub(crate) unit: Option<&'static str>,
    pub(crate) charts: Vec<Chart>,
    pub(crate) moments: Vec<Moment>,
    pub(crate) markets: Vec<Market>,
    pub(crate) workers: Vec<WorkerLine>,
    /// Workers that are online, also those that are not shown.
    pub(crate) online: usize,
    pub(crate) earners: Vec<Earner>,
    pub(crate) accounts: Vec<AccountLine>,
}

/// How much there is of one kind of work.
pub(crate) struct LoadGroup {
    pub(crate) title: &'static str,
    pub(crate) numbers: Vec<Number>,
}

/// A number that the script keeps up to date.
pub(crate) struct Number {
    /// The member of `GET /status/performance`.
    pub(crate) member: &'static str,
    pub(crate) label: &'static str,
    pub(crate) value: String,
}

/// A way to look at the charts.
pub(crate) struct Choice {
    pub(crate) link: String,
    pub(crate) label: &'static str,
    pub(crate) chosen: bool,
}

/// A row of the table behind the charts.
pub(crate) struct Moment {
    pub(crate) when: String,
    pub(crate) finished: String,
    pub(crate) work: String,
    pub(crate) queued: String,
    pub(crate) workers: String,
}

/// The models of one kind of work.
pub(crate) struct Market {
    /// The kind on the wire.
    pub(crate) kind: &'static str,
    pub(crate) title: &'static str,
    pub(crate) speed_unit: &'static str,
    pub(crate) models: Vec<ModelLine>,
    /// How many are not shown.
    pub(crate) more: usize,
}

/// One model.
pub(crate) struct ModelLine {
    pub(crate) name: String,
    pub(crate) threads: u64,
    pub(crate) jobs: String,
    pub(crate) wait: String,
    pub(crate) speed: String,
}

/// One worker.
pub(crate) struct WorkerLine {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) speed: String,
    pub(crate) offers: String,
    pub(crate) standing: String,
    pub(crate) done: String,
}

/// A worker by what it earned.
pub(crate) struct Earner {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) kudos: String,
    pub(crate) done: String,
}

/// An account by what it has.
pub(crate) struct AccountLine {
    pub(crate) name: String,
    pub(crate) kudos: String,
    pub(crate) megapixelsteps: String,
    pub(crate) tokens: String,
    pub(crate) workers: u64,
}

/// The horde at work.
#[derive(Template)]
#[template(path = "live.html")]
pub(crate) struct LivePage<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) waiting: u64,
    pub(crate) running: u64,
    pub(crate) workers: u64,
}
