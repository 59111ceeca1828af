//! Connections to PostgreSQL.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::time::timeout;

use super::{ACQUIRE_TIMEOUT, DatabaseUrl, Databases, Options};
use crate::error::{Error, Result};
use crate::writer::WAYS;

/// After how long without use a connection is tested.
pub(crate) const QUIET: Duration = Duration::from_secs(30);

/// How long a test may take: less than whoever needs the connection waits, who then gets another one.
const TEST_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How statements are planned that name every row by its key. Left to itself, PostgreSQL plans them
/// while their tables are empty, to read those whole, and stays with that until a vacuum has counted
/// what they hold by then.
const BY_KEY: [(&str, &str); 3] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// Connections for those who read rows by their keys.
const KEYED: u32 = 4;

/// Connections for everything else, one of which hears notices. With those above and one for each way of
/// the line of writes, which keeps them, a node has 32 at most: three nodes fit into the hundred that
/// PostgreSQL allows by default.
const OTHERS: u32 = 10;

/// Who waits for no answer any more leaves a process behind that goes on, and may wait for a lock: it
/// looks now and then whether somebody is there. Where the system has no way to look, it is not asked to.
const LOOK_FOR_US: &str = "SET client_connection_check_interval = '3s'";

pub(super) async fn open_postgres(url: &DatabaseUrl, options: &Options) -> Result<Databases> {
    let mut connect = PgConnectOptions::from_str(&url.url)
        .map_err(|_| Error::Invalid("not an address of a PostgreSQL database".to_owned()))?;
    if connect.get_application_name().is_none() {
        connect = connect.application_name("ordu");
    }
    if let Some(node) = options.node {
        // The change log says who wrote a line.
        connect = connect.options([("ordu.node", node)]);
    }
    let of = |connections: u32| {
        PgPoolOptions::new()
            .max_connections(connections)
            // A test before every use would double the round trips. Connections that were quiet for
            // long may have been cut on the way; others fail their statement if they are dead.
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    let answer = timeout(TEST_TIMEOUT, sqlx::Connection::ping(connection));
                    Ok(meta.idle_for < QUIET || matches!(answer.await, Ok(Ok(()))))
                })
            })
            .acquire_timeout(ACQUIRE_TIMEOUT)
    };
    // Those of the line have an end of their own, and are opened while writes wait for them.
    let of_readers = |connections| {
        of(connections).after_connect(|connection, _| {
            Box::pin(async move {
                let asked = sqlx::raw_sql(LOOK_FOR_US).execute(connection).await;
                asked.map(drop).or_else(|error| match error {
                    sqlx::Error::Database(_) => Ok(()),
                    error => Err(error),
                })
            })
        })
    };
    let by_key = connect.clone().options(BY_KEY);
    let taken_back = options.patience() * 2 / 3;
    let in_line = [("statement_timeout", taken_back.as_millis())];
    Ok(Databases::Postgres {
        line: of(WAYS).connect_lazy_with(by_key.clone().options(in_line)),
        keyed: of_readers(KEYED).connect_lazy_with(by_key),
        pool: of_readers(OTHERS).connect_with(connect).await?,
    })
}
