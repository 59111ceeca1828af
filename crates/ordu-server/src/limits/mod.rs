//! Request limits: how often who may call what.
//!
//! [`table`] says what holds, [`meter`] counts. A request must pass every limit of its path; one
//! that is refused counts for none of them. It happens before anything is read of the body.
//!
//! Of several nodes each counts by itself and tells the others once a second what was used
//! ([`Limits::take_uses`], [`Limits::add_uses`]); so a client gets more only by what it does in that
//! second at each node. That is too coarse for limits of a second, which hold for each node.

mod meter;
mod table;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, DefaultHasher, Hasher as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use axum::Json;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ordu_api::error::ErrorBody;
use ordu_core::Timestamp;

use meter::{Meter, Rate, Reading};
use table::{Favoured, Key, Limit};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The limits and what was used of them.
#[derive(Debug)]
pub(crate) struct Limits {
    enforced: bool,
    meter: Meter,
    refused: AtomicU64,
    /// Nobody who does not know the secret can choose whose slot to fall into.
    hasher: Keyed,
    /// What was used and not told to other nodes yet, by key and period; `None` for a node alone.
    untold: Option<Mutex<BTreeMap<(u64, i64), u16>>>,
}

/// What was used of a limit elsewhere: key, period in microseconds, requests.
pub(crate) type Use = (u64, i64, u16);

/// Limits that were used in a second and are told to other nodes at most.
const MAX_UNTOLD: usize = 5_000;

/// The shortest period of which other nodes are told.
const LEAST_TOLD: i64 = 60_000_000;

/// Hashes as every node with the same secret does.
#[derive(Debug)]
struct Keyed([u8; 32]);

impl BuildHasher for Keyed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.0);
        hasher
    }
}

/// A request, as far as limits are concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) method: &'a Method,
    /// The path as the router names it.
    pub(crate) pattern: &'a str,
    /// The path as it was asked for.
    pub(crate) path: &'a str,
    pub(crate) network: IpAddr,
    pub(crate) api_key: Option<&'a [u8]>,
    /// Whether the address is a trusted one.
    pub(crate) trusted: bool,
}

/// What is left of the tightest limit, for the answer's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gauge {
    count: u16,
    remaining: u16,
    reset_seconds: i64,
}

/// Too many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany {
    gauge: Gauge,
    limit: Limit,
    retry_after_seconds: i64,
}

impl Limits {
    pub(crate) fn new(enforced: bool, hash_key: [u8; 32]) -> Self {
        Self {
            enforced,
            meter: Meter::new(),
            refused: AtomicU64::new(0),
            hasher: Keyed(hash_key),
            untold: None,
        }
    }

    /// The same, and remembers what other nodes are to be told.
    pub(crate) fn shared(self) -> Self {
        Self {
            untold: Some(Mutex::default()),
            ..self
        }
    }

    /// What was used since the last call.
    pub(crate) fn take_uses(&self) -> Vec<Use> {
        let Some(untold) = &self.untold else {
            return Vec::new();
        };
        let uses = std::mem::take(&mut *untold.lock().unwrap_or_else(PoisonError::into_inner));
        let uses = uses.into_iter();
        uses.map(|((key, period), count)| (key, period, count))
            .collect()
    }

    /// Counts what was used at another node.
    pub(crate) fn add_uses(&self, uses: &[Use], now: Timestamp) {
        for (key, period, count) in uses {
            if *period >= LEAST_TOLD {
                let now = now.0.saturating_mul(1000);
                self.meter.add(*key, *period, *count, now);
            }
        }
    }

    fn note_uses(&self, taken: &[(u64, Rate)]) {
        let Some(untold) = &self.untold else {
            return;
        };
        let mut untold = untold.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, rate) in taken {
            if rate.period >= LEAST_TOLD && untold.len() < MAX_UNTOLD {
                let count = untold.entry((*key, rate.period)).or_default();
                *count = count.saturating_add(1);
            }
        }
    }

    /// Lets a request in, or not. `None` where no limit holds.
    pub(crate) fn admit(&self, call: &Call<'_>, now: Timestamp) -> Result<Option<Gauge>, TooMany> {
        if !self.enforced {
            return Ok(None);
        }
        let now = now.0.saturating_mul(1000);
        let mut taken: Vec<(u64, Rate)> = Vec::new();
        let mut tightest: Option<Gauge> = None;
        for limit in table::find(call.method, call.pattern) {
            let Some(key) = self.key(*limit, call) else {
                continue;
            };
            let rate = limit.rate(call);
            let reading = self.meter.take(key, rate, now);
            let gauge = Gauge::new(rate, reading);
            if let Some(wait) = reading.retry_after {
                for (key, rate) in taken {
                    self.meter.give_back(key, rate, now);
                }
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(TooMany {
                    gauge,
                    limit: Limit {
                        count: rate.count,
                        ..*limit
                    },
                    retry_after_seconds: seconds_up(wait),
                });
            }
            taken.push((key, rate));
            tightest = Some(tightest.map_or(gauge, |other| other.tighter(gauge)));
        }
        self.note_uses(&taken);
        Ok(tightest)
    }

    /// How many requests were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many clients were forgotten too early because there were too many of them.
    pub(crate) fn forgotten(&self) -> u64 {
        self.meter.forgotten()
    }

    /// What a request counts under; `None` if it has no such thing.
    fn key(&self, limit: Limit, call: &Call<'_>) -> Option<u64> {
        let id = (limit.key, limit.count, limit.period, call.method.as_str());
        Some(match limit.key {
            Key::Address => self.hasher.hash_one((id, call.network, call.pattern)),
            Key::AddressPath => self.hasher.hash_one((id, call.network, call.path)),
            Key::ApiKeyPath => self.hasher.hash_one((id, call.api_key?, call.path)),
        })
    }
}

impl Limit {
    fn rate(self, call: &Call<'_>) -> Rate {
        let anonymous = call.api_key == Some(ordu_api::ANONYMOUS_KEY.as_bytes());
        let relaxed = self.relaxed.filter(|relaxed| match relaxed.to {
            Favoured::Trusted => call.trusted,
            Favoured::TrustedOrAnonymous => call.trusted || anonymous,
        });
        Rate {
            count: relaxed.map_or(self.count, |relaxed| relaxed.count),
            period: self.period.micros(),
        }
    }
}

impl Gauge {
    fn new(rate: Rate, reading: Reading) -> Self {
        Self {
            count: rate.count,
            remaining: reading.remaining,
            reset_seconds: seconds_up(reading.reset),
        }
    }

    /// The one that stops a client first; of two equal ones that for longer.
    fn tighter(self, other: Self) -> Self {
        let order = |gauge: Self| (gauge.remaining, -gauge.reset_seconds);
        if order(other) < order(self) {
            other
        } else {
            self
        }
    }

    /// Says in an answer what is left.
    pub(crate) fn mark(self, response: &mut Response) {
        let headers = response.headers_mut();
        headers.insert(LIMIT, HeaderValue::from(self.count));
        headers.insert(REMAINING, HeaderValue::from(self.remaining));
        headers.insert(RESET, HeaderValue::from(self.reset_seconds));
    }
}

impl IntoResponse for TooMany {
    fn into_response(self) -> Response {
        let Limit { count, period, .. } = self.limit;
        let body = ErrorBody {
            message: format!("{count} per 1 {period}"),
            ..ErrorBody::default()
        };
        let mut response = (StatusCode::TOO_MANY_REQUESTS, Json(body)).into_response();
        let wait = HeaderValue::from(self.retry_after_seconds);
        response.headers_mut().insert(header::RETRY_AFTER, wait);
        self.gauge.mark(&mut response);
        response
    }
}

/// Microseconds in whole seconds, rounded up: who waits that long is not refused again.
fn seconds_up(micros: i64) -> i64 {
    micros.div_euclid(1_000_000) + i64::from(micros.rem_euclid(1_000_000) > 0)
}

#[cfg(test)]
mod tests;
