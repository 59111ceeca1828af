//! One function per subcommand: everything it needs comes in, an exit code goes out.

pub(crate) mod admin;
pub(crate) mod bench;
pub(crate) mod bot;
pub(crate) mod doctor;
pub(crate) mod host;
pub(crate) mod imagine;
pub(crate) mod manual;
pub(crate) mod models;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod up;
pub(crate) mod work;
pub(crate) mod write;

mod data;
mod engines;
mod explanation;
mod files;
mod page;
mod picture;
mod remix;
mod signals;
mod supply;
mod target;
mod terminal;
