//! Every request limit of the protocol: the one table.
//!
//! # Source
//! `generation.md` § 1.8, `community.md` § 1.5.

use std::fmt;

use axum::http::Method;

/// What the limits of one path are.
#[derive(Debug)]
pub(crate) struct Row {
    /// Which methods; all if empty. A method is counted for itself.
    pub(crate) methods: &'static [Method],
    /// The path below `/api/v2`; `{}` stands for any argument.
    pub(crate) path: &'static str,
    /// What holds; every one of them must agree.
    pub(crate) limits: &'static [Limit],
}

/// So many requests in so long, for whoever has the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) count: u16,
    pub(crate) period: Period,
    pub(crate) key: Key,
    /// What holds instead for some.
    pub(crate) relaxed: Option<Relaxed>,
}

/// A more generous number for some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Relaxed {
    pub(crate) count: u16,
    pub(crate) to: Favoured,
}

/// Who gets the more generous number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Favoured {
    /// Trusted addresses.
    Trusted,
    /// Trusted addresses, and whoever uses the key that everybody shares.
    TrustedOrAnonymous,
}

/// Who is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// Requests of an address to one endpoint, whatever its arguments.
    Address,
    /// Requests of an address to one path, arguments included.
    AddressPath,
    /// Requests with an API key to one path.
    ApiKeyPath,
}

/// A span that limits are given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Period {
    Second,
    Minute,
    Hour,
}

impl Period {
    /// Its length in microseconds.
    pub(crate) const fn micros(self) -> i64 {
        match self {
            Self::Second => 1_000_000,
            Self::Minute => 60_000_000,
            Self::Hour => 3_600_000_000,
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
        })
    }
}

impl Limit {
    const fn new(count: u16, period: Period, key: Key) -> Self {
        Self {
            count,
            period,
            key,
            relaxed: None,
        }
    }

    const fn or(self, count: u16, to: Favoured) -> Self {
        Self {
            relaxed: Some(Relaxed { count, to }),
            ..self
        }
    }
}

const fn per_address(count: u16, period: Period) -> Limit {
    Limit::new(count, period, Key::Address)
}

const fn per_path(count: u16, period: Period) -> Limit {
    Limit::new(count, period, Key::AddressPath)
}

const fn per_key(count: u16, period: Period) -> Limit {
    Limit::new(count, period, Key::ApiKeyPath)
}

use Favoured::{Trusted, TrustedOrAnonymous};
use Period::{Hour, Minute, Second};

const ANY: &[Method] = &[];
const READS: &[Method] = &[Method::GET];

/// Asking for pictures or text.
const ASKING: &[Limit] = &[
    per_path(90, Minute).or(300, Trusted),
    per_path(2, Second).or(10, Trusted),
    per_key(2, Second).or(60, TrustedOrAnonymous),
];

/// Asking by the web page, which has the key in its form.
const PAGE_ASKING: &[Limit] = &[
    per_path(90, Minute).or(300, Trusted),
    per_path(2, Second).or(10, Trusted),
];

/// What workers call all the time.
const WORKING: &[Limit] = &[per_address(60, Second)];

/// What workers tell all the time. Each job's reports are thinned out besides, without a refusal.
const REPORTING: &[Limit] = &[per_address(600, Second)];

const STYLING: &[Limit] = &[
    per_path(90, Minute).or(300, Trusted),
    per_path(2, Second).or(10, Trusted),
];

/// What is rarely changed. The deployed service holds reads to this as well.
const RESTYLING: &[Limit] = &[per_path(20, Hour), per_path(2, Second).or(10, Trusted)];

/// What holds where the table says nothing.
pub(crate) const DEFAULT: &[Limit] = &[per_address(90, Minute)];

const fn row(methods: &'static [Method], path: &'static str, limits: &'static [Limit]) -> Row {
    Row {
        methods,
        path,
        limits,
    }
}

/// The table. The first row that fits holds.
pub(crate) const TABLE: &[Row] = &[
    row(ANY, "/generate/check/{}", &[per_path(10, Second)]),
    row(ANY, "/generate/pop", WORKING),
    row(ANY, "/generate/submit", WORKING),
    row(ANY, "/generate/progress", REPORTING),
    row(ANY, "/generate/events/{}", &[per_path(10, Second)]),
    row(ANY, "/generate/text/pop", WORKING),
    row(ANY, "/generate/text/submit", WORKING),
    row(ANY, "/interrogate/pop", WORKING),
    row(ANY, "/interrogate/submit", WORKING),
    row(ANY, "/generate/async", ASKING),
    row(ANY, "/generate/text/async", ASKING),
    row(ANY, "/generate/status/{}", &[per_path(10, Minute)]),
    row(ANY, "/generate/text/status/{}", &[per_path(60, Minute)]),
    row(ANY, "/interrogate/status/{}", &[per_path(10, Second)]),
    row(ANY, "/generate/rate/{}", &[per_path(5, Minute)]),
    row(ANY, "/status/heartbeat", &[]),
    row(ANY, "/status/modes", &[per_address(30, Minute)]),
    row(ANY, "/users", &[per_address(90, Minute)]),
    row(ANY, "/users/{}", &[per_path(60, Minute)]),
    row(ANY, "/workers/{}", &[per_path(30, Minute)]),
    row(ANY, "/teams", &[per_path(30, Minute)]),
    row(ANY, "/teams/{}", &[per_path(30, Minute)]),
    row(ANY, "/sharedkeys", &[per_path(5, Minute)]),
    row(
        ANY,
        "/kudos/transfer",
        &[per_key(1, Second), per_key(90, Hour).or(600, Trusted)],
    ),
    row(ANY, "/styles/image", STYLING),
    row(ANY, "/styles/image/{}/example", STYLING),
    row(ANY, "/styles/text/{}", STYLING),
    row(ANY, "/collections", STYLING),
    row(ANY, "/collections/{}", STYLING),
    row(READS, "/styles/image/{}", STYLING),
    row(READS, "/styles/text", STYLING),
    row(ANY, "/styles/image/{}", RESTYLING),
    row(ANY, "/styles/text", RESTYLING),
];

/// What is limited besides the protocol; nothing else is.
pub(crate) const PAGES: &[Row] = &[
    row(&[Method::POST], "/", PAGE_ASKING),
    row(ANY, "/v1/chat/completions", ASKING),
    row(ANY, "/v1/completions", ASKING),
    row(ANY, "/v1/images/generations", ASKING),
    row(ANY, "/v1/images/edits", ASKING),
    row(ANY, "/v1/models", DEFAULT),
    row(ANY, "/v1/models/{}", DEFAULT),
];

/// The limits of a path as the router names it, `/api/v2/generate/check/{id}`.
pub(crate) fn find(method: &Method, pattern: &str) -> &'static [Limit] {
    let (table, path, otherwise) = match pattern.strip_prefix(ordu_api::BASE_PATH) {
        Some(path) => (TABLE, path, DEFAULT),
        None => (PAGES, pattern, &[] as &[Limit]),
    };
    let fits = |row: &&Row| row.covers(method) && is_same_path(row.path, path);
    table.iter().find(fits).map_or(otherwise, |row| row.limits)
}

impl Row {
    fn covers(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }
}

/// Whether two patterns mean the same path; how an argument is called does not matter.
fn is_same_path(ours: &str, routed: &str) -> bool {
    let mut ours = ours.split('/');
    let mut routed = routed.split('/');
    loop {
        match (ours.next(), routed.next()) {
            (None, None) => return true,
            (Some("{}"), Some(argument)) if argument.starts_with('{') => {}
            (Some(ours), Some(routed)) if ours == routed => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_that_fits_holds() {
        let find = |method: Method, path: &str| find(&method, path);
        assert_eq!(
            find(Method::GET, "/api/v2/generate/check/{id}"),
            [per_path(10, Second)]
        );
        assert_eq!(find(Method::POST, "/api/v2/generate/async"), ASKING);
        assert_eq!(find(Method::GET, "/api/v2/workers"), DEFAULT);
        assert_eq!(find(Method::GET, "/api/v2/workers/messages"), DEFAULT);
        assert_eq!(find(Method::GET, "/api/v2/workers/{id}")[0].count, 30);
        assert_eq!(find(Method::GET, "/api/v2/styles/image/{style}"), STYLING);
        assert_eq!(find(Method::PATCH, "/api/v2/styles/image/{s}"), RESTYLING);
        assert!(find(Method::GET, "/api/v2/status/heartbeat").is_empty());
        assert!(find(Method::GET, "/blobs/{name}").is_empty());
        assert_eq!(find(Method::POST, "/"), PAGE_ASKING);
    }
}
