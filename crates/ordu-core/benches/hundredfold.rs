//! A hundred times the public horde in its busy hour: what choosing, looking and following the change log cost
//! a node, in the pure core, on one processor core.
//!
//! `cargo bench -p ordu-core --bench hundredfold -- SECONDS` lets so many seconds pass in the simulation and
//! prints a table: how often each thing happens, what it costs, and what share of a core that is at this rate.
//! Two hordes take part: one decides, the other reads about it as another node would.
//!
//! # Source
//! `users.md` § 5 (busy hour, times a hundred); `docs/decisions/0013`.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark measures time, rounds, prints, and is of no use when it cannot be set up"
)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ordu_api::image::ImagePop;
use ordu_api::{JobId, RequestId, UserId, WorkerId};
use ordu_core::horde::{
    Address, Content, Horde, Job, Offer, Outcome, Owner, Policy, Renewal, Request, Requester,
    Stage, Stored, Work,
};
use ordu_core::image::ImageSpec;
use ordu_core::model_reference::ModelReference;
use ordu_core::{Kudos, Millis, Role, Roles, Standing, Timestamp};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

/// What happens in a second: `users.md` § 5, busy hour, times a hundred.
const ASKS: u32 = 1_500;
const IDLE_POPS: u32 = 18_500;
const CHECKS: u32 = 35_000;

/// What stands: as many jobs run as are asked for in [`JOB`] seconds; the rest waits or looks on.
const WAITING: u32 = 23_000;
const IDLE_WORKERS: u32 = 18_500;
const JOB: u32 = 10;
const BUSY_WORKERS: u32 = ASKS * JOB;
const MODELS: u32 = 200;
const PEOPLE: u32 = 1_000_000;

const STEP: Duration = Duration::from_millis(10);

/// What things cost.
#[derive(Default)]
struct Costs(BTreeMap<&'static str, (u64, Duration)>);

impl Costs {
    fn of<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = work();
        let (count, spent) = self.0.entry(name).or_default();
        *count += 1;
        *spent += started.elapsed();
        done
    }

    fn print(&self, seconds: u32) {
        println!(
            "{:<28}{:>12}{:>12}{:>16}",
            "", "a second", "µs each", "% of one core"
        );
        let mut whole = 0.0;
        for (name, (count, spent)) in &self.0 {
            let rate = *count as f64 / f64::from(seconds);
            let each = spent.as_secs_f64() * 1e6 / *count as f64;
            let share = rate * each / 1e4;
            whole += share;
            println!("{name:<28}{rate:>12.0}{each:>12.2}{share:>16.1}");
        }
        println!("{:<28}{:>12}{:>12}{whole:>16.1}", "together", "", "");
    }
}

struct World {
    own: Horde,
    other: Horde,
    dice: ChaCha8Rng,
    costs: Costs,
    now: Timestamp,
    /// When jobs are done, the next one first; and whose they are.
    running: VecDeque<(Timestamp, JobId, WorkerId)>,
    /// What is watched.
    watched: Vec<RequestId>,
    offers: BTreeMap<WorkerId, Offer>,
    reference: ModelReference,
    asked: u32,
}

fn main() {
    let seconds = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(5);
    let mut world = World::new();
    world.costs = Costs::default();
    let steps = seconds * 1000 / u32::try_from(STEP.as_millis()).expect("small");
    for step in 0..steps {
        world.step(step);
    }
    println!(
        "{seconds} s of a hundred public hordes: {} workers, {} requests waiting or running\n",
        BUSY_WORKERS + IDLE_WORKERS,
        world.own.open_requests().count() + world.running.len()
    );
    world.costs.print(seconds);
}

impl World {
    fn new() -> Self {
        let reference = || Arc::new(reference());
        let mut world = Self {
            own: Horde::new(reference(), Policy::default()),
            other: Horde::new(reference(), Policy::default()),
            dice: ChaCha8Rng::seed_from_u64(1),
            costs: Costs::default(),
            now: Timestamp(1_000_000_000),
            running: VecDeque::new(),
            watched: Vec::new(),
            offers: BTreeMap::new(),
            reference: self::reference(),
            asked: 0,
        };
        for _ in 0..WAITING + BUSY_WORKERS {
            world.ask();
        }
        for number in 0..BUSY_WORKERS {
            // Popular models are offered as often as they are asked for.
            let models = (0..8).map(|_| model(world.popular())).collect();
            world.hire(number, models);
        }
        for number in 0..IDLE_WORKERS {
            // Nobody asks for what they have.
            world.hire(BUSY_WORKERS + number, vec![model(MODELS + number % 50)]);
        }
        let begun = world.now;
        for number in 0..BUSY_WORKERS {
            let at = i64::from(JOB) * 1000 * i64::from(number) / i64::from(BUSY_WORKERS);
            world.pop("", worker(number), begun + Millis(at));
        }
        world
    }

    /// A model, the first ones more often than the others.
    fn popular(&mut self) -> u32 {
        let chance: f64 = self.dice.random();
        (f64::from(MODELS) * chance.powi(3)) as u32
    }

    fn hire(&mut self, number: u32, models: Vec<String>) {
        let pop = ImagePop {
            name: format!("worker {number}"),
            models,
            bridge_agent: "AI Horde Worker reGen:14:x".to_owned(),
            max_pixels: 4_194_304,
            nsfw: true,
            ..ImagePop::default()
        };
        let owner = Standing {
            user: UserId::new(i64::from(number) + 10).expect("a user"),
            alias: "a#1".to_owned(),
            roles: Roles::NONE.with(Role::Trusted),
            kudos: Kudos::ZERO,
        };
        let offer =
            Offer::new(worker(number), &owner, &pop.into(), &self.reference).expect("an offer");
        self.own.check_in(offer.clone(), self.now);
        self.other.check_in(offer.clone(), self.now);
        self.offers.insert(worker(number), offer);
    }

    fn ask(&mut self) {
        self.asked += 1;
        let spec = ImageSpec {
            models: vec![model(self.popular())],
            width: 64 * self.dice.random_range(8..17),
            height: 64 * self.dice.random_range(8..17),
            steps: 30,
            ..ImageSpec::default()
        };
        let request = Request {
            id: RequestId::from_uuid(Uuid::from_u128(self.dice.random())),
            requester: Requester {
                user: UserId::new(i64::from(self.dice.random_range(0..PEOPLE)) + 10)
                    .expect("a user"),
                roles: Roles::NONE,
                available: Kudos::new(100),
                address: Address::Safe,
            },
            work: Work::Image(Arc::new(spec)),
            priority: Kudos::new(i64::from(self.dice.random_range(0..100_000))),
            created: self.now,
            twin: None,
        };
        let id = request.id;
        let now = self.now;
        self.costs
            .of("a request", || self.own.enqueue(request, now));
        self.watched.push(id);
        self.follow("following: a request", id);
    }

    fn pop(&mut self, name: &'static str, worker: WorkerId, done: Timestamp) {
        let (now, offer) = (self.now, self.offers[&worker].clone());
        let (own, dice) = (&mut self.own, &mut self.dice);
        let found = self.costs.of(name, || {
            own.check_in(offer, now);
            own.pop(worker, dice, now)
        });
        for assignment in found.into_iter().flatten() {
            for job in assignment.ids() {
                self.running.push_back((done, job, worker));
            }
            self.follow("following: a claim", assignment.request);
        }
    }

    fn submit(&mut self, job: JobId, worker: WorkerId) {
        let (now, owner) = (self.now, owner_of(&self.offers[&worker]));
        let Some(request) = self.own.job(job).map(|job| job.request) else {
            return;
        };
        let outcome = Outcome::Delivered {
            content: Content::Uploaded,
            seed: 1,
            censored: false,
            metadata: Vec::new(),
        };
        self.costs.of("a submit", || {
            self.own.submit(job, owner, outcome, now).expect("it runs");
            self.own.confirm(job);
        });
        self.follow("following: a result", request);
    }

    /// The other node reads the request.
    fn follow(&mut self, name: &'static str, id: RequestId) {
        let Some(request) = self.own.request(id).cloned() else {
            return;
        };
        let jobs: Vec<Job> = self.own.jobs(id).cloned().collect();
        let renewal = Renewal {
            stage: if self.own.is_done(id) {
                Stage::Over
            } else {
                Stage::Live
            },
            stored: Stored {
                open: self.own.open_slots_of(id),
                asked: 1,
                kudos: Kudos::ZERO,
                expires: self.now + Millis(1_200_000),
                faulted: false,
                jobs,
                request,
            },
            dropped: Vec::new(),
        };
        let now = self.now;
        self.costs.of(name, || self.other.renew(renewal, now));
        self.own.take_changes();
        self.other.take_changes();
    }

    fn step(&mut self, step: u32) {
        let milliseconds = u32::try_from(STEP.as_millis()).expect("small");
        let share = |rate: u32| {
            (rate * milliseconds * (step + 1) / 1000) - (rate * milliseconds * step / 1000)
        };
        self.now = self.now + Millis(i64::from(milliseconds));
        for _ in 0..share(ASKS) {
            self.ask();
        }
        while let Some((_, job, worker)) = self.running.pop_front_if(|(at, ..)| *at <= self.now) {
            self.submit(job, worker);
            let done = self.now + Millis(i64::from(JOB) * 1000);
            self.pop("a pop that finds", worker, done);
        }
        for _ in 0..share(IDLE_POPS) {
            let number = BUSY_WORKERS + self.dice.random_range(0..IDLE_WORKERS);
            let done = self.now;
            self.pop("a pop that finds nothing", worker(number), done);
        }
        let now = self.now;
        for _ in 0..share(CHECKS) {
            let at = self.dice.random_range(0..self.watched.len());
            let id = self.watched[at];
            self.costs.of("a check", || self.own.progress(id, now));
        }
        if step.is_multiple_of(100) {
            self.costs.of("the clock", || self.own.tick(now));
            self.other.tick_aside(now);
        }
    }
}

/// A reference of all models, those that nobody asks for, too.
fn reference() -> ModelReference {
    let models: Vec<String> = (0..MODELS + 50)
        .map(|number| format!("\"{}\": {{}}", model(number)))
        .collect();
    ModelReference::from_json(&format!("{{{}}}", models.join(", "))).expect("a document")
}

fn owner_of(offer: &Offer) -> Owner {
    offer.owner
}

fn model(number: u32) -> String {
    format!("model {number}")
}

fn worker(number: u32) -> WorkerId {
    WorkerId::from_uuid(Uuid::from_u128(u128::from(number)))
}
