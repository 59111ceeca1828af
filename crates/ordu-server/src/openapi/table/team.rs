//! Teams of workers.

use ordu_api::team::{NewTeam, TeamChanged, TeamDeleted, TeamInput, TeamView};

use crate::openapi::operation::{Group, delete, get, patch, post};

pub(super) fn teams() -> Group {
    const ID: &str = "The team's id.";
    Group {
        name: "Teams",
        doc: "Workers of several owners, counted together.",
        operations: vec![
            get("/teams", "Lists teams").answers::<Vec<TeamView>>(200, "All of them"),
            post("/teams", "Makes a team")
                .key("an account that is trusted")
                .body::<NewTeam>(r#"{"name": "My Team", "info": "We paint at night"}"#)
                .answers::<TeamChanged>(200, "The team")
                .refuses(&[403]),
            get("/teams/{team_id}", "Shows a team")
                .optional_key("A key changes nothing, but an unknown one is refused.")
                .path("team_id", ID)
                .answers::<TeamView>(200, "The team")
                .refuses(&[401, 403]),
            patch("/teams/{team_id}", "Changes a team")
                .key("its creator or a moderator")
                .path("team_id", ID)
                .body::<TeamInput>(r#"{"info": "We paint all day"}"#)
                .answers::<TeamChanged>(200, "The team")
                .refuses(&[403]),
            delete("/teams/{team_id}", "Removes a team")
                .key("its creator or a moderator")
                .path("team_id", ID)
                .answers::<TeamDeleted>(200, "What was removed")
                .refuses(&[403]),
        ],
    }
}
