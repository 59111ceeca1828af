//! Each test is a function of a database: it runs on SQLite always, and on PostgreSQL when
//! `ORDU_TEST_POSTGRES` holds an address. `ORDU_TEST_NO_SKIP=1` makes a skip a failure.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking and talks to whoever runs it"
)]

/// Makes a test on each database from functions of a [`database::Database`].
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[test]
            fn $name() {
                crate::database::run_on_sqlite(async |database| super::$name(database).await);
            })+
        }

        mod postgres {
            $(#[test]
            fn $name() {
                crate::database::run_on_postgres(async |database| super::$name(database).await);
            })+
        }
    };
}

mod database;
mod world;

mod audit;
mod backup;
mod change;
mod collection;
mod example;
mod group;
mod guard;
mod history;
mod import;
mod job;
mod ledger;
mod load;
mod message;
mod posting;
mod probe;
mod registration;
mod rehearsal;
mod request;
mod schema;
mod setting;
mod shared_key;
mod statistics;
mod style;
mod team;
mod transfer;
mod trust;
mod trust_audit;
mod user;
mod webhook;
mod worker;
