//! Every operation of the protocol, in reading order. Whoever adds a route adds a line here.

mod account;
mod generation;
mod moderation;
mod status;
mod style;
mod team;
mod worker;

use super::operation::Group;

/// All of them.
pub(crate) fn groups() -> Vec<Group> {
    vec![
        generation::images(),
        generation::texts(),
        generation::alchemy(),
        style::styles(),
        style::collections(),
        worker::workers(),
        worker::messages(),
        team::teams(),
        account::accounts(),
        account::shared_keys(),
        account::kudos(),
        status::status(),
        status::statistics(),
        status::documents(),
        moderation::filters(),
        moderation::addresses(),
        moderation::models(),
        moderation::records(),
    ]
}
