//! Keeping order.

use ordu_api::audit::AuditView;
use ordu_api::filter::{
    FilterChange, FilterRegex, FilterVerdict, FilterView, NewFilter, TRY_SCHEMA,
};
use ordu_api::model::{ModelEntries, ModelEntry, ModelInput};
use ordu_api::operation::{
    AddressTimeout, BlockWorkerAddress, Done, FreeAddress, NoticeView, TimeOutAddress,
    TrustAuditView,
};
use ordu_api::schema::Kind;

use crate::openapi::operation::{Group, delete, get, patch, post, put};

const MODERATOR: &str = "a moderator";
const FILTER: &str = "The filter's number.";
const WORKER: &str = "The worker's id.";

pub(super) fn filters() -> Group {
    const KIND: &str = "Only filters of this type.";
    Group {
        name: "Filters",
        doc: "What prompts are searched for.",
        operations: vec![
            get("/filters", "Lists filters")
                .key(MODERATOR)
                .query("filter_type", Kind::INTEGER, KIND)
                .query("contains", Kind::TEXT, "Only those that hold this text.")
                .answers::<Vec<FilterView>>(200, "The filters")
                .refuses(&[403]),
            put("/filters", "Adds a filter")
                .key(MODERATOR)
                .body::<NewFilter>(
                    r#"{"regex": "a bad w[o0]rd", "filter_type": 10, "description": "An example"}"#,
                )
                .answers::<FilterView>(200, "The filter")
                .refuses(&[403]),
            post("/filters", "Tries what a prompt would be found to hold")
                .key("a moderator, or of an account that the operator named")
                .table(TRY_SCHEMA, r#"{"prompt": "a red fox"}"#)
                .answers::<FilterVerdict>(200, "What was found")
                .refuses(&[403]),
            get("/filters/regex", "Shows the joined expressions")
                .key(MODERATOR)
                .query("filter_type", Kind::INTEGER, KIND)
                .answers::<Vec<FilterRegex>>(200, "One for each type")
                .refuses(&[403]),
            get("/filters/{filter_id}", "Shows a filter")
                .key(MODERATOR)
                .path("filter_id", FILTER)
                .answers::<FilterView>(200, "The filter")
                .refuses(&[403]),
            patch("/filters/{filter_id}", "Changes a filter")
                .key(MODERATOR)
                .path("filter_id", FILTER)
                .body::<FilterChange>(r#"{"description": "A better example"}"#)
                .answers::<FilterView>(200, "The filter")
                .refuses(&[403]),
            delete("/filters/{filter_id}", "Removes a filter")
                .key(MODERATOR)
                .path("filter_id", FILTER)
                .answers::<Done>(200, "It is gone")
                .refuses(&[403]),
        ],
    }
}

pub(super) fn addresses() -> Group {
    Group {
        name: "Addresses",
        doc: "Who is shut out.",
        operations: vec![
            get("/operations/ipaddr", "Lists the blocks that are shut out")
                .key(MODERATOR)
                .answers::<Vec<AddressTimeout>>(200, "The blocks")
                .refuses(&[403]),
            post("/operations/ipaddr", "Shuts an address or a block out")
                .key(MODERATOR)
                .body::<TimeOutAddress>(r#"{"ipaddr": "203.0.113.7", "hours": 1}"#)
                .answers::<Done>(200, "It is shut out")
                .refuses(&[403]),
            delete("/operations/ipaddr", "Lets an address or a block in again")
                .key(MODERATOR)
                .body::<FreeAddress>(r#"{"ipaddr": "203.0.113.7"}"#)
                .answers::<Done>(200, "It may come")
                .refuses(&[403]),
            get(
                "/operations/ipaddr/{ipaddr}",
                "Says for how long an address is shut out",
            )
            .key(MODERATOR)
            .path("ipaddr", "The address.")
            .answers::<Vec<AddressTimeout>>(200, "Itself, and blocks around it")
            .refuses(&[403]),
            put(
                "/operations/block_worker_ipaddr/{worker_id}",
                "Shuts the address of a worker out",
            )
            .key(MODERATOR)
            .path("worker_id", WORKER)
            .body::<BlockWorkerAddress>(r#"{"days": 1}"#)
            .answers::<Done>(200, "It is shut out")
            .refuses(&[403]),
            delete(
                "/operations/block_worker_ipaddr/{worker_id}",
                "Lets the address of a worker in again",
            )
            .key(MODERATOR)
            .path("worker_id", WORKER)
            .answers::<Done>(200, "It may come")
            .refuses(&[403]),
        ],
    }
}

pub(super) fn models() -> Group {
    const NAME: &str = "The model's name.";
    const KIND: Kind = Kind::Choice(&["image", "text"]);
    const WORK: &str = "What the model makes, default `image`.";
    Group {
        name: "Models",
        doc: "What moderators know about models. Not part of the deployed protocol.",
        operations: vec![
            get(
                "/operations/models",
                "Lists the entries that moderators wrote",
            )
            .key(MODERATOR)
            .answers::<ModelEntries>(200, "The entries")
            .refuses(&[403]),
            put(
                "/operations/models/{model_name}",
                "Writes an entry for a model",
            )
            .note("It counts more than what the documents say.")
            .key(MODERATOR)
            .path("model_name", NAME)
            .query("type", KIND, WORK)
            .body::<ModelInput>(
                r#"{"baseline": "stable_diffusion_xl", "requirements": {"min_steps": 20}}"#,
            )
            .answers::<ModelEntry>(200, "The entry")
            .refuses(&[403]),
            delete(
                "/operations/models/{model_name}",
                "Removes an entry for a model",
            )
            .key(MODERATOR)
            .path("model_name", NAME)
            .query("type", KIND, WORK)
            .answers::<Done>(200, "What the documents say counts again")
            .refuses(&[403]),
        ],
    }
}

pub(super) fn records() -> Group {
    Group {
        name: "Records",
        doc: "What moderators were told, and what they did. Not part of the deployed protocol.",
        operations: vec![
            get("/operations/notices", "Lists what moderators were told")
                .key(MODERATOR)
                .query("kind", Kind::TEXT, "Only those of this kind.")
                .query("page", Kind::integer(0, 4_294_967_295), "From 1.")
                .answers::<Vec<NoticeView>>(200, "The newest first")
                .refuses(&[403]),
            get(
                "/operations/trust-audits",
                "Lists pictures that were made once more to check a worker",
            )
            .note("Not part of the deployed protocol. Kept for 30 days.")
            .key("a moderator")
            .query("worker", Kind::TEXT, "Of this worker only, by its id.")
            .query(
                "page",
                Kind::integer(1, i64::MAX),
                "Which page of 50, default 1.",
            )
            .answers::<Vec<TrustAuditView>>(200, "The newest first")
            .refuses(&[403]),
            get("/operations/audit", "Lists what those did who keep order")
                .key(MODERATOR)
                .query("page", Kind::INTEGER, "Pages of 50, from 1.")
                .query(
                    "actor",
                    Kind::TEXT,
                    "Only by this account: its number or `name#number`.",
                )
                .query(
                    "operation",
                    Kind::TEXT,
                    "Only this operation, such as `user.update`.",
                )
                .query(
                    "target_type",
                    Kind::TEXT,
                    "Only to this kind of thing, such as `user`.",
                )
                .query("target", Kind::TEXT, "Only to the thing with this id.")
                .query(
                    "since",
                    Kind::INTEGER,
                    "Only since then, in seconds since 1970.",
                )
                .answers::<Vec<AuditView>>(200, "The newest first")
                .refuses(&[403]),
        ],
    }
}
