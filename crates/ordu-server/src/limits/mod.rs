//! Request limits: how often who may call what.
//!
//! [`table`] says what holds, [`meter`] counts. A request must pass every limit of its path; one
//! that is refused counts for none of them. It happens before anything is read of the body.
//!
//! Limits hold for each node by itself. Where nodes should share them, the place is
//! [`Limits::admit`]: it has the hashed key, the rate and the time, which is all that a shared
//! store needs to keep the same window in one round trip. Asking it on every request would cost that
//! round trip on paths that have none today; so a node would count here as now, and once a second
//! exchange the counts of the windows that moved, at the price of what a client can do in a second
//! on each node.

mod meter;
mod table;

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Keyed afresh at each start: nobody can choose whose slot to fall into.
    hasher: RandomState,
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
    pub(crate) fn new(enforced: bool) -> Self {
        Self {
            enforced,
            meter: Meter::new(),
            refused: AtomicU64::new(0),
            hasher: RandomState::new(),
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
