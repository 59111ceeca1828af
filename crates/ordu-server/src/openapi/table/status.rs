//! The state of the horde, and what it made.

use ordu_api::document::DocumentView;
use ordu_api::history::History;
use ordu_api::model::ModelEntry;
use ordu_api::schema::Kind;
use ordu_api::status::{
    Heartbeat, ImageCount, MODES_SCHEMA, ModelCounts, ModelStatus, Modes, ModesChange, NewsPiece,
    Performance, TextCount, Totals,
};

use crate::openapi::operation::{Group, Operation, get, put};

const MODEL_STATES: Kind = Kind::Choice(&["known", "custom", "all"]);

pub(super) fn status() -> Group {
    Group {
        name: "Status",
        doc: "The state of the horde as a whole.",
        operations: vec![
            get("/status/heartbeat", "Says that this node lives")
                .query(
                    "strict",
                    Kind::TEXT,
                    "`1` if the status is to say how it is.",
                )
                .answers::<Heartbeat>(200, "Facts of this node")
                .answers::<Heartbeat>(503, "Asked strictly: the database cannot be reached")
                .of_node(),
            get(
                "/status/performance",
                "Says how much there is to do, and who does it",
            )
            .answers::<Performance>(200, "The load"),
            get("/status/models", "Lists the models that workers serve")
                .query(
                    "type",
                    Kind::TEXT,
                    "`image`, the default, or `text`; others have no models.",
                )
                .query(
                    "min_count",
                    Kind::INTEGER,
                    "Served by at least so many workers.",
                )
                .query(
                    "max_count",
                    Kind::INTEGER,
                    "Served by at most so many workers.",
                )
                .query(
                    "model_state",
                    MODEL_STATES,
                    "Known to the model reference or not, default `all`.",
                )
                .answers::<Vec<ModelStatus>>(200, "The models"),
            get("/status/models/{model_name}", "Shows a model")
                .path("model_name", "The model's name; it may be escaped twice.")
                .answers::<Vec<ModelStatus>>(200, "None or one"),
            known_model(),
            get("/status/news", "Lists the operator's news")
                .answers::<Vec<NewsPiece>>(200, "The newest first"),
            get("/status/modes", "Shows the switches of the horde")
                .optional_key("Moderators see `raid_mode`; other keys are refused.")
                .answers::<Modes>(200, "The switches")
                .refuses(&[401, 403]),
            get(
                "/status/pulse",
                "Tells what happens in the horde, for onlookers",
            )
            .note(
                "Not part of the deployed protocol. Each second in which something happened, \
                     and at once how things are. A node tells of its own.",
            )
            .answers_stream(200, "Events named `pulse`, without an end"),
            put("/status/modes", "Turns switches of the horde")
                .key("a moderator; an admin for `maintenance_mode`")
                .table(MODES_SCHEMA, r#"{"invite_only_mode": false}"#)
                .answers::<ModesChange>(200, "What was turned")
                .refuses(&[403]),
        ],
    }
}

fn known_model() -> Operation {
    get(
        "/reference/models/{model_name}",
        "Shows what is known about a model",
    )
    .note("Not part of the deployed protocol.")
    .path("model_name", "The model's name.")
    .query(
        "type",
        Kind::Choice(&["image", "text"]),
        "For which work, default `image`.",
    )
    .answers::<ModelEntry>(200, "Its family, and what it wants from a request")
}

pub(super) fn statistics() -> Group {
    Group {
        name: "Statistics",
        doc: "What the horde made.",
        operations: vec![
            get("/stats/img/totals", "Counts pictures")
                .answers::<Totals<ImageCount>>(200, "Over five spans of time"),
            get("/stats/img/models", "Counts pictures by model")
                .query(
                    "model_state",
                    MODEL_STATES,
                    "Known to the model reference or not, default `known`.",
                )
                .answers::<ModelCounts>(200, "Over three spans of time"),
            get("/stats/text/totals", "Counts texts")
                .answers::<Totals<TextCount>>(200, "Over five spans of time"),
            get("/stats/text/models", "Counts texts by model")
                .answers::<ModelCounts>(200, "Over three spans of time"),
            get("/stats/history", "Shows how the horde was doing over time")
                .note("Not part of the deployed protocol.")
                .query(
                    "kind",
                    Kind::Choice(&["image", "text", "alchemy"]),
                    "Of what, default `image`.",
                )
                .query(
                    "step",
                    Kind::Choice(&["hour", "day"]),
                    "Hours are kept for 14 days, days for two years; default `hour`.",
                )
                .query(
                    "since",
                    Kind::INTEGER,
                    "From when on, in Unix seconds; default 48 hours or 30 days ago.",
                )
                .answers::<History>(200, "The oldest step first; the last one is not over yet"),
        ],
    }
}

pub(super) fn documents() -> Group {
    Group {
        name: "Documents",
        doc: "What the operator has to say.",
        operations: vec![
            document("/documents/terms", "Shows the terms of service"),
            document("/documents/privacy", "Shows the privacy policy"),
            document(
                "/documents/sponsors",
                "Shows who supports the horde with money",
            ),
        ],
    }
}

fn document(path: &'static str, summary: &'static str) -> Operation {
    get(path, summary)
        .query(
            "format",
            Kind::Choice(&["html", "markdown"]),
            "In which form, default `html`.",
        )
        .answers::<DocumentView>(200, "The text")
}
