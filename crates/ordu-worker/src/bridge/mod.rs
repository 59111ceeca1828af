//! From what the horde says to what the engine does. Pure; one file per kind of work.

pub(crate) mod image;
mod prompt;
pub(crate) mod text;
