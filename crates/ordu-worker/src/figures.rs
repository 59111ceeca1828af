//! Numbers about a worker: how long things took, what was earned lately. Pure: the time is handed in.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Upper borders of a histogram, in seconds.
pub(crate) const BORDERS: [f64; 10] = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Minutes whose earnings are remembered one by one.
const MINUTES: usize = 60;

const MINUTE: Duration = Duration::from_mins(1);

/// How often something took how long.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// For each of the borders, how many were at most so long; not cumulated.
    counts: [u64; BORDERS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    pub(crate) fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let places = BORDERS.iter().zip(&mut self.counts);
        if let Some((_, count)) = places.into_iter().find(|(border, _)| seconds <= **border) {
            *count += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }

    /// Each border and how many were at most so long.
    pub fn cumulated(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut so_far = 0;
        BORDERS
            .iter()
            .zip(&self.counts)
            .map(move |(border, count)| {
                so_far += count;
                (*border, so_far)
            })
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their seconds together.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

/// What was earned, in kudos.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Earnings {
    since: Option<Instant>,
    total: f64,
    /// The newest minute last; a minute is counted from `since`.
    minutes: VecDeque<(u64, f64)>,
}

impl Earnings {
    /// The clock starts; again, it goes on.
    pub(crate) fn start(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    pub(crate) fn add(&mut self, kudos: f64, now: Instant) {
        self.start(now);
        self.total += kudos;
        let minute = self.minute(now);
        match self.minutes.back_mut() {
            Some((last, sum)) if *last == minute => *sum += kudos,
            _ => self.minutes.push_back((minute, kudos)),
        }
        if self.minutes.len() > MINUTES {
            self.minutes.pop_front();
        }
    }

    fn minute(&self, now: Instant) -> u64 {
        self.age(now).as_secs() / MINUTE.as_secs()
    }

    /// How long the clock has been running.
    pub fn age(&self, now: Instant) -> Duration {
        self.since
            .map(|since| now.saturating_duration_since(since))
            .unwrap_or_default()
    }

    /// Since the start.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// In the last hour; extrapolated when younger than that, but not from less than a minute.
    pub fn per_hour(&self, now: Instant) -> f64 {
        let (minute, age) = (self.minute(now), self.age(now));
        let recent = self.minutes.iter();
        let recent = recent.filter(|(at, _)| at + MINUTES as u64 > minute);
        let sum = recent.fold(0.0, |sum, (_, kudos)| sum + kudos);
        let hour = MINUTE * 60;
        sum * hour.as_secs_f64() / age.clamp(MINUTE, hour).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_each_border() {
        let mut histogram = Histogram::default();
        for seconds in [0.05, 0.1, 0.2, 700.0] {
            histogram.add(Duration::from_secs_f64(seconds));
        }
        let counts: Vec<_> = histogram.cumulated().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 3, 3, 3, 3, 3, 3, 3, 3, 3]);
        assert_eq!(histogram.count(), 4);
        assert!((histogram.sum() - 700.35).abs() < 1e-9);
    }

    #[test]
    fn an_hour_is_extrapolated_until_there_was_one() {
        let start = Instant::now();
        let at = |minutes: u64| start + MINUTE * u32::try_from(minutes).unwrap();
        let mut earned = Earnings::default();
        earned.start(start);
        assert!(earned.per_hour(start).abs() < f64::EPSILON);
        earned.add(10.0, at(0));
        let close = |found: f64, expected: f64| (found - expected).abs() < 1e-9;
        assert!(close(
            earned.per_hour(start + Duration::from_secs(1)),
            600.0
        ));
        assert!(close(earned.per_hour(at(30)), 20.0));
        for minute in 60..200 {
            earned.add(1.0, at(minute));
        }
        assert!(close(earned.per_hour(at(199)), 60.0));
        assert!(close(earned.total(), 150.0));
        assert!(close(earned.per_hour(at(400)), 0.0));
        assert!(earned.minutes.len() <= MINUTES);
    }
}
