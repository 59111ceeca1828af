//! `ordu admin style`: styles.

use anyhow::{Context as _, Result, bail};
use ordu_core::style::{Category, Name};
use ordu_server::Deed;
use ordu_store::Style;
use serde_json::{Value, json};

use super::Office;
use crate::cli::{StyleCommand, StyleList, StyleShow};
use crate::exit::Exit;

/// What a list shows to people.
const MEMBERS: &[&str] = &["id", "name", "type", "owner", "public", "use_count"];

pub(super) async fn run(what: StyleCommand) -> Result<Exit> {
    match what {
        StyleCommand::List(args) => list(args).await,
        StyleCommand::Show(args) => show(args).await,
        StyleCommand::Remove(args) => remove(args).await,
    }
}

impl Office {
    async fn style(&self, text: &str) -> Result<Style> {
        let by_id = match text.parse() {
            Ok(id) => self.store.find_style(id).await?,
            Err(_) => None,
        };
        if let Some(style) = by_id {
            return Ok(style);
        }
        let name = Name::parse(text);
        if name.category == Some(Category::Collection) {
            bail!("`{text}` names a collection, not a style");
        }
        let found = self.store.find_style_named(&name.name, name.owner).await?;
        found.with_context(|| format!("there is no style `{text}`: give its id or its name"))
    }
}

fn view(style: &Style) -> Value {
    let params: Value = serde_json::from_str(&style.params).unwrap_or_default();
    json!({
        "id": style.id, "name": style.name, "type": style.kind.name(), "owner": style.owner,
        "info": style.info, "prompt": style.prompt, "params": params, "models": style.models,
        "tags": style.tags, "public": style.public, "nsfw": style.nsfw,
        "shared_key": style.shared_key, "use_count": style.use_count,
        "created": style.created.seconds(),
    })
}

async fn list(args: StyleList) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let owner = office.named(args.user.as_deref()).await?;
    let kind = args.kind.as_deref().and_then(|kind| kind.parse().ok());
    let styles = office.store.list_every_style(owner, kind).await?;
    office.list(MEMBERS, styles.iter().map(view).collect());
    Ok(office.close().await)
}

async fn show(args: StyleShow) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let style = office.style(&args.style).await?;
    office.show(&view(&style));
    Ok(office.close().await)
}

async fn remove(args: StyleShow) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let style = office.style(&args.style).await?;
    let deed = Deed::of_operator("style.delete", "style", style.id);
    let deed = deed.change(json!({ "name": style.name }), json!({}));
    office
        .recorded(deed, office.store.delete_style(style.id))
        .await?;
    office.show(&json!({ "deleted_id": style.id, "deleted_name": style.name }));
    Ok(office.close().await)
}
