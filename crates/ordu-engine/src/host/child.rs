//! The outside of an engine's process: starts it, watches it, replaces it.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::io::Write as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use image::DynamicImage;
use serde_json::{Map, Value};

use super::wire::{Call, Description, Reading, Reply, chain, frame, receive};
use crate::{
    AlchemyEngine, Answer, Capabilities, Engine, EngineError, Holdings, ImageTask, Picture,
    ProgressSink, Step, Text, TextCapabilities, TextEngine, TextError, TextTask,
};

/// How often somebody who waits looks whether it is still worth it.
const LOOK: Duration = Duration::from_millis(50);

/// How long an engine may take to say what it can do.
const DESCRIBE_WITHIN: Duration = Duration::from_secs(10);

/// How long an engine's process may be silent, and how long it is left alone after it died.
#[derive(Debug, Clone, Copy)]
pub struct HostTiming {
    /// From the launch to the first word.
    pub start: Duration,
    /// Without a word of any task, before the first step of one and after its last: models are
    /// loaded and pictures decoded then.
    pub silence: Duration,
    /// Between two steps, at least; slower engines get eight times their median step.
    pub step: Duration,
    /// From a cancellation to the answer.
    pub cancel: Duration,
    /// Before the first relaunch after a crash; doubled by each further one until a task is done.
    pub back_off: Duration,
    /// The longest pause before a relaunch.
    pub max_back_off: Duration,
}

impl Default for HostTiming {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(80),
            silence: Duration::from_mins(2),
            step: Duration::from_secs(15),
            cancel: Duration::from_secs(20),
            back_off: Duration::from_millis(500),
            max_back_off: Duration::from_mins(1),
        }
    }
}

/// An engine in a process of its own.
///
/// A process that dies fails the tasks it had with [`EngineError::Crashed`] and is started anew when
/// the engine is next asked for something, though not sooner than [`HostTiming`] says; until then the
/// engine offers no models.
#[derive(Debug)]
pub struct HostedEngine {
    command: Mutex<Command>,
    timing: HostTiming,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    launch: Option<Arc<Launch>>,
    /// Numbers attempts over all launches.
    attempts: u64,
    /// Crashes since the last task that was done.
    crashes: u32,
    not_before: Instant,
    known: Option<Description>,
}

/// One process.
#[derive(Debug)]
struct Launch {
    /// Frames on their way to the process; a thread writes them, so that nobody waits for a process
    /// that does not read.
    calls: Sender<Vec<u8>>,
    child: Mutex<Child>,
    waiting: Mutex<Waiting>,
}

/// Who waits for what.
#[derive(Debug, Default)]
struct Waiting {
    attempts: BTreeMap<u64, Sender<Reply>>,
    descriptions: Vec<Sender<Description>>,
    /// When the process last said something.
    heard: Option<Instant>,
    /// Set when it will say no more: how it ended.
    ended: Option<String>,
}

impl HostedEngine {
    /// Starts the process. `command` must run [`super::serve()`] on its standard streams; its standard
    /// error is left as `command` has it.
    ///
    /// # Errors
    /// [`EngineError::Crashed`] if there is no such program, or if it does not say within
    /// [`HostTiming::start`] what it can do.
    pub fn start(command: Command, timing: HostTiming) -> Result<Self, EngineError> {
        let engine = Self {
            command: Mutex::new(command),
            timing,
            state: Mutex::new(State {
                launch: None,
                attempts: 0,
                crashes: 0,
                not_before: Instant::now(),
                known: None,
            }),
        };
        match engine.launch() {
            Ok(_) => Ok(engine),
            Err(Pause::Failed(error)) => Err(error),
            Err(Pause::For(_)) => Err(EngineError::crashed("it is left alone for a while")),
        }
    }

    /// The id of the process, as the system counts; `None` while there is none.
    pub fn process_id(&self) -> Option<u32> {
        let launch = lock(&self.state).launch.clone()?;
        (!launch.has_ended()).then(|| lock(&launch.child).id())
    }

    /// The process that runs, or a new one; [`Pause`] while it is left alone.
    fn launch(&self) -> Result<Arc<Launch>, Pause> {
        let mut state = lock(&self.state);
        if let Some(launch) = &state.launch {
            if !launch.has_ended() {
                return Ok(Arc::clone(launch));
            }
            state.launch = None;
            self.punish(&mut state);
        }
        let left = state.not_before.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return Err(Pause::For(left));
        }
        match self.spawn() {
            Ok((launch, known)) => {
                state.launch = Some(Arc::clone(&launch));
                state.known = Some(known);
                Ok(launch)
            }
            Err(error) => {
                self.punish(&mut state);
                Err(Pause::Failed(error))
            }
        }
    }

    /// One more crash: what was known is not true any more, and the next launch has to wait.
    fn punish(&self, state: &mut State) {
        let pause = self.timing.back_off * 2_u32.saturating_pow(state.crashes.min(16));
        state.crashes = state.crashes.saturating_add(1);
        state.not_before = Instant::now() + pause.min(self.timing.max_back_off);
        state.known = None;
    }

    /// As [`Self::launch`], but waits until it may be launched, as long as anybody wants it.
    fn await_launch(&self, progress: &dyn ProgressSink) -> Result<Arc<Launch>, EngineError> {
        loop {
            match self.launch() {
                Ok(launch) => return Ok(launch),
                Err(Pause::Failed(error)) => return Err(error),
                Err(Pause::For(_)) if progress.cancelled() => return Err(EngineError::Cancelled),
                Err(Pause::For(left)) => thread::sleep(left.min(LOOK)),
            }
        }
    }

    fn spawn(&self) -> Result<(Arc<Launch>, Description), EngineError> {
        let mut child = lock(&self.command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| EngineError::crashed(format!("it cannot be started: {error}")))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(EngineError::crashed("it has no standard streams"));
        };
        let (sender, first) = channel();
        let (calls, written) = channel();
        thread::spawn(move || speak(input, &written));
        let launch = Arc::new(Launch {
            calls,
            child: Mutex::new(child),
            waiting: Mutex::new(Waiting {
                descriptions: vec![sender],
                ..Waiting::default()
            }),
        });
        let listener = Arc::clone(&launch);
        thread::spawn(move || listener.listen(output));
        match first.recv_timeout(self.timing.start) {
            Ok(known) => Ok((launch, known)),
            Err(RecvTimeoutError::Timeout) => {
                launch.kill("it did not start in time");
                Err(EngineError::crashed("it did not start in time"))
            }
            Err(RecvTimeoutError::Disconnected) => Err(launch.crash()),
        }
    }

    /// What the process can do now, or could when it was last asked.
    fn description(&self) -> Option<Description> {
        let launch = self.launch().ok()?;
        let (sender, answer) = channel();
        lock(&launch.waiting).descriptions.push(sender);
        // A process that works hard may be slow to answer; a dead one is noticed by its silence.
        let fresh = launch
            .say(&Call::Describe)
            .ok()
            .and_then(|()| answer.recv_timeout(DESCRIBE_WITHIN).ok());
        let mut state = lock(&self.state);
        if let Some(fresh) = fresh {
            state.known = Some(fresh);
        }
        state.known.clone()
    }

    /// Has the process do something, and follows it to its end.
    fn attempt(
        &self,
        progress: &dyn ProgressSink,
        watch: Watch,
        call: impl FnOnce(u64) -> Call,
    ) -> Result<Reply, EngineError> {
        let launch = self.await_launch(progress)?;
        let number = {
            let mut state = lock(&self.state);
            state.attempts += 1;
            state.attempts
        };
        let (sender, answers) = channel();
        if !launch.expect(number, sender) {
            return Err(launch.crash());
        }
        let attempt = Attempt {
            number,
            answers,
            watch,
        };
        let end = match launch.say(&call(number)) {
            Ok(()) => self.follow(&launch, attempt, progress),
            Err(error) => Err(EngineError::bad_task(error.to_string())),
        };
        lock(&launch.waiting).attempts.remove(&number);
        if end.is_ok() {
            lock(&self.state).crashes = 0;
        }
        end
    }

    /// Follows one attempt to its end.
    fn follow(
        &self,
        launch: &Launch,
        mut attempt: Attempt,
        progress: &dyn ProgressSink,
    ) -> Result<Reply, EngineError> {
        let mut cancelled: Option<Instant> = None;
        let mut so_far = String::new();
        loop {
            match attempt.answers.recv_timeout(LOOK) {
                Ok(Reply::Step { step, .. }) => {
                    attempt.watch.step(&step);
                    progress.step(step);
                }
                Ok(Reply::Piece { text, .. }) => {
                    so_far.push_str(&text);
                    if progress.wants_text() {
                        progress.text(&so_far);
                    }
                }
                Ok(end @ (Reply::Made { .. } | Reply::Written { .. } | Reply::Answered { .. })) => {
                    return Ok(end);
                }
                Ok(Reply::Failed { fault, .. }) => return Err(fault.into()),
                Ok(Reply::Described(_) | Reply::Busy) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(launch.crash()),
            }
            if let Some(since) = cancelled {
                if since.elapsed() > self.timing.cancel {
                    launch.kill("it did not let itself be stopped");
                }
            } else if progress.cancelled() {
                cancelled = Some(Instant::now());
                // If it cannot be told, it is dead, which is heard above.
                let _ = launch.say(&Call::Cancel {
                    attempt: attempt.number,
                });
            } else if attempt.watch.is_hung(lock(&launch.waiting).heard) {
                launch.kill("it hung");
            }
        }
    }
}

impl Engine for HostedEngine {
    fn capabilities(&self) -> Capabilities {
        self.description()
            .map_or_else(Capabilities::none, |known| known.capabilities)
    }

    fn run(
        &self,
        task: ImageTask,
        progress: &dyn ProgressSink,
    ) -> Result<Vec<Picture>, EngineError> {
        let previews = progress.wants_preview();
        let end = self.attempt(progress, Watch::new(self.timing), |attempt| Call::Run {
            attempt,
            previews,
            task: Box::new(task),
        })?;
        match end {
            Reply::Made { pictures, .. } => Ok(pictures),
            _ => Err(EngineError::crashed("it wrote where it was to draw")),
        }
    }

    fn holdings(&self) -> Holdings {
        self.description()
            .map_or_else(Holdings::default, |known| known.holdings)
    }

    /// A process that does not run holds nothing, and is not started for that.
    fn release(&self) {
        let launch = lock(&self.state).launch.clone();
        if let Some(launch) = launch.filter(|launch| !launch.has_ended()) {
            // If it dies of it, nothing is held either.
            let _ = launch.say(&Call::Release);
        }
    }
}

impl TextEngine for HostedEngine {
    fn capabilities(&self) -> Result<TextCapabilities, TextError> {
        let known = self.description().and_then(|known| known.text);
        known
            .map(Into::into)
            .ok_or_else(|| TextError::unavailable("its process does not run, or does not write"))
    }

    fn write(&self, task: &TextTask, progress: &dyn ProgressSink) -> Result<Text, TextError> {
        let end = self.attempt(progress, Watch::of_words(self.timing), |attempt| {
            Call::Write {
                attempt,
                task: Box::new(task.clone()),
            }
        });
        match end {
            Ok(Reply::Written { text, .. }) => Ok(text),
            Ok(_) => Err(TextError::Failed {
                reason: "it drew where it was to write".to_owned(),
            }),
            Err(EngineError::Cancelled) => Err(TextError::Cancelled),
            Err(EngineError::BadTask { reason }) => Err(TextError::Refused { reason }),
            Err(error) => Err(TextError::Failed {
                reason: chain(&error),
            }),
        }
    }
}

impl AlchemyEngine for HostedEngine {
    fn forms(&self) -> Vec<String> {
        self.description()
            .map_or_else(Vec::new, |known| known.forms)
    }

    fn answer(
        &self,
        form: &str,
        picture: &DynamicImage,
        options: &Map<String, Value>,
        progress: &dyn ProgressSink,
    ) -> Result<Answer, EngineError> {
        let task = Reading {
            form: form.to_owned(),
            options: options.clone(),
            picture: picture.clone(),
        };
        let end = self.attempt(progress, Watch::new(self.timing), |attempt| Call::Read {
            attempt,
            task: Box::new(task),
        })?;
        match end {
            Reply::Answered { told, .. } => Ok(told.into()),
            _ => Err(EngineError::crashed("it did not read where it was to")),
        }
    }
}

impl Drop for HostedEngine {
    fn drop(&mut self) {
        if let Some(launch) = lock(&self.state).launch.take() {
            launch.kill("it is not needed any more");
        }
    }
}

impl Launch {
    /// Tells the process something. If it is dead, that is heard as its silence.
    fn say(&self, call: &Call) -> std::io::Result<()> {
        let _ = self.calls.send(frame(call)?);
        Ok(())
    }

    fn has_ended(&self) -> bool {
        lock(&self.waiting).ended.is_some()
    }

    /// Answers to an attempt go to `sender` from now on; `false` if there will be none.
    fn expect(&self, attempt: u64, sender: Sender<Reply>) -> bool {
        let mut waiting = lock(&self.waiting);
        if waiting.ended.is_some() {
            return false;
        }
        waiting.attempts.insert(attempt, sender);
        true
    }

    /// Hands out what the process says, until it ends.
    fn listen(&self, output: ChildStdout) {
        let mut output = BufReader::new(output);
        let said = loop {
            match receive::<Reply>(&mut output) {
                Ok(Some(reply)) => self.hand_out(reply),
                Ok(None) => break None,
                Err(error) => break Some(error.to_string()),
            }
        };
        // Whatever it is, a process that cannot be understood is of no use.
        let mut child = lock(&self.child);
        let _ = child.kill();
        let status = child.wait();
        drop(child);
        let how = match (said, status) {
            (Some(reason), _) => reason,
            (None, Ok(status)) => status.to_string(),
            (None, Err(error)) => error.to_string(),
        };
        let mut waiting = lock(&self.waiting);
        waiting.ended.get_or_insert(how);
        waiting.attempts.clear();
        waiting.descriptions.clear();
    }

    fn hand_out(&self, reply: Reply) {
        let mut waiting = lock(&self.waiting);
        waiting.heard = Some(Instant::now());
        match reply {
            Reply::Described(known) => {
                // Who asked twice gets the same answer.
                for asker in waiting.descriptions.drain(..) {
                    let _ = asker.send((*known).clone());
                }
            }
            Reply::Step { attempt, .. }
            | Reply::Made { attempt, .. }
            | Reply::Piece { attempt, .. }
            | Reply::Written { attempt, .. }
            | Reply::Answered { attempt, .. }
            | Reply::Failed { attempt, .. } => {
                // An attempt that nobody waits for was given up.
                if let Some(asker) = waiting.attempts.get(&attempt) {
                    let _ = asker.send(reply);
                }
            }
            // That it was heard is all.
            Reply::Busy => {}
        }
    }

    /// Ends the process; its end is heard by whoever waits for it.
    fn kill(&self, why: &str) {
        lock(&self.waiting).ended.get_or_insert(why.to_owned());
        // It may have ended by itself.
        let _ = lock(&self.child).kill();
    }

    fn crash(&self) -> EngineError {
        let ended = lock(&self.waiting).ended.clone();
        EngineError::crashed(ended.unwrap_or_else(|| "it is gone".to_owned()))
    }
}

/// Why there is no process now.
enum Pause {
    /// It died, and it is too early for the next one.
    For(Duration),
    Failed(EngineError),
}

/// Writes what the process is told, until nobody has anything to say or it does not listen.
fn speak(mut input: ChildStdin, calls: &Receiver<Vec<u8>>) {
    while let Ok(call) = calls.recv() {
        if input.write_all(&call).and_then(|()| input.flush()).is_err() {
            return;
        }
    }
}

/// One thing that a process does.
struct Attempt {
    number: u64,
    answers: Receiver<Reply>,
    watch: Watch,
}

/// Tells slow from hung.
struct Watch {
    timing: HostTiming,
    /// Durations of the steps so far.
    steps: Vec<Duration>,
    last_step: Option<Instant>,
    began: Instant,
    is_sampling: bool,
    /// Whether steps are of a length; words come as they like.
    has_steps: bool,
}

impl Watch {
    fn new(timing: HostTiming) -> Self {
        Self {
            timing,
            steps: Vec::new(),
            last_step: None,
            began: Instant::now(),
            is_sampling: false,
            has_steps: true,
        }
    }

    /// For texts: a long prompt takes longer than any word behind it.
    fn of_words(timing: HostTiming) -> Self {
        Self {
            has_steps: false,
            ..Self::new(timing)
        }
    }

    fn step(&mut self, step: &Step) {
        if !self.has_steps {
            return;
        }
        let now = Instant::now();
        if let Some(last) = self.last_step {
            self.steps.push(now - last);
        }
        self.last_step = Some(now);
        self.is_sampling = step.step < step.of;
    }

    /// While it samples, steps must come; before and after, any word of the process will do.
    fn is_hung(&self, heard: Option<Instant>) -> bool {
        if let Some(last) = self.last_step.filter(|_| self.is_sampling) {
            return last.elapsed() > self.step_limit();
        }
        let heard = heard.map_or(self.began, |heard| heard.max(self.began));
        heard.elapsed() > self.timing.silence
    }

    fn step_limit(&self) -> Duration {
        let mut steps = self.steps.clone();
        steps.sort_unstable();
        let median = steps.get(steps.len() / 2).copied().unwrap_or_default();
        self.timing.step.max(median * 8)
    }
}

/// A panic of one caller leaves nothing half-done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
