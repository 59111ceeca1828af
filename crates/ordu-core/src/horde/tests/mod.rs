//! The horde, tested through a world in text: see [`world`].

mod alchemy;
mod blame;
mod books;
mod explain;
mod flow;
mod limits;
mod nodes;
mod order;
mod properties;
mod rules;
mod text;
mod twin;
mod workers;
mod world;
