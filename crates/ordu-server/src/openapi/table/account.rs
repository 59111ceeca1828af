//! Accounts, their keys and their kudos.

use ordu_api::history::KudosHistory;
use ordu_api::kudos::{Awarded, GIFT_SCHEMA, Transferred};
use ordu_api::operation::Done;
use ordu_api::registration::{FreshKey, NewUserInput};
use ordu_api::schema::Kind;
use ordu_api::shared_key::{SharedKeyInput, SharedKeyView};
use ordu_api::user::{
    ListedUser, TEST_USER_SCHEMA, TestUser, UserChanged, UserInput, UserView, WebhookSecret,
};

use crate::openapi::operation::{Group, delete, get, patch, post, put};

const NUMBER: &str = "The account's number.";

pub(super) fn accounts() -> Group {
    Group {
        name: "Accounts",
        doc: "Who asks, works and keeps order.",
        operations: vec![
            get("/find_user", "Shows the account of a key")
                .key("an account; a shared key shows the public view of its owner")
                .answers::<UserView>(200, "The account")
                .refuses(&[404]),
            get("/users", "Lists accounts")
                .query("page", Kind::INTEGER, "Pages of 25, from 1.")
                .query(
                    "sort",
                    Kind::TEXT,
                    "`kudos`, the default, the richest first; or `age`, the oldest first.",
                )
                .answers::<Vec<ListedUser>>(200, "Their public views"),
            post("/users", "Makes an account")
                .note("Not part of the deployed protocol, and only where the operator allows it.")
                .body::<NewUserInput>(r#"{"username": "somebody new"}"#)
                .answers::<FreshKey>(201, "The account, with its key")
                .refuses(&[403]),
            get("/users/{user_id}", "Shows an account")
                .optional_key("The account itself and moderators see more.")
                .path("user_id", NUMBER)
                .answers::<UserView>(200, "The account")
                .refuses(&[401]),
            put("/users/{user_id}", "Changes an account")
                .key("the account itself, a moderator or an admin, by member")
                .path("user_id", NUMBER)
                .body::<UserInput>(r#"{"public_workers": true}"#)
                .answers::<UserChanged>(200, "What was changed")
                .refuses(&[403]),
            delete("/users/{user_id}", "Marks an account as deleted, then wipes it")
                .key("the account itself or a moderator")
                .path("user_id", NUMBER)
                .answers::<Done>(200, "It was done")
                .refuses(&[403]),
            post("/users/{user_id}/key", "Makes a new key for an account")
                .note("Not part of the deployed protocol. The old key stops working.")
                .key("the account itself")
                .path("user_id", NUMBER)
                .answers::<FreshKey>(200, "The account, with its new key")
                .refuses(&[403]),
            get("/webhooks/secret", "Shows what signs the webhooks of an account")
                .note("Not part of the deployed protocol.")
                .key("an account that is not anonymous")
                .answers::<WebhookSecret>(200, "The secret")
                .refuses(&[403]),
            post("/dev/test-user", "Makes or refreshes a user for tests")
                .note("Only on the server's own machine, and where the operator allows it.")
                .table(
                    TEST_USER_SCHEMA,
                    r#"{"username": "test_user", "oauth_id": "ci_test_user", "moderator": false, "trusted": true, "kudos": 10000}"#,
                )
                .or_nothing()
                .answers::<TestUser>(200, "The user was there already, and has a new key")
                .answers::<TestUser>(201, "The user is new")
                .refuses(&[403, 404]),
        ],
    }
}

pub(super) fn shared_keys() -> Group {
    const ID: &str = "The shared key itself.";
    Group {
        name: "Shared keys",
        doc: "Keys with a budget of their own, to give away.",
        operations: vec![
            put("/sharedkeys", "Makes a shared key")
                .key("an account that is not anonymous")
                .body::<SharedKeyInput>(r#"{"name": "For friends", "kudos": 5000, "expiry": 30}"#)
                .or_nothing()
                .answers::<SharedKeyView>(200, "The key")
                .refuses(&[403]),
            get("/sharedkeys/{sharedkey_id}", "Shows a shared key")
                .path("sharedkey_id", ID)
                .answers::<SharedKeyView>(200, "The key")
                .refuses(&[401]),
            patch("/sharedkeys/{sharedkey_id}", "Changes a shared key")
                .key("its owner")
                .path("sharedkey_id", ID)
                .body::<SharedKeyInput>(r#"{"kudos": 1000}"#)
                .answers::<SharedKeyView>(200, "The key")
                .refuses(&[403]),
            delete("/sharedkeys/{sharedkey_id}", "Withdraws a shared key")
                .note("Requests that it pays for are cancelled.")
                .key("its owner")
                .path("sharedkey_id", ID)
                .answers::<Done>(200, "It is gone")
                .refuses(&[403]),
        ],
    }
}

pub(super) fn kudos() -> Group {
    Group {
        name: "Kudos",
        doc: "From account to account.",
        operations: vec![
            post("/kudos/transfer", "Gives kudos to somebody")
                .key("an account that is not anonymous")
                .header(
                    "Idempotency-Key",
                    Kind::text(0, 255),
                    "Names the attempt: repeated, it gives only once.",
                )
                .table(GIFT_SCHEMA, r#"{"username": "somebody#3", "amount": 10}"#)
                .answers::<Transferred>(200, "How much was given")
                .refuses(&[403]),
            post("/kudos/award", "Thanks somebody with new kudos")
                .key("an account that the operator named")
                .table(GIFT_SCHEMA, r#"{"username": "somebody#3", "amount": 10}"#)
                .answers::<Awarded>(200, "How much was given")
                .refuses(&[403]),
            get(
                "/kudos/history",
                "Lists what came to an account and what went",
            )
            .note("Not part of the deployed protocol.")
            .key("an account that is not anonymous")
            .query(
                "user",
                Kind::TEXT,
                "Whose, as a number or `name#id`, default one's own; others' for moderators.",
            )
            .query(
                "before",
                Kind::TEXT,
                "The `before` of the page before, for the next one.",
            )
            .answers::<KudosHistory>(200, "50 entries, the newest first")
            .refuses(&[403, 404]),
        ],
    }
}
