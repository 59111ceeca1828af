//! The one error of this crate. Its variants are what a caller can do differently.

use std::path::PathBuf;

/// Why a task, or the opening of a model, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Ask for one of the known models instead.
    #[error("unknown model `{name}`; known: {}", known.join(", "))]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// What could have been asked for.
        known: Vec<String>,
    },

    /// Change the task: a size, count or picture cannot be computed.
    #[error("cannot run this task: {reason}")]
    BadTask {
        /// What, with which value, and the border.
        reason: String,
    },

    /// Replace the model file: it is damaged, hostile, of an unknown kind or incomplete. Names the
    /// tensors concerned.
    #[error("model `{model}` cannot be used: {reason}")]
    BadModel {
        /// Name or file.
        model: String,
        /// What is wrong, with names and shapes.
        reason: String,
    },

    /// Put a tokenizer where the message says.
    #[error(
        "model `{model}` has no tokenizer: put `tokenizer.json`, or `vocab.json` and `merges.txt`, of \
         its text encoder into {place}"
    )]
    NoTokenizer {
        /// Name of the model.
        model: String,
        /// The folders that were searched.
        place: String,
    },

    /// Choose another device, or mend or build in this one.
    #[error("cannot compute on `{device}`: {reason}")]
    NoDevice {
        /// What was asked for.
        device: String,
        /// Why it is of no use, and what to do.
        reason: String,
    },

    /// Leave the add-on out, or put its file where the engine looks: nothing was drawn yet.
    #[error("there is no add-on `{name}` where the engine looks")]
    NoAddOn {
        /// As the task names it.
        name: String,
    },

    /// Leave the add-on out: it was made for another family of models. Nothing was drawn yet.
    #[error("the add-on `{name}` is for another family of models: {reason}")]
    AddOnMismatch {
        /// As the task names it.
        name: String,
        /// What of it does not fit, with names and shapes.
        reason: String,
    },

    /// Leave the add-on out, or replace its file: it is damaged, hostile or of an unknown kind. Nothing
    /// was drawn yet.
    #[error("the add-on `{name}` cannot be used: {reason}")]
    BadAddOn {
        /// As the task names it.
        name: String,
        /// What is wrong, with names and shapes.
        reason: String,
    },

    /// Try again: the process of the engine ended, or was ended, in the middle of it.
    #[error("the process of the engine ended: {reason}")]
    Crashed {
        /// How, as the system says, or why it was ended.
        reason: String,
    },

    /// Report it: the process of the engine could not do it, in a way that no input should cause.
    #[error("{reason}")]
    Failed {
        /// What it said.
        reason: String,
    },

    /// Wait until the other program is there again, or start it.
    #[error("{backend} cannot be reached: {reason}")]
    Unreachable {
        /// Which program, where.
        backend: String,
        /// What was tried and what came of it.
        reason: String,
    },

    /// Look at the other program: it refused or failed the task, or answered nonsense.
    #[error("{backend} failed: {reason}")]
    Backend {
        /// Which program, where.
        backend: String,
        /// What it said, or what is wrong with its answer.
        reason: String,
    },

    /// Nothing: the caller asked for it.
    #[error("cancelled")]
    Cancelled,

    /// Mend the file or its permissions.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },

    /// Report it: a computation failed in a way that no input should cause.
    #[error("tensor computation failed")]
    Tensor(#[from] candle_core::Error),
}

impl EngineError {
    pub(crate) fn crashed(reason: impl Into<String>) -> Self {
        Self::Crashed {
            reason: reason.into(),
        }
    }

    pub(crate) fn bad_task(reason: impl Into<String>) -> Self {
        Self::BadTask {
            reason: reason.into(),
        }
    }

    pub(crate) fn bad_add_on(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::BadAddOn {
            name: name.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn mismatch(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::AddOnMismatch {
            name: name.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn bad_model(model: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::BadModel {
            model: model.into(),
            reason: reason.into(),
        }
    }
}
