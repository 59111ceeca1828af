//! What counts, and when it is enough.

use uuid::Uuid;

use super::*;

const TRUSTED: Roles = Roles::NONE.with(Role::Trusted);

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn worker(owner: i64, number: u128) -> Suspect {
    Suspect {
        user: user(owner),
        worker: Some(WorkerId::from_uuid(Uuid::from_u128(number))),
    }
}

fn account(id: i64) -> Suspect {
    Suspect {
        user: user(id),
        worker: None,
    }
}

#[test]
fn most_reasons_count_once_and_three_each_time() {
    for reason in Reason::ALL {
        let mut suspicions = Suspicions::default();
        for _ in 0..3 {
            suspicions.report(worker(7, 1), Roles::NONE, reason);
        }
        let expected = match reason {
            Reason::UnreasonablyFast | Reason::TooManyJobsAborted | Reason::UnlikePictures => 3,
            _ => 1,
        };
        assert_eq!(suspicions.total(worker(7, 1)), expected, "{reason:?}");
        assert_eq!(suspicions.total(account(7)), expected, "{reason:?}");
        assert_eq!(
            Reason::from_number(i64::from(reason.number())),
            Some(reason)
        );
    }
    assert_eq!(Reason::from_number(11), None);
    assert_eq!(Reason::from_number(-1), None);
}

#[test]
fn a_reason_counts_once_for_the_owner_and_once_for_each_worker() {
    let mut suspicions = Suspicions::default();
    let report = |suspicions: &mut Suspicions, suspect| {
        suspicions.report(suspect, Roles::NONE, Reason::UnsafeIp)
    };
    assert!(report(&mut suspicions, worker(7, 1)).is_some());
    let noted = report(&mut suspicions, worker(7, 2)).unwrap();
    assert_eq!((noted.user.1, noted.worker.unwrap().1), (1, 1));
    assert_eq!(report(&mut suspicions, worker(7, 2)), None);
    assert_eq!(suspicions.total(account(7)), 1);
}

#[test]
fn the_fifth_reason_pauses_a_worker() {
    let mut suspicions = Suspicions::default();
    let pauses: Vec<bool> = (0..6)
        .map(|_| {
            let fast = Reason::UnreasonablyFast;
            suspicions
                .report(worker(7, 1), Roles::NONE, fast)
                .unwrap()
                .pause
        })
        .collect();
    assert_eq!(pauses, [false, false, false, false, true, true]);
    assert!(suspicions.is_suspicious(user(7), Roles::NONE));
    assert!(!suspicions.is_suspicious(user(7), TRUSTED));
    assert!(!suspicions.is_suspicious(user(8), Roles::NONE));
    suspicions.forget(user(7));
    assert_eq!(suspicions.total(worker(7, 1)), 0);
    assert!(!suspicions.is_suspicious(user(7), Roles::NONE));
}

#[test]
fn an_account_alone_pauses_nothing() {
    let mut suspicions = Suspicions::default();
    for _ in 0..6 {
        let noted = suspicions.report(account(7), Roles::NONE, Reason::TooManyJobsAborted);
        assert!(!noted.unwrap().pause);
    }
}

#[test]
fn the_trusted_and_the_anonymous_are_never_suspected() {
    let mut suspicions = Suspicions::default();
    let fast = Reason::UnreasonablyFast;
    assert_eq!(suspicions.report(worker(7, 1), TRUSTED, fast), None);
    assert_eq!(suspicions.report(account(0), Roles::NONE, fast), None);
    assert_eq!(suspicions.total(worker(7, 1)), 0);
}

#[test]
fn what_was_stored_comes_back() {
    let mut suspicions = Suspicions::default();
    suspicions.merge(account(7), Reason::UnreasonablyFast, 4);
    suspicions.merge(account(7), Reason::UnsafeIp, 1);
    assert_eq!(suspicions.total(account(7)), 5);
    suspicions.merge(account(7), Reason::UnreasonablyFast, 0);
    suspicions.merge(account(8), Reason::UnsafeIp, 0);
    assert_eq!(suspicions.total(account(7)), 1);
}

#[test]
fn speeds_have_limits() {
    let pace = |kind, speed, model, billions, owner| Pace {
        kind,
        speed,
        model,
        billions,
        owner,
    };
    let (image, text) = (WorkKind::Image, WorkKind::Text);
    let cases = [
        (pace(image, 20_000_000.0, "x", None, Roles::NONE), false),
        (pace(image, 20_000_001.0, "x", None, Roles::NONE), true),
        (pace(text, 150.0, "x", None, Roles::NONE), false),
        (pace(text, 150.1, "x", None, TRUSTED), true),
        (pace(text, 31.0, "x-70b", Some(70.0), Roles::NONE), true),
        (pace(text, 30.0, "x-70b", Some(70.0), Roles::NONE), false),
        (pace(text, 31.0, "x-70b", Some(70.0), TRUSTED), false),
        (pace(text, 90.0, "x-8x22b", Some(141.0), Roles::NONE), false),
        (pace(text, 91.0, "x-8x22b", Some(141.0), Roles::NONE), true),
        (pace(text, 101.0, "x-14b", Some(14.0), Roles::NONE), true),
        (pace(text, 100.0, "x-13b", Some(13.9), Roles::NONE), false),
        (pace(text, 149.0, "x-3b", Some(3.0), Roles::NONE), false),
    ];
    for (pace, unreasonable) in cases {
        assert_eq!(pace.is_unreasonable(), unreasonable, "{pace:?}");
    }
}

#[test]
fn long_names_are_suspected() {
    let counts = [100, 101, 200, 201].map(|chars| of_name_length(chars).len());
    assert_eq!(counts, [0, 1, 1, 2]);
}
