//! A tiny language for worlds: who there is, what waits, what happens.
//!
//! ```text
//! user 2 trusted kudos=100            an account; owner 1 and requester 2 exist already
//! worker w1 owner=1 models=sd,sdxl    declares what its next pops say; words set switches
//! request r1 user=2 n=2 steps=20      a request; `size=512x768`, `loras=a`, …
//! at 30                               the clock, in seconds
//! pop w1 · submit j1 · check r1 …     what happens; each answers one line
//! ```
//!
//! Jobs are named `j1`, `j2`, … as they are given away. [`check`] alone knows the API.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use ordu_api::image::{ExtraSourceImage, TextualInversion};
use ordu_api::image::{ImagePop, ImageSubmit, Lora, Metadata, SourceProcessing, SubmitState};
use ordu_api::worker::WorkKind;
use ordu_api::{JobId, RequestId, UserId, WorkerId};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

use crate::horde::{
    Address, Alert, Assignment, Declared, Effect, Horde, Idle, Lapse, Offer, Outcome, Owner,
    Policy, Request, Requester, Settlement, Work,
};
use crate::image::{ImageSpec, seed};
use crate::ledger::{Account, Event};
use crate::model_reference::ModelReference;
use crate::standing::Service;
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
        "flux": {"baseline": "flux_1", "requirements": {"min_steps": 4, "max_steps": 8}},
        "qwen": {"baseline": "qwen_image"},
        "zimage": {"baseline": "z_image_turbo"}
    }"#;
    Arc::new(ModelReference::from_json(document).unwrap())
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
            "tick" => self.tick(),
            "show" => self.horde.to_string(),
            "possible" => {
                let request = self.make_request(name, rest);
                let possible = self.horde.has_valid_worker(&request, self.now);
                format!("{name}: possible={possible}")
            }
            "models" => self.models(),
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
            "slots" => {
                let models = rest.get("models").map(list).unwrap_or_default();
                let user = user_id(name.parse().unwrap());
                let open = self.horde.open_slots(user, WorkKind::Image, &models);
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
        let agent = match words.get("agent") {
            Some(agent) => agent.replace('_', " "),
            None => "AI Horde Worker reGen:14:x".to_owned(),
        };
        let on = |name: &str| words.get(name) != Some("false");
        let pop = ImagePop {
            name: name.to_owned(),
            models: list(words.get("models").unwrap_or("sd")),
            bridge_agent: agent,
            nsfw: on("nsfw"),
            threads: u32::try_from(words.number("threads").unwrap_or(1)).unwrap(),
            amount: u32::try_from(words.number("amount").unwrap_or(1)).unwrap(),
            max_pixels: words.number("max_pixels").unwrap_or(4_194_304),
            blacklist: list(words.get("blacklist").unwrap_or_default()),
            priority_usernames: list(words.get("first").unwrap_or_default()),
            capabilities: words.get("capabilities").map(list),
            allow_img2img: on("img2img"),
            allow_painting: on("painting"),
            allow_unsafe_ipaddr: on("unsafe_ip"),
            allow_post_processing: on("post_processing"),
            allow_controlnet: on("controlnet"),
            allow_sdxl_controlnet: on("sdxl_controlnet"),
            allow_lora: on("lora"),
            extra_slow_worker: words.has("extra_slow"),
            limit_max_steps: words.has("limit_steps"),
            require_upfront_kudos: words.has("upfront"),
        };
        let owner = words.number("owner").unwrap_or(1);
        self.offers.insert(name.to_owned(), (owner, pop.into()));
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
            work: Work::Image(Arc::new(spec(words))),
            priority: standing.priority(Service::Full),
            created: self.now,
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

    pub(super) fn try_pop(&mut self, name: &str) -> Result<Assignment, Idle> {
        let offer = self.offer(name);
        self.horde.check_in(offer, self.now);
        self.horde.pop(worker_id(name), &mut self.dice, self.now)
    }

    fn pop(&mut self, name: &str) -> String {
        match self.try_pop(name) {
            Ok(assignment) => {
                let mut answer = format!("{name}: r{}", assignment.request.uuid().as_u128());
                for job in &assignment.jobs {
                    self.jobs.push(job.id);
                    write!(answer, " j{}", self.jobs.len()).unwrap();
                }
                write!(answer, " {} {}s", assignment.model, assignment.ttl).unwrap();
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

    pub(super) fn job(&self, name: &str) -> JobId {
        let unknown = JobId::from_uuid(Uuid::nil());
        let number: usize = name.trim_start_matches('j').parse().unwrap();
        self.jobs.get(number - 1).copied().unwrap_or(unknown)
    }

    fn submit(&mut self, name: &str, words: &Words<'_>) -> String {
        let by = &self.users[&words.number("by").unwrap_or(1)];
        let remark = words.get("remark").map(|remark| Metadata {
            kind: remark.to_owned(),
            value: "nsfw".to_owned(),
            reference: None,
        });
        let submit = ImageSubmit {
            id: String::new(),
            generation: "R2".to_owned(),
            state: match words.get("state").unwrap_or("ok") {
                "ok" => SubmitState::Ok,
                "faulted" => SubmitState::Faulted,
                "censored" => SubmitState::Censored,
                state => panic!("what is `{state}`?"),
            },
            seed: 1,
            gen_metadata: remark.into_iter().collect(),
        };
        let outcome = Outcome::image(&submit);
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

    fn tick(&mut self) -> String {
        let mut answer = String::from("tick:");
        for lapse in self.horde.tick(self.now) {
            let text = match lapse {
                Lapse::JobFaulted {
                    job,
                    open,
                    sanction: put,
                    ..
                } => {
                    let number = self.jobs.iter().position(|id| *id == job).unwrap() + 1;
                    format!(" j{number} faulted (open {open}){}", sanction(put.as_ref()))
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

    fn models(&self) -> String {
        let models = self.horde.models(WorkKind::Image, self.now);
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
        Effect::Faulted => " faulted".to_owned(),
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

/// A request for images; what is not said is the protocol's default, with the model `sd`.
fn spec(words: &Words<'_>) -> ImageSpec {
    let number = |name, default| u32::try_from(words.number(name).unwrap_or(default)).unwrap();
    let (width, height) = words
        .get("size")
        .unwrap_or("512x512")
        .split_once('x')
        .unwrap();
    let source = words.get("source").map(|_| "source".to_owned());
    let text = |name| words.get(name).map(str::to_owned);
    ImageSpec {
        prompt: text("prompt").unwrap_or_else(|| "a cat".to_owned()),
        models: list(words.get("models").unwrap_or("sd")),
        n: number("n", 1),
        width: width.parse().unwrap(),
        height: height.parse().unwrap(),
        steps: number("steps", 30),
        sampler_name: text("sampler").unwrap_or_else(|| "k_euler_a".to_owned()),
        karras: words.get("karras") != Some("false"),
        tiling: words.has("tiling"),
        hires_fix: words.has("hires_fix"),
        transparent: words.has("transparent"),
        image_is_control: words.has("image_is_control"),
        return_control_map: words.has("return_control_map"),
        seed: words.get("seed").and_then(seed::from_text),
        seed_variation: words.number("variation").map(|v| u32::try_from(v).unwrap()),
        clip_skip: words.number("clip_skip").map(|v| u32::try_from(v).unwrap()),
        post_processing: list(words.get("post").unwrap_or_default()),
        loras: list(words.get("loras").unwrap_or_default())
            .into_iter()
            .map(lora)
            .collect(),
        tis: list(words.get("tis").unwrap_or_default())
            .into_iter()
            .map(inversion)
            .collect(),
        workflow: words.has("qr_code").then(|| "qr_code".to_owned()),
        control_type: text("control"),
        nsfw: words.get("nsfw") != Some("false"),
        trusted_workers: words.has("trusted_workers"),
        slow_workers: words.get("slow_workers") != Some("false"),
        extra_slow_workers: words.has("extra_slow_workers"),
        workers: list(words.get("workers").unwrap_or_default())
            .iter()
            .map(|name| worker_id(name))
            .collect(),
        worker_blacklist: words.has("worker_blacklist"),
        source_processing: match words.get("source") {
            Some("inpainting") => SourceProcessing::Inpainting,
            Some("outpainting") => SourceProcessing::Outpainting,
            Some("remix") => SourceProcessing::Remix,
            _ => SourceProcessing::Img2Img,
        },
        extra_source_images: (0..number("extra_images", 0))
            .map(|_| ExtraSourceImage {
                image: "extra".to_owned(),
                strength: 1.0,
            })
            .collect(),
        source_image: source,
        r2: words.get("r2") != Some("false"),
        disable_batching: words.has("disable_batching"),
        ..ImageSpec::default()
    }
}

/// A LoRA; digits name a version.
fn lora(name: String) -> Lora {
    Lora {
        is_version: name.bytes().all(|byte| byte.is_ascii_digit()),
        name,
        model: 1.0,
        clip: 1.0,
        inject_trigger: None,
    }
}

fn inversion(name: String) -> TextualInversion {
    TextualInversion {
        name,
        inject_ti: None,
        strength: 1.0,
    }
}
