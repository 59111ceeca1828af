//! What a pop and a check cost, by the number of waiting requests.
//!
//! Budgets (`platform.md` § 6): an idle pop at 100,000 waiting takes 3 ms at most; a pop that
//! matches and a check at 100,000 take at most twice what they take at 100.
#![expect(
    clippy::expect_used,
    reason = "a benchmark that cannot be set up is of no use"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use ordu_api::image::ImagePop;
use ordu_api::{RequestId, UserId, WorkerId};
use ordu_core::horde::{Address, Horde, Offer, Policy, Request, Requester, Work};
use ordu_core::image::ImageSpec;
use ordu_core::model_reference::ModelReference;
use ordu_core::{Kudos, Role, Roles, Standing, Timestamp};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

const SIZES: [u32; 4] = [100, 1_000, 10_000, 100_000];
const NOW: Timestamp = Timestamp(1_000_000);

/// How alike the waiting requests are.
#[derive(Debug, Clone, Copy)]
enum Mix {
    /// All ask the same of a worker.
    Uniform,
    /// No two ask the same.
    Distinct,
}

fn reference() -> Arc<ModelReference> {
    let text = r#"{"a": {}, "b": {}, "c": {"baseline": "flux_1"}}"#;
    Arc::new(ModelReference::from_json(text).expect("a document"))
}

fn request(number: u32, mix: Mix) -> Request {
    let mut spec = ImageSpec {
        models: vec!["a".to_owned()],
        ..ImageSpec::default()
    };
    if let Mix::Distinct = mix {
        spec.width = 64 + number % 251 * 64;
        spec.height = 64 + number / 251 * 64;
        spec.tiling = number.is_multiple_of(2);
        spec.karras = number.is_multiple_of(3);
        spec.slow_workers = !number.is_multiple_of(5);
    }
    Request {
        id: RequestId::from_uuid(Uuid::from_u128(u128::from(number))),
        requester: Requester {
            user: UserId::new(i64::from(number % 1000) + 10).expect("a user"),
            roles: Roles::NONE,
            available: Kudos::new(100),
            address: Address::Safe,
        },
        work: Work::Image(Arc::new(spec)),
        priority: Kudos::new(i64::from(number.wrapping_mul(2_654_435_761) % 10_000)),
        created: Timestamp(i64::from(number)),
        twin: None,
    }
}

fn offer(model: &str) -> Offer {
    let owner = Standing {
        user: UserId::new(1).expect("a user"),
        alias: "a#1".to_owned(),
        roles: Roles::NONE.with(Role::Trusted),
        kudos: Kudos::ZERO,
    };
    let pop = ImagePop {
        name: "w".to_owned(),
        models: vec![model.to_owned()],
        bridge_agent: "AI Horde Worker reGen:14:x".to_owned(),
        max_pixels: i64::MAX,
        nsfw: model == "a",
        ..ImagePop::default()
    };
    let worker = WorkerId::from_uuid(Uuid::from_u128(7));
    Offer::new(worker, &owner, &pop.into(), &reference()).expect("an offer")
}

fn horde(waiting: u32, mix: Mix, offer: &Offer) -> Horde {
    let mut horde = Horde::new(reference(), Policy::default());
    for number in 0..waiting {
        horde.enqueue(request(number, mix), NOW);
    }
    horde.check_in(offer.clone(), NOW);
    horde
}

fn idle_pop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("idle pop");
    for mix in [Mix::Uniform, Mix::Distinct] {
        for waiting in SIZES {
            let offer = offer("b");
            let mut horde = horde(waiting, mix, &offer);
            let mut dice = ChaCha8Rng::seed_from_u64(1);
            let id = BenchmarkId::new(format!("{mix:?}"), waiting);
            group.bench_function(id, |bencher| {
                bencher.iter(|| {
                    horde.check_in(offer.clone(), NOW);
                    black_box(horde.pop(offer.worker, &mut dice, NOW).is_err())
                });
            });
        }
    }
}

fn matching_pop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("matching pop");
    for mix in [Mix::Uniform, Mix::Distinct] {
        for waiting in SIZES {
            let offer = offer("a");
            let mut horde = horde(waiting, mix, &offer);
            let mut dice = ChaCha8Rng::seed_from_u64(1);
            let id = BenchmarkId::new(format!("{mix:?}"), waiting);
            group.bench_function(id, |bencher| {
                bencher.iter_batched(
                    || offer.clone(),
                    |offer| {
                        horde.check_in(offer, NOW);
                        let found = horde.pop(WORKER, &mut dice, NOW).expect("a match");
                        for batch in &found {
                            horde.release(&batch.ids());
                        }
                        found
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

const WORKER: WorkerId = WorkerId::from_uuid(Uuid::from_u128(7));

fn check(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("check");
    for waiting in SIZES {
        let offer = offer("a");
        let mut horde = horde(waiting, Mix::Distinct, &offer);
        let mut number = 0;
        group.bench_function(BenchmarkId::from_parameter(waiting), |bencher| {
            bencher.iter(|| {
                number = (number + 7919) % waiting;
                let id = RequestId::from_uuid(Uuid::from_u128(u128::from(number)));
                black_box(horde.progress(id, NOW))
            });
        });
    }
}

fn enqueue_and_cancel(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("enqueue and cancel");
    for waiting in SIZES {
        let offer = offer("a");
        let mut horde = horde(waiting, Mix::Distinct, &offer);
        let mut number = 1_000_000;
        group.bench_function(BenchmarkId::from_parameter(waiting), |bencher| {
            bencher.iter(|| {
                number += 1;
                let request = request(number, Mix::Uniform);
                let id = request.id;
                horde.enqueue(request, NOW);
                black_box(horde.cancel(id))
            });
        });
    }
}

criterion_group! {
    name = matching;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700))
        .sample_size(20)
        .without_plots();
    targets = idle_pop, matching_pop, check, enqueue_and_cancel
}
criterion_main!(matching);
