//! A tiny language for worlds: who there is, what waits, what happens.
//!
//! ```text
//! user 2 trusted kudos=100            an account; owner 1 and requester 2 exist already
//! worker w1 owner=1 models=sd,sdxl    declares what its next pops say; words set switches
//! request r1 user=2 n=2 steps=20      a request; `size=512x768`, `loras=a`, …
//! at 30                               the clock, in seconds
//! worker w2 text · request r2 text    the same for texts; words: `length=80`, `context=2048`, …
//! worker w3 alchemy · request r3 alchemy   and for alchemy; words: `forms=caption,nsfw`, `tiles=2`
//! pop w1 · submit j1 · check r1 …     what happens; each answers one line
//! ```
//!
//! Jobs are named `j1`, `j2`, … as they are given away. [`check`] alone knows the API.

mod kinds;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use ordu_api::worker::WorkKind;
use ordu_api::{JobId, RequestId, UserId, WorkerId};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

use crate::horde::{
    Address, Aftermath, Alert, Assignment, Declared, Effect, FormState, FormView, Horde, Idle,
    Lapse, Offer, Outcome, Owner, Policy, Request, Requester, Settlement,
};
use crate::ledger::{Account, Event};
use crate::model_reference::ModelReference;
use crate::standing::Service;
use crate::text_models::TextModels;
use crate::{Kudos, Role, Roles, Standing, Timestamp};

/// Runs a world and compares what it answers.
#[track_caller]
pub(super) fn check(script: &str, expected: &str) {
    let answers = answers(script);
    let expected: Vec<&str> = lines(expected).collect();
    let answers: Vec<&str> = lines(&answers).collect();
    assert!(
        expected == answers,
        "\n---- expected ----\n{}\n---- answered ----\n{}\n",
        expected.join("\n"),
        answers.join("\n"),
    );
}

/// Runs a world; what it answers.
pub(super) fn answers(script: &str) -> String {
    let mut world = World::new();
    let mut answers = String::new();
    for line in lines(script) {
        if let Some(answer) = world.run(line) {
            answers.push_str(answer.trim_end());
            answers.push('\n');
        }
    }
    answers
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// The models of all worlds.
pub(super) fn reference() -> Arc<ModelReference> {
    let document = r#"{
        "sd": {"baseline": "stable diffusion 1"},
        "sd-inpaint": {"baseline": "stable diffusion 1", "inpainting": true},
        "sdxl": {"baseline": "stable_diffusion_xl"},
        "cascade": {"baseline": "stable_cascade"},
        "shy": {"baseline": "stable_cascade", "only_by_name": true},
        "flux": {"baseline": "flux_1", "requirements": {"min_steps": 4, "max_steps": 8}},
        "qwen": {"baseline": "qwen_image"},
        "zimage": {"baseline": "z_image_turbo"}
    }"#;
    let text = r#"{
        "70b": {"parameters": 70e9}, "13b": {"parameters": 13e9}, "7b": {"parameters": 7e9}
    }"#;
    let text = TextModels::from_json(text).unwrap();
    Arc::new(ModelReference::from_json(document).unwrap().with_text(text))
}

/// A horde and the names of what is in it.
pub(super) struct World {
    pub(super) horde: Horde,
    pub(super) now: Timestamp,
    pub(super) dice: ChaCha8Rng,
    users: BTreeMap<i64, Standing>,
    offers: BTreeMap<String, (i64, Declared)>,
    pub(super) jobs: Vec<JobId>,
}

/// The words after the first of a line: `name=value`, or a name alone.
struct Words<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Words<'a> {
    /// The kind of work that a line is about: images unless it says otherwise.
    fn kind(&self) -> WorkKind {
        if self.has("text") {
            WorkKind::Text
        } else if self.has("alchemy") {
            WorkKind::Interrogation
        } else {
            WorkKind::Image
        }
    }

    /// A small number.
    fn small(&self, name: &str, default: u32) -> u32 {
        self.number(name)
            .map_or(default, |number| u32::try_from(number).unwrap())
    }

    /// Whether a switch is on that is on by default.
    fn on(&self, name: &str) -> bool {
        self.get(name) != Some("false")
    }

    fn new(words: impl Iterator<Item = &'a str>) -> Self {
        Self(
            words
                .map(|word| word.split_once('=').unwrap_or((word, "true")))
                .collect(),
        )
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let mut words = self.0.iter();
        words.find(|word| word.0 == name).map(|word| word.1)
    }

    fn has(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.get(name).map(|value| value.parse().unwrap())
    }
}

fn list(value: &str) -> Vec<String> {
    let items = value.split(',').filter(|item| !item.is_empty());
    items.map(str::to_owned).collect()
}

fn uuid_of(name: &str) -> Uuid {
    let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    Uuid::from_u128(digits.parse().unwrap())
}

pub(super) fn request_id(name: &str) -> RequestId {
    RequestId::from_uuid(uuid_of(name))
}

pub(super) fn worker_id(name: &str) -> WorkerId {
    WorkerId::from_uuid(uuid_of(name))
}

fn user_id(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

impl World {
    pub(super) fn new() -> Self {
        let mut world = Self {
            horde: Horde::new(reference(), Policy::default()),
            now: Timestamp(0),
            dice: ChaCha8Rng::seed_from_u64(0),
            users: BTreeMap::new(),
            offers: BTreeMap::new(),
            jobs: Vec::new(),
        };
        world.run("user 1 trusted");
        world.run("user 2");
        world
    }

    /// Does what a line says; answers what it says in return.
    pub(super) fn run(&mut self, line: &str) -> Option<String> {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap();
        if verb == "at" {
            self.now = Timestamp(words.next().unwrap().parse::<i64>().unwrap() * 1000);
            return None;
        }
        let name = words.next().unwrap_or_default();
        let rest = Words::new(words);
        match verb {
            "user" => self.user(name, &rest),
            "worker" => self.worker(name, &rest),
            "request" => self.request(name, &rest),
            "available" => {
                let kudos = Kudos::new(rest.number("kudos").unwrap());
                self.horde
                    .set_available(user_id(name.parse().unwrap()), kudos);
            }
            "maintenance" => self
                .horde
                .set_maintenance(worker_id(name), Some("tea".to_owned())),
            "work" => {
                self.horde.set_maintenance(worker_id(name), None);
                self.horde.unpause(worker_id(name));
            }
            "pause" => self.horde.pause(worker_id(name)),
            "forget" => self.horde.forget_worker(worker_id(name)),
            "trouble" => self.horde.note_trouble(self.now),
            "restarted" => self.horde.restarted(self.now),
            "raid" => self.horde.set_policy(Policy { alert: Alert::Raid }),
            "release" => self.horde.release(&[self.job(name)]),
            "unsettle" => self.horde.unsettle(self.job(name)),
            _ => return Some(self.answer(verb, name, &rest)),
        }
        None
    }

    /// The verbs that answer something.
    fn answer(&mut self, verb: &str, name: &str, rest: &Words<'_>) -> String {
        match verb {
            "checkin" => self.check_in(name),
            "pop" => self.pop(name),
            "straight" => self.straight(name, rest),
            "submit" => self.submit(name, rest),
            "confirm" => {
                let confirmed = self.horde.confirm(self.job(name));
                let done = if confirmed.request_done { " done" } else { "" };
                format!(
                    "{name}: confirmed{done}{}",
                    sanction(confirmed.sanction.as_ref())
                )
            }
            "cancel" => match self.horde.cancel(request_id(name)) {
                Some(cancelled) => {
                    format!("{name}: asked={} done={}", cancelled.asked, cancelled.done)
                }
                None => format!("{name}: unknown"),
            },
            "check" => self.progress(name),
            "forms" => self.forms(name),
            "tick" => self.tick(),
            "show" => self.horde.to_string(),
            "possible" => {
                let request = self.make_request(name, rest);
                let possible = self.horde.has_valid_worker(&request, self.now);
                format!("{name}: possible={possible}")
            }
            "models" => self.models(name),
            "performance" => {
                let performance = self.horde.performance(self.now);
                format!(
                    "queued={} ({} Mps) workers={} threads={} past minute {} Mps",
                    performance.queued_requests,
                    performance.queued_megapixelsteps,
                    performance.worker_count,
                    performance.thread_count,
                    performance.past_minute_megapixelsteps
                )
            }
            "pending" => {
                let pending = self
                    .horde
                    .pending_jobs(user_id(name.parse().unwrap()), rest.kind());
                format!("{name}: {pending} pending")
            }
            "slots" => {
                let models = rest.get("models").map(list).unwrap_or_default();
                let user = user_id(name.parse().unwrap());
                let open = self.horde.open_slots(user, rest.kind(), &models);
                format!("{name}: {open} open")
            }
            _ => panic!("what is `{verb}`?"),
        }
    }

    fn user(&mut self, name: &str, words: &Words<'_>) {
        let roles: Roles = [
            ("trusted", Role::Trusted),
            ("customizer", Role::Customizer),
            ("special", Role::Special),
            ("flagged", Role::Flagged),
        ]
        .into_iter()
        .filter(|(word, _)| words.has(word))
        .map(|(_, role)| role)
        .collect();
        let user = name.parse().unwrap();
        let standing = Standing {
            user: user_id(user),
            alias: format!("user#{name}"),
            roles,
            kudos: Kudos::new(words.number("kudos").unwrap_or(1000)),
        };
        self.users.insert(user, standing);
    }

    fn worker(&mut self, name: &str, words: &Words<'_>) {
        let declared = match words.kind() {
            WorkKind::Image => kinds::image_pop(name, words).into(),
            WorkKind::Text => kinds::text_pop(name, words).into(),
            WorkKind::Interrogation => kinds::alchemy_pop(name, words).into(),
        };
        let owner = words.number("owner").unwrap_or(1);
        self.offers.insert(name.to_owned(), (owner, declared));
    }

    fn request(&mut self, name: &str, words: &Words<'_>) {
        let request = self.make_request(name, words);
        self.horde.enqueue(request, self.now);
    }

    fn make_request(&self, name: &str, words: &Words<'_>) -> Request {
        let standing = &self.users[&words.number("user").unwrap_or(2)];
        let address = if words.has("unsafe_ip") {
            Address::Unsafe
        } else {
            Address::Safe
        };
        Request {
            id: request_id(name),
            requester: Requester {
                user: standing.user,
                roles: standing.roles,
                available: standing.available(),
                address,
            },
            work: kinds::work(words),
            priority: standing.priority(Service::Full),
            created: self.now,
            twin: None,
        }
    }

    pub(super) fn offer(&self, name: &str) -> Offer {
        let (owner, pop) = &self.offers[name];
        Offer::new(worker_id(name), &self.users[owner], pop, &reference()).unwrap()
    }

    fn check_in(&mut self, name: &str) -> String {
        let offer = self.offer(name);
        let checked = self.horde.check_in(offer, self.now);
        let store = if checked.store { "store" } else { "keep" };
        let reward = checked.reward.map_or(String::new(), |reward| {
            format!(" reward {}:{}", reward.amount, movements(&reward.event))
        });
        format!("{name}: {store}{reward}")
    }

    pub(super) fn try_pop(&mut self, name: &str) -> Result<Vec<Assignment>, Idle> {
        let offer = self.offer(name);
        self.horde.check_in(offer, self.now);
        self.horde.pop(worker_id(name), &mut self.dice, self.now)
    }

    fn pop(&mut self, name: &str) -> String {
        match self.try_pop(name) {
            Ok(assignments) => {
                let mut answer = format!("{name}:");
                for assignment in &assignments {
                    answer.push_str(&self.assignment(assignment));
                }
                answer
            }
            Err(Idle::Skipped(skipped)) => {
                let met: Vec<String> = skipped
                    .iter()
                    .filter(|(_, count)| **count > 0)
                    .map(|(reason, count)| format!("{reason}={count}"))
                    .collect();
                format!("{name}: nothing {}", met.join(" "))
            }
            Err(Idle::Maintenance(refusal)) => format!("{name}: {} {refusal}", refusal.code),
        }
    }

    /// A request that goes to a worker that waits, or to nobody.
    fn straight(&mut self, name: &str, words: &Words<'_>) -> String {
        let (id, to) = (request_id(name), words.get("to").unwrap());
        let request = self.make_request(name, words);
        let find = |horde: &Horde| {
            let worker = worker_id(to);
            horde.would_serve(worker, id).then_some(worker)
        };
        let found = self
            .horde
            .enqueue_assigned(request, find, &mut self.dice, self.now);
        match found {
            Some(assignment) => format!("{to}:{}", self.assignment(&assignment)),
            None => format!("{name}: nobody"),
        }
    }

    fn assignment(&mut self, assignment: &Assignment) -> String {
        let mut answer = format!(" r{}", assignment.request.uuid().as_u128());
        for job in &assignment.jobs {
            self.jobs.push(job.id);
            write!(answer, " j{}", self.jobs.len()).unwrap();
            if job.slot.is_some() {
                write!(answer, "={}", job.model).unwrap();
            }
        }
        if assignment.jobs[0].slot.is_none() {
            write!(answer, " {}", assignment.model).unwrap();
        }
        write!(answer, " {}s", assignment.ttl).unwrap();
        answer
    }

    pub(super) fn job(&self, name: &str) -> JobId {
        let unknown = JobId::from_uuid(Uuid::nil());
        let number: usize = name.trim_start_matches('j').parse().unwrap();
        self.jobs.get(number - 1).copied().unwrap_or(unknown)
    }

    fn submit(&mut self, name: &str, words: &Words<'_>) -> String {
        let by = &self.users[&words.number("by").unwrap_or(1)];
        let outcome = self.outcome(name, words);
        let job = self.job(name);
        match self.horde.submit(job, Owner::from(by), outcome, self.now) {
            Ok(settlement) => {
                let mut answer = format!(
                    "{name}: reward {}{}",
                    settlement.reward,
                    effect(&settlement)
                );
                if !words.has("hold") {
                    let confirmed = self.horde.confirm(job);
                    answer.push_str(&sanction(confirmed.sanction.as_ref()));
                }
                answer
            }
            Err(refusal) => format!("{name}: {}", refusal.code),
        }
    }

    fn outcome(&self, name: &str, words: &Words<'_>) -> Outcome {
        let job = self.horde.job(self.job(name));
        let request = job.and_then(|job| self.horde.request(job.request));
        match request.map(|request| request.work.kind()) {
            _ if words.has("withdrawn") => Outcome::withdrawn(),
            Some(WorkKind::Text) => Outcome::text(&kinds::text_submit(words)),
            Some(WorkKind::Interrogation) => Outcome::form(&kinds::alchemy_submit(words)),
            _ => Outcome::image(&kinds::image_submit(words)),
        }
    }

    fn progress(&mut self, name: &str) -> String {
        let Some(progress) = self.horde.progress(request_id(name), self.now) else {
            return format!("{name}: unknown");
        };
        let mut answer = format!(
            "{name}: finished={} processing={} restarted={} waiting={} place={} wait={} kudos={}",
            progress.finished,
            progress.processing,
            progress.restarted,
            progress.waiting,
            progress.queue_position,
            progress.wait_time,
            progress.kudos,
        );
        for (holds, word) in [
            (progress.done, "done"),
            (progress.faulted, "faulted"),
            (progress.is_possible, "possible"),
        ] {
            if holds {
                write!(answer, " {word}").unwrap();
            }
        }
        answer
    }

    fn forms(&self, name: &str) -> String {
        let Some(forms) = self.horde.forms(request_id(name)) else {
            return format!("{name}: unknown");
        };
        let show = |view: &FormView| {
            let state = match &view.state {
                FormState::Waiting => "waiting",
                FormState::Processing => "processing",
                FormState::Done(..) => "done",
                FormState::Faulted => "faulted",
                FormState::Cancelled => "cancelled",
            };
            format!(" {}={state}", view.name)
        };
        format!("{name}:{}", forms.iter().map(show).collect::<String>())
    }

    fn tick(&mut self) -> String {
        let mut answer = String::from("tick:");
        for lapse in self.horde.tick(self.now) {
            let text = match lapse {
                Lapse::JobFaulted {
                    job,
                    open,
                    aftermath,
                    sanction: put,
                    ..
                } => {
                    let number = self.jobs.iter().position(|id| *id == job).unwrap() + 1;
                    let fate = match aftermath {
                        Aftermath::Reopened => "faulted",
                        Aftermath::GivenUp => "given up",
                        Aftermath::Returned => "returned",
                    };
                    format!(" j{number} {fate} (open {open}){}", sanction(put.as_ref()))
                }
                Lapse::RequestFaulted { request } => {
                    format!(" r{} faulted", request.uuid().as_u128())
                }
                Lapse::RequestExpired { request, dropped } => {
                    format!(
                        " r{} expired ({} dropped)",
                        request.uuid().as_u128(),
                        dropped.len()
                    )
                }
            };
            answer.push_str(&text);
        }
        answer
    }

    fn models(&self, kind: &str) -> String {
        let kind = kind.parse().unwrap_or(WorkKind::Image);
        let models = self.horde.models(kind, self.now);
        let show = |model: &ordu_api::status::ModelStatus| {
            format!(
                "{}: count={} queued={} jobs={} eta={} performance={}",
                model.name, model.count, model.queued, model.jobs, model.eta, model.performance
            )
        };
        models.iter().map(show).collect::<Vec<_>>().join("\n")
    }
}

fn sanction(sanction: Option<&crate::horde::Sanction>) -> String {
    sanction.map_or(String::new(), |sanction| match sanction.maintenance {
        Some(_) => " maintenance".to_owned(),
        None => " suspected".to_owned(),
    })
}

fn effect(settlement: &Settlement) -> String {
    match &settlement.effect {
        Effect::Nothing => String::new(),
        Effect::Faulted(Aftermath::Reopened) => " faulted".to_owned(),
        Effect::Faulted(Aftermath::GivenUp) => " given up".to_owned(),
        Effect::Faulted(Aftermath::Returned) => " returned".to_owned(),
        Effect::Delivered(delivery) => {
            let censored = if delivery.delivered.censored {
                " censored"
            } else {
                ""
            };
            format!("{censored}{}", movements(&delivery.event))
        }
    }
}

/// Movements as text: `2→mint 8.61`.
fn movements(event: &Event) -> String {
    let show = |account: &Account| match account {
        Account::Mint => "mint".to_owned(),
        Account::Spendable(user) => user.to_string(),
        Account::Escrow(user) => format!("{user} later"),
    };
    event.entries.iter().fold(String::new(), |text, entry| {
        let (from, to) = (show(&entry.from), show(&entry.to));
        format!("{text} {from}→{to} {}", entry.amount)
    })
}
