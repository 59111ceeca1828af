//! Teams of workers.
//!
//! What their workers made is moved into them by the fold, how long these were online is written
//! behind: no job and no check-in waits for a team's row.

use ordu_api::{TeamId, UserId};
use ordu_core::{Kudos, Timestamp};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use crate::Store;
use crate::error::{Error, Result};
use crate::pool::{Dialect, args};
use crate::worker::found;

/// A team to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTeam {
    /// Its id.
    pub id: TeamId,
    /// Its name, unique whatever the capitals.
    pub name: String,
    /// What is said about it.
    pub info: Option<String>,
    /// Who makes it.
    pub creator: UserId,
    /// When.
    pub created: Timestamp,
}

/// A team as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    /// Its id.
    pub id: TeamId,
    /// Its name.
    pub name: String,
    /// What is said about it.
    pub info: Option<String>,
    /// Who made it.
    pub creator: UserId,
    /// When.
    pub created: Timestamp,
    /// Seconds that its workers were online.
    pub uptime: i64,
    /// Pictures that its workers made, as far as folded.
    pub fulfilled: i64,
    /// Pixelsteps of these, as far as folded.
    pub things: i64,
    /// Earned by these, as far as folded.
    pub kudos: Kudos,
}

/// What to change about a team; `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the members of `Team`")]
pub struct TeamChange {
    pub name: Option<String>,
    pub info: Option<String>,
}

#[derive(Debug, FromRow)]
struct TeamRow {
    id: Uuid,
    name: String,
    info: Option<String>,
    creator: i64,
    created: i64,
    uptime: i64,
    fulfilled: i64,
    things: i64,
    kudos: i64,
}

impl TeamRow {
    fn into_team(self) -> Result<Team> {
        let creator = UserId::new(self.creator);
        Ok(Team {
            id: TeamId::from_uuid(self.id),
            name: self.name,
            info: self.info,
            creator: creator
                .ok_or_else(|| Error::corrupt("teams.creator", &self.creator.to_string()))?,
            created: Timestamp(self.created),
            uptime: self.uptime,
            fulfilled: self.fulfilled,
            things: self.things,
            kudos: Kudos::from_milli(self.kudos),
        })
    }
}

/// How much longer the workers of a team were online, as the statements take it.
#[derive(Debug, Serialize)]
pub(crate) struct UptimeRow {
    pub(crate) id: String,
    pub(crate) seconds: i64,
}

/// How uptime is added, on either database.
pub(crate) const fn add_uptime(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => {
            "
    UPDATE teams
    SET uptime = uptime + (i.value ->> 'seconds')
    FROM json_each($1) AS i
    WHERE teams.id = unhex(i.value ->> 'id')"
        }
        Dialect::Postgres => {
            "
    UPDATE teams AS t
    SET uptime = t.uptime + i.seconds
    FROM json_to_recordset(CAST($1 AS JSON)) AS i (id UUID, seconds BIGINT)
    WHERE t.id = i.id"
        }
    }
}

const INSERT: &str = "
    INSERT INTO teams (id, name, name_folded, info, creator, created)
    VALUES ($1, $2, $3, $4, $5, $6)";

/// The members of [`TeamRow`], before a condition.
macro_rules! select_teams {
    ($condition:literal) => {
        concat!(
            "
    SELECT id, name, info, creator, created, uptime, fulfilled, things, kudos
    FROM teams
    ",
            $condition
        )
    };
}

const FIND: &str = select_teams!("WHERE id = $1");
const LIST: &str = select_teams!("ORDER BY created, id");

const UPDATE: &str = "
    UPDATE teams
    SET name = COALESCE($2, name),
        name_folded = COALESCE($3, name_folded),
        info = COALESCE($4, info)
    WHERE id = $1";

const DETACH_WORKERS: &str = "
    UPDATE workers
    SET team = NULL
    WHERE team = $1";

const DELETE: &str = "
    DELETE FROM teams
    WHERE id = $1";

impl Store {
    /// Writes a new team.
    ///
    /// # Errors
    /// [`Error::Taken`] when a team has its name, whatever the capitals.
    pub async fn insert_team(&self, team: &NewTeam) -> Result<()> {
        let values = args![
            team.id.uuid(),
            team.name.clone(),
            team.name.to_lowercase(),
            team.info.clone(),
            team.creator.get(),
            team.created.0,
        ];
        self.pool.execute(INSERT, values).await?;
        Ok(())
    }

    /// One team.
    pub async fn find_team(&self, id: TeamId) -> Result<Option<Team>> {
        let row: Option<TeamRow> = self.pool.one(FIND, args![id.uuid()]).await?;
        row.map(TeamRow::into_team).transpose()
    }

    /// All teams, oldest first.
    pub async fn list_teams(&self) -> Result<Vec<Team>> {
        let rows = self.pool.all(LIST, args![]).await?;
        rows.into_iter().map(TeamRow::into_team).collect()
    }

    /// Changes a team, all of it at once.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Taken`] when another team has the new name.
    pub async fn update_team(&self, id: TeamId, change: &TeamChange) -> Result<()> {
        let values = args![
            id.uuid(),
            change.name.clone(),
            change.name.as_deref().map(str::to_lowercase),
            change.info.clone(),
        ];
        found(self.pool.execute(UPDATE, values).await?)
    }

    /// Deletes a team; its workers are in none afterwards.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete_team(&self, id: TeamId) -> Result<()> {
        let mut connection = self.pool.begin().await?;
        let deleted = async {
            connection.execute(DETACH_WORKERS, args![id.uuid()]).await?;
            found(connection.execute(DELETE, args![id.uuid()]).await?)
        }
        .await;
        connection.end(deleted).await
    }

    /// Notes that a worker of a team was online for so long; written within a second or so, lost in
    /// a crash.
    pub fn team_online_later(&self, team: TeamId, seconds: i64) {
        self.behind.team_online(team, seconds);
    }
}
