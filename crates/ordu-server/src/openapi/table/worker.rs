//! Workers, and what is said to them.

use ordu_api::message::{MessageInput, MessageView};
use ordu_api::operation::Done;
use ordu_api::schema::Kind;
use ordu_api::worker::{WorkerChanged, WorkerDeleted, WorkerInput, WorkerView};

use crate::openapi::operation::{Group, delete, get, post, put};

const SEES_MORE: &str = "Its owner and moderators see more.";

pub(super) fn workers() -> Group {
    Group {
        name: "Workers",
        doc: "Who does the work.",
        operations: vec![
            get("/workers", "Lists the workers that are online")
                .optional_key("Moderators see more.")
                .query(
                    "type",
                    Kind::TEXT,
                    "`image`, `text` or `interrogation`; `all` for all, the default.",
                )
                .query("name", Kind::TEXT, "Only the worker of this name.")
                .answers::<Vec<WorkerView>>(200, "The workers"),
            get("/workers/{worker_id}", "Shows a worker")
                .optional_key(SEES_MORE)
                .path("worker_id", "The worker's id.")
                .answers::<WorkerView>(200, "The worker"),
            get("/workers/name/{worker_name}", "Shows the worker of a name")
                .optional_key(SEES_MORE)
                .path("worker_name", "The worker's name, in its capitals.")
                .answers::<WorkerView>(200, "The worker"),
            put("/workers/{worker_id}", "Changes a worker")
                .key("its owner or a moderator; some members are for moderators only")
                .path("worker_id", "The worker's id.")
                .body::<WorkerInput>(
                    r#"{"maintenance": true, "maintenance_msg": "A new fan is on its way"}"#,
                )
                .answers::<WorkerChanged>(200, "What was changed")
                .refuses(&[403]),
            delete("/workers/{worker_id}", "Removes a worker")
                .key("its owner or a moderator")
                .path("worker_id", "The worker's id.")
                .answers::<WorkerDeleted>(200, "What was removed")
                .refuses(&[403, 423]),
        ],
    }
}

pub(super) fn messages() -> Group {
    Group {
        name: "Messages",
        doc: "What is said to those who run workers.",
        operations: vec![
            get("/workers/messages", "Lists messages")
                .key("an account; only moderators see those of others")
                .query("user_id", Kind::TEXT, "Only those that this account wrote.")
                .query("worker_id", Kind::TEXT, "Only those to this worker.")
                .query(
                    "validity",
                    Kind::Choice(&["active", "expired", "all"]),
                    "Which of them, default `active`.",
                )
                .query("page", Kind::INTEGER, "Pages of 50, from 1.")
                .answers::<Vec<MessageView>>(200, "The messages")
                .refuses(&[403]),
            post("/workers/messages", "Writes to one worker or to all")
                .key("its owner; of a moderator to write to others or to all")
                .body::<MessageInput>(r#"{"message": "Thank you for your help", "expiry": 12}"#)
                .answers::<MessageView>(200, "The message")
                .refuses(&[403, 404]),
            get("/workers/messages/{message_id}", "Shows a message")
                .path("message_id", "The message's id.")
                .answers::<MessageView>(200, "The message"),
            delete("/workers/messages/{message_id}", "Takes a message back")
                .key("its author or a moderator")
                .path("message_id", "The message's id.")
                .answers::<Done>(200, "It is gone")
                .refuses(&[403]),
        ],
    }
}
