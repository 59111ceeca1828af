//! What each path answers, one file per noun.

pub(crate) mod alchemy;
pub(crate) mod image;
pub(crate) mod job;
pub(crate) mod rating;
pub(crate) mod request;
pub(crate) mod text;

pub(crate) mod collection;
pub(crate) mod event;
pub(crate) mod example;
pub(crate) mod kudos;
pub(crate) mod kudos_history;
pub(crate) mod message;
pub(crate) mod pulse;
pub(crate) mod shared_key;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod style;
pub(crate) mod team;
pub(crate) mod user;
pub(crate) mod user_edit;
pub(crate) mod user_list;
pub(crate) mod webhook;
pub(crate) mod worker;
pub(crate) mod worker_edit;

pub(crate) mod account;
pub(crate) mod audit;
pub(crate) mod blob;
pub(crate) mod description;
pub(crate) mod document;
pub(crate) mod filter;
pub(crate) mod gateway;
pub(crate) mod health;
pub(crate) mod horde_page;
pub(crate) mod model;
pub(crate) mod operation;
pub(crate) mod page;
pub(crate) mod register;
pub(crate) mod seen;
pub(crate) mod service;
pub(crate) mod sign_in;
pub(crate) mod transfer;
pub(crate) mod trust_audit;
