//! Each row of the table at its border and one beyond.

use super::table::{DEFAULT, Row, TABLE};
use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn fresh(enforced: bool) -> Limits {
    Limits::new(enforced, [7; 32])
}

fn call<'a>(row: &'a Row, pattern: &'a str, method: &'a Method) -> Call<'a> {
    assert!(row.methods.is_empty() || row.methods.contains(method));
    Call {
        method,
        pattern,
        path: pattern,
        network: IpAddr::from([192, 0, 2, 1]),
        api_key: Some(b"a key"),
        trusted: false,
    }
}

/// Calls until refused, from a burst on; answers how often it passed and what refused it.
fn exhaust(limits: &Limits, call: &Call<'_>, step_ms: i64) -> (u16, TooMany) {
    let mut passed = 0;
    let mut now = NOW;
    loop {
        match limits.admit(call, now) {
            Ok(_) => passed += 1,
            Err(refused) => return (passed, refused),
        }
        assert!(passed < 10_000, "{call:?} is not limited");
        now = Timestamp(now.0 + step_ms);
    }
}

#[test]
fn every_row_allows_its_smallest_limit_at_once_and_no_more() {
    for row in TABLE {
        let pattern = format!("/api/v2{}", row.path);
        let method = row.methods.first().unwrap_or(&Method::POST);
        for trusted in [false, true] {
            let call = Call {
                trusted,
                ..call(row, &pattern, method)
            };
            let Some(smallest) = row.limits.iter().map(|limit| limit.rate(&call).count).min()
            else {
                assert_eq!(fresh(true).admit(&call, NOW), Ok(None), "{pattern}");
                continue;
            };
            let limits = fresh(true);
            let (passed, refused) = exhaust(&limits, &call, 0);
            assert_eq!(passed, smallest, "{pattern}");
            assert_eq!(refused.gauge.remaining, 0);
            assert!(refused.retry_after_seconds >= 1);
            // Who waits as told is let in.
            let later = Timestamp(NOW.0 + refused.retry_after_seconds * 1000);
            assert!(limits.admit(&call, later).is_ok(), "{pattern}");
        }
    }
}

#[test]
fn of_several_limits_the_long_one_stops_whoever_keeps_to_the_short_one() {
    let call = call(&TABLE[8], "/api/v2/generate/async", &Method::POST);
    let (passed, refused) = exhaust(&fresh(true), &call, 500);
    assert_eq!((refused.limit.count, passed), (90, 90));
    assert_eq!(refused.into_response().status(), 429);
}

#[test]
fn a_refused_request_counts_for_no_limit() {
    let limits = fresh(true);
    let call = call(&TABLE[8], "/api/v2/generate/async", &Method::POST);
    let pass_at = |second: i64| {
        let now = Timestamp(NOW.0 + second * 1000);
        (0..100)
            .filter(|_| limits.admit(&call, now).is_ok())
            .count()
    };
    // A hundred a second are asked for, two pass; of the minute's 90 only those are used up.
    for second in 0..45 {
        assert_eq!(pass_at(second), 2, "{second}");
    }
    assert_eq!(pass_at(45), 0);
}

#[test]
fn keys_tell_clients_paths_and_methods_apart() {
    let limits = fresh(true);
    let get = Method::GET;
    let pattern = "/api/v2/generate/status/{id}";
    let first = Call {
        path: "/api/v2/generate/status/1",
        ..call(&TABLE[10], pattern, &get)
    };
    exhaust(&limits, &first, 0);
    let others = [
        Call {
            path: "/api/v2/generate/status/2",
            ..first
        },
        Call {
            method: &Method::DELETE,
            ..first
        },
        Call {
            network: IpAddr::from([192, 0, 2, 2]),
            ..first
        },
    ];
    for other in others {
        assert!(limits.admit(&other, NOW).is_ok(), "{other:?}");
    }
    let same_path_other_key = Call {
        api_key: Some(b"another"),
        ..first
    };
    assert!(limits.admit(&same_path_other_key, NOW).is_err());
}

#[test]
fn an_endpoint_without_a_row_has_one_limit_whatever_its_arguments() {
    let limits = fresh(true);
    for number in 0..=DEFAULT[0].count {
        let path = format!("/api/v2/filters/{number}");
        let call = Call {
            method: &Method::GET,
            pattern: "/api/v2/filters/{id}",
            path: &path,
            network: IpAddr::from([192, 0, 2, 1]),
            api_key: None,
            trusted: false,
        };
        let admitted = limits.admit(&call, NOW).is_ok();
        assert_eq!(admitted, number < DEFAULT[0].count, "{number}");
    }
}

#[test]
fn the_anonymous_key_is_shared_by_many_clients() {
    let limits = fresh(true);
    for client in 0..60 {
        let call = Call {
            network: IpAddr::from([192, 0, 2, client]),
            api_key: Some(ordu_api::ANONYMOUS_KEY.as_bytes()),
            ..call(&TABLE[8], "/api/v2/generate/async", &Method::POST)
        };
        assert!(limits.admit(&call, NOW).is_ok(), "{client}");
    }
}

#[test]
fn without_enforcement_nothing_is_counted() {
    let limits = fresh(false);
    let call = call(&TABLE[0], "/api/v2/generate/check/{id}", &Method::GET);
    for _ in 0..100 {
        assert_eq!(limits.admit(&call, NOW), Ok(None));
    }
}

#[test]
fn nodes_share_what_was_used_of_long_limits() {
    let call = call(&TABLE[11], "/api/v2/generate/status/{}", &Method::GET);
    assert_eq!(call.pattern, format!("/api/v2{}", TABLE[11].path));
    let (here, there) = (fresh(true).shared(), fresh(true).shared());
    for _ in 0..7 {
        here.admit(&call, NOW).unwrap();
    }
    let uses = here.take_uses();
    assert_eq!(uses.len(), 1);
    there.add_uses(&uses, NOW);
    assert!(here.take_uses().is_empty(), "told once");
    let (passed, _) = exhaust(&there, &call, 0);
    assert_eq!(passed, 3);
    // What was refused was not used.
    assert_eq!(there.take_uses(), [(uses[0].0, 60_000_000, 3)]);
    let busy = Call {
        pattern: "/api/v2/generate/pop",
        ..call
    };
    here.admit(&busy, NOW).unwrap();
    assert!(here.take_uses().is_empty(), "a second is too short to tell");
    let alone = fresh(true);
    alone.admit(&call, NOW).unwrap();
    assert!(alone.take_uses().is_empty());
    assert_eq!(fresh(false).admit(&call, NOW), Ok(None));
}
