//! Styles, and collections of them.

use ordu_api::collection::{CollectionChange, CollectionForm, CollectionView};
use ordu_api::image::ImageParams;
use ordu_api::operation::Done;
use ordu_api::schema::Kind;
use ordu_api::style::{
    ExampleChange, ExampleForm, ExampleSaved, Saved, StyleChange, StyleForm, StyleView,
};
use ordu_api::text::TextParams;
use ordu_api::{CollectionId, StyleId};

use crate::openapi::operation::{Group, Operation, delete, get, patch, post};

const MAKER: &str = "an account that is trusted or a customizer";
const OWNER: &str = "its owner";
const KEEPER: &str = "its owner or a moderator";
const STYLE: &str = "The style's id.";

fn listed(operation: Operation) -> Operation {
    operation
        .query(
            "sort",
            Kind::Choice(&["popular", "age"]),
            "What comes first, default `popular`.",
        )
        .query("page", Kind::INTEGER, "From 1.")
}

fn filtered(operation: Operation) -> Operation {
    listed(operation)
        .query("tag", Kind::TEXT, "Only those with this tag.")
        .query("model", Kind::TEXT, "Only those for this model.")
}

pub(super) fn styles() -> Group {
    let mut operations = image_styles();
    operations.extend(text_styles());
    Group {
        name: "Styles",
        doc: "Ways to ask, made by some for all.",
        operations,
    }
}

fn image_styles() -> Vec<Operation> {
    vec![
        filtered(get("/styles/image", "Lists styles for pictures"))
            .answers::<Vec<StyleView>>(200, "The public ones"),
        post("/styles/image", "Makes a style for pictures")
            .key(MAKER)
            .body::<StyleForm<ImageParams>>(
                r#"{"name": "My Style", "info": "Paints like a child", "prompt": "{p}, crayons{np}", "params": {"steps": 20}, "models": ["ordu-tiny"]}"#,
            )
            .answers::<Saved<StyleId>>(200, "It is made")
            .refuses(&[403]),
        get("/styles/image/{style_id}", "Shows a style")
            .path("style_id", STYLE)
            .answers::<StyleView>(200, "The style"),
        patch("/styles/image/{style_id}", "Changes a style")
            .key(OWNER)
            .path("style_id", STYLE)
            .body::<StyleChange<ImageParams>>(r#"{"info": "Paints like an old child"}"#)
            .answers::<Saved<StyleId>>(200, "It is changed")
            .refuses(&[403]),
        delete("/styles/image/{style_id}", "Removes a style")
            .key(KEEPER)
            .path("style_id", STYLE)
            .answers::<Done>(200, "It is gone")
            .refuses(&[403]),
        get("/styles/image_by_name/{style_name}", "Shows the style of a name")
            .path("style_name", "Its name, or `alias::style::name`.")
            .answers::<StyleView>(200, "The style"),
        post("/styles/image/{style_id}/example", "Adds a picture that shows what a style does")
            .key(KEEPER)
            .path("style_id", STYLE)
            .body::<ExampleForm>(r#"{"url": "https://example.org/a.webp", "primary": true}"#)
            .answers::<ExampleSaved>(200, "It is added")
            .refuses(&[403]),
        patch("/styles/image/{style_id}/example/{example_id}", "Changes an example")
            .key(KEEPER)
            .path("style_id", STYLE)
            .path("example_id", "The example's id.")
            .body::<ExampleChange>(r#"{"url": "https://example.org/b.webp"}"#)
            .answers::<ExampleSaved>(200, "It is changed")
            .refuses(&[403]),
        delete("/styles/image/{style_id}/example/{example_id}", "Removes an example")
            .key(KEEPER)
            .path("style_id", STYLE)
            .path("example_id", "The example's id.")
            .answers::<Done>(200, "It is gone")
            .refuses(&[403]),
    ]
}

fn text_styles() -> Vec<Operation> {
    vec![
        filtered(get("/styles/text", "Lists styles for texts"))
            .answers::<Vec<StyleView>>(200, "The public ones"),
        post("/styles/text", "Makes a style for texts")
            .key(MAKER)
            .body::<StyleForm<TextParams>>(
                r#"{"name": "My Tale", "info": "Tells like a grandmother", "prompt": "Once upon a time, {p}{np}", "params": {"temperature": 0.7}, "models": ["koboldcpp/LLaMA2-13B-Tiefighter"]}"#,
            )
            .answers::<Saved<StyleId>>(200, "It is made")
            .refuses(&[403]),
        get("/styles/text/{style_id}", "Shows a style")
            .path("style_id", STYLE)
            .answers::<StyleView>(200, "The style"),
        patch("/styles/text/{style_id}", "Changes a style")
            .key(OWNER)
            .path("style_id", STYLE)
            .body::<StyleChange<TextParams>>(r#"{"info": "Tells like a young grandmother"}"#)
            .answers::<Saved<StyleId>>(200, "It is changed")
            .refuses(&[403]),
        delete("/styles/text/{style_id}", "Removes a style")
            .key(KEEPER)
            .path("style_id", STYLE)
            .answers::<Done>(200, "It is gone")
            .refuses(&[403]),
        get("/styles/text_by_name/{style_name}", "Shows the style of a name")
            .path("style_name", "Its name, or `alias::style::name`.")
            .answers::<StyleView>(200, "The style"),
    ]
}

pub(super) fn collections() -> Group {
    const ID: &str = "The collection's id.";
    Group {
        name: "Collections",
        doc: "Styles of one kind, of which one is picked by chance.",
        operations: vec![
            listed(get("/collections", "Lists collections"))
                .query("type", Kind::Choice(&["all", "image", "text"]), "Which, default `all`.")
                .answers::<Vec<CollectionView>>(200, "The public ones"),
            post("/collections", "Makes a collection")
                .key("an account that is not anonymous")
                .body::<CollectionForm>(
                    r#"{"name": "My Collection", "styles": ["00000000-0000-4000-8000-000000000000"]}"#,
                )
                .answers::<Saved<CollectionId>>(200, "It is made")
                .refuses(&[403, 404]),
            get("/collections/{collection_id}", "Shows a collection")
                .path("collection_id", ID)
                .answers::<CollectionView>(200, "The collection"),
            patch("/collections/{collection_id}", "Changes a collection")
                .key(OWNER)
                .path("collection_id", ID)
                .body::<CollectionChange>(r#"{"info": "All that I know"}"#)
                .answers::<Saved<CollectionId>>(200, "It is changed")
                .refuses(&[403]),
            delete("/collections/{collection_id}", "Removes a collection")
                .key(KEEPER)
                .path("collection_id", ID)
                .answers::<Done>(200, "It is gone")
                .refuses(&[403]),
            get("/collection_by_name/{collection_name}", "Shows the collection of a name")
                .path("collection_name", "Its name, or `alias::collection::name`.")
                .answers::<CollectionView>(200, "The collection"),
        ],
    }
}
