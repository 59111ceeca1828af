//! The engine for texts that needs nothing but this program: GGUF models on the CPU.
//!
//! Top to bottom: the engine turns a task into tokens with a [`tokenizer`], reads them with a network of
//! [`llama`]'s family from a file of [`gguf`], all but what is [`kept`] from texts before, chooses what comes next by [`sampling`], and writes it
//! down in [`writing`], which knows where to stop.

mod gguf;
mod kept;
mod llama;
mod name;
mod sampling;
mod tokenizer;
mod writing;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use self::gguf::Gguf;
use self::kept::{Kept, Past};
use self::llama::{Config, Decoder};
use self::sampling::Chooser;
use self::tokenizer::Tokenizer;
use self::writing::Writing;
use crate::{
    EngineError, Finish, ProgressSink, Step, Text, TextCapabilities, TextEngine, TextError,
    TextTask,
};

/// How to open a [`NativeText`].
#[derive(Clone, Debug)]
pub struct NativeTextOptions {
    /// A GGUF file; the bundled model if there is none.
    pub model: Option<PathBuf>,
    /// Memory that one text may take besides the weights, in bytes: the context is shortened to it.
    pub memory_per_text: u64,
    /// Memory that beginnings of texts may take that are done, in bytes: texts that go on from there
    /// come sooner.
    pub memory_kept: u64,
}

impl Default for NativeTextOptions {
    fn default() -> Self {
        Self {
            model: None,
            memory_per_text: 2 * 1024 * 1024 * 1024,
            memory_kept: 512 * 1024 * 1024,
        }
    }
}

/// The most tokens of one text that are promised.
const MAX_LENGTH: u32 = 16_384;
/// Bytes of a prompt that are looked at, for each token that it may have.
const BYTES_PER_TOKEN: usize = 64;
/// The smallest context that is worth anything, in tokens.
const MIN_CONTEXT: usize = 64;

/// The bundled model, where numbers of any kind may lie.
static BUNDLED: &Aligned<[u8]> =
    &Aligned(*include_bytes!("../../../models/ordu-tiny-text/model.gguf"));
/// What it is called in messages.
const BUNDLED_NAME: &str = "ordu-tiny-text";

#[repr(C, align(64))]
struct Aligned<B: ?Sized>(B);

/// A model of texts in this process.
#[derive(Debug)]
pub struct NativeText {
    name: String,
    file: Gguf,
    tokenizer: Tokenizer,
    config: Config,
    context: usize,
    loaded: Mutex<Option<Arc<Decoder>>>,
    kept: Kept,
}

impl NativeText {
    /// Opens a model: checks its file, loads nothing yet.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`] if the file cannot be read, [`EngineError::BadModel`] if it cannot be used, with
    /// what is wrong with it.
    pub fn open(options: &NativeTextOptions) -> Result<Self, EngineError> {
        let file = match &options.model {
            Some(path) => Gguf::open(path)?,
            None => Gguf::bundled(BUNDLED_NAME, &BUNDLED.0)?,
        };
        Self::of(file, options)
    }

    fn of(file: Gguf, options: &NativeTextOptions) -> Result<Self, EngineError> {
        let tokenizer = Tokenizer::of(&file)?;
        let config = Config::of(&file, tokenizer.len())?;
        llama::check(&file, &config)?;
        let affordable = options.memory_per_text / config.bytes_per_token().max(1);
        let affordable = usize::try_from(affordable).unwrap_or(usize::MAX);
        let context = config.context.min(affordable);
        if context < MIN_CONTEXT {
            return Err(file.refuse(format!(
                "{context} tokens of context are too few: it was made for {}, and memory allows {affordable}",
                config.context
            )));
        }
        Ok(Self {
            name: name::of(&file),
            file,
            tokenizer,
            config,
            context,
            loaded: Mutex::default(),
            kept: Kept::new(options.memory_kept),
        })
    }

    /// Size of its weights in the file, in bytes.
    pub fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    /// The network, loaded if it is not yet.
    fn decoder(&self) -> Result<Arc<Decoder>, EngineError> {
        // A panic of another caller leaves it either loaded or not.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(decoder) = &*loaded {
            return Ok(Arc::clone(decoder));
        }
        let decoder = Arc::new(Decoder::load(&self.file, &self.config)?);
        *loaded = Some(Arc::clone(&decoder));
        Ok(decoder)
    }

    /// The tokens that fit before a text of `length` tokens in a context of `context`: of a prompt that is
    /// too long, the end.
    fn prompt(&self, text: &str, context: usize, length: usize) -> Vec<u32> {
        let begin = self.tokenizer.begin();
        let room = (context - length).saturating_sub(begin.iter().len());
        let bytes = room.saturating_mul(BYTES_PER_TOKEN);
        let start = text.ceil_char_boundary(text.len().saturating_sub(bytes));
        let tokens = self.tokenizer.encode(text.get(start..).unwrap_or_default());
        let kept = tokens.len().saturating_sub(room);
        let end = tokens.get(kept..).unwrap_or_default();
        let mut tokens: Vec<u32> = begin.into_iter().chain(end.iter().copied()).collect();
        if tokens.is_empty() {
            // Something has to be read before something can be written.
            tokens.push(self.tokenizer.all_ends().first().copied().unwrap_or(0));
        }
        tokens
    }

    fn try_write(&self, task: &TextTask, progress: &dyn ProgressSink) -> Result<Text, EngineError> {
        let (context, length) = self.limits(task);
        let decoder = self.decoder()?;
        let prompt = self.prompt(&task.prompt, context, length);
        let mut past = self
            .kept
            .begin(&self.config, &prompt, prompt.len() + length)?;
        let written = self.write_behind(
            prompt,
            &decoder,
            &mut past,
            &Work {
                task,
                length,
                progress,
            },
        );
        self.kept.keep(past);
        written
    }

    /// Reads what of the prompt is not yet read, and writes behind it.
    fn write_behind(
        &self,
        prompt: Vec<u32>,
        decoder: &Decoder,
        past: &mut Past,
        work: &Work<'_>,
    ) -> Result<Text, EngineError> {
        let Work {
            task,
            length,
            progress,
        } = *work;
        let go_on = || !progress.cancelled();
        let mut writing = Writing::new(task);
        let mut chooser = Chooser::new(&task.sampling, task.seed.unwrap_or_else(any_seed));
        let banned = match task.sampling.use_default_badwordsids {
            Some(true) => self.tokenizer.all_ends(),
            _ => &[],
        };
        let mut written = prompt;
        for step in (1..).take(length) {
            let unread = written.get(past.len()..).unwrap_or_default();
            let logits = past.read(decoder, unread, &go_on)?;
            let chosen = chooser.choose(&logits, &written, banned);
            let Some(token) = chosen.filter(|token| !self.tokenizer.ends(*token)) else {
                return Ok(writing.finished(Finish::Stop, progress));
            };
            written.push(token);
            let goes_on = writing.add(self.tokenizer.piece(token), progress);
            progress.step(Step {
                step,
                of: task.max_length,
                preview: None,
            });
            if !goes_on {
                return Ok(writing.finished(Finish::Stop, progress));
            }
        }
        Ok(writing.finished(Finish::Length, progress))
    }

    /// The context and the length of a text, in tokens, as far as they can be had.
    fn limits(&self, task: &TextTask) -> (usize, usize) {
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let context = size(task.max_context_length).clamp(2, self.context);
        (context, size(task.max_length).min(context - 1))
    }
}

impl TextEngine for NativeText {
    fn capabilities(&self) -> Result<TextCapabilities, TextError> {
        let context = u32::try_from(self.context).unwrap_or(u32::MAX);
        Ok(TextCapabilities {
            model: self.name.clone(),
            max_length: Some(MAX_LENGTH.min(context)),
            max_context_length: Some(context),
            soft_prompts: Vec::new(),
            vision: false,
            engine: TextCapabilities::NATIVE_ENGINE,
            mode: TextCapabilities::NATIVE_MODE,
        })
    }

    fn write(&self, task: &TextTask, progress: &dyn ProgressSink) -> Result<Text, TextError> {
        if let Some(name) = &task.soft_prompt {
            return Err(TextError::Refused {
                reason: format!("there is no soft prompt `{name}`"),
            });
        }
        task.check_pictures(false)?;
        self.try_write(task, progress).map_err(|error| match error {
            EngineError::Cancelled => TextError::Cancelled,
            error => TextError::Failed {
                reason: crate::host::chain(&error),
            },
        })
    }
}

/// A text that is asked for.
struct Work<'t> {
    task: &'t TextTask,
    /// Its greatest length, in tokens, as far as it can be had.
    length: usize,
    progress: &'t dyn ProgressSink,
}

/// A seed that nobody can foresee.
fn any_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
