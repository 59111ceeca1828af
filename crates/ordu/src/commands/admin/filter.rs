//! `ordu admin filter`: the moderators' prompt filters.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use ordu_api::UserId;
use ordu_core::filter::{self, FilterSet, Terms};
use ordu_server::Deed;
use ordu_store::{Error, Filter, NewFilter};
use serde_json::{Value, json};

use super::Office;
use crate::cli::{
    FilterAdd, FilterChange, FilterCommand, FilterList, FilterParts, FilterRemove, FilterTest,
};
use crate::exit::Exit;

/// What a list shows to people.
const MEMBERS: &[&str] = &["id", "filter_type", "regex", "replacement", "description"];

/// The longest replacement, in characters.
const MAX_REPLACEMENT_CHARS: usize = 255;

pub(super) async fn run(what: FilterCommand) -> Result<Exit> {
    match what {
        FilterCommand::List(args) => list(args).await,
        FilterCommand::Add(args) => add(args).await,
        FilterCommand::Change(args) => change(args).await,
        FilterCommand::Remove(args) => remove(args).await,
        FilterCommand::Test(args) => test(args).await,
    }
}

fn view(filter: &Filter) -> Value {
    json!({
        "id": filter.id, "regex": filter.regex, "filter_type": filter.kind,
        "description": filter.description, "replacement": filter.replacement,
        "user": filter.editor,
    })
}

async fn list(args: FilterList) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let filters = office.store.list_filters().await?;
    let wanted = filters
        .iter()
        .filter(|filter| args.kind.is_none_or(|kind| filter.kind == kind));
    office.list(MEMBERS, wanted.map(view).collect());
    Ok(office.close().await)
}

/// Refuses what cannot be used, alone or with the other filters: it would keep all of them from
/// working.
fn compile(list: &[Filter]) -> Result<FilterSet> {
    let read = |filter: &Filter| filter::Filter {
        regex: filter.regex.clone(),
        kind: filter.kind,
        replacement: filter.replacement.clone(),
    };
    let filters: Vec<filter::Filter> = list.iter().map(read).collect();
    Ok(FilterSet::compile(&filters, Arc::new(Terms::embedded()))?)
}

fn check(filter: &Filter) -> Result<()> {
    if filter.regex.is_empty() {
        bail!("an empty expression finds everything: give one");
    }
    if filter.replacement.chars().count() > MAX_REPLACEMENT_CHARS {
        bail!("a replacement has {MAX_REPLACEMENT_CHARS} characters at most");
    }
    FilterSet::check(&filter.regex)
        .with_context(|| format!("`{}` is no expression that can be used", filter.regex))
}

async fn editor(office: &Office, parts: &FilterParts) -> Result<UserId> {
    let named = office.named(parts.editor.as_deref()).await?;
    Ok(named.unwrap_or(UserId::ANONYMOUS))
}

async fn add(args: FilterAdd) -> Result<Exit> {
    let Some(kind) = args.parts.kind else {
        bail!("give the filter's type, such as `--type 10`");
    };
    let office = Office::open(&args.store).await?;
    let mut list = office.store.list_filters().await?;
    let candidate = Filter {
        id: i64::MAX,
        regex: args.regex,
        kind,
        description: args.parts.description.clone(),
        replacement: args.parts.replacement.clone().unwrap_or_default(),
        editor: editor(&office, &args.parts).await?,
    };
    check(&candidate)?;
    let new = NewFilter {
        regex: candidate.regex.clone(),
        kind,
        description: candidate.description.clone(),
        replacement: candidate.replacement.clone(),
        editor: candidate.editor,
    };
    let is_there = |filter: &Filter| filter.kind == kind && filter.regex == new.regex;
    if !list.iter().any(is_there) {
        list.push(candidate);
        compile(&list)?;
    }
    let deed = Deed::of_operator("filter.create", "filter", &new.regex);
    let deed = deed.change(
        json!({}),
        json!({ "regex": new.regex, "filter_type": kind }),
    );
    let inserted = office.store.insert_filter(&new);
    let filter = office.recorded(deed, inserted).await?;
    office.show(&view(&filter));
    Ok(office.close().await)
}

async fn change(args: FilterChange) -> Result<Exit> {
    let parts = &args.parts;
    let nothing = args.regex.is_none()
        && parts.kind.is_none()
        && parts.description.is_none()
        && parts.replacement.is_none();
    if nothing {
        bail!("nothing to change: give `--regex`, `--type`, `--description` or `--replacement`");
    }
    let office = Office::open(&args.store).await?;
    let mut list = office.store.list_filters().await?;
    let editor = editor(&office, parts).await?;
    let found = list.iter_mut().find(|filter| filter.id == args.id);
    let filter = found.with_context(|| missing(args.id))?;
    let before = view(filter);
    filter.regex = args.regex.unwrap_or_else(|| filter.regex.clone());
    filter.kind = parts.kind.unwrap_or(filter.kind);
    filter.description = parts.description.clone().or(filter.description.take());
    let replacement = parts.replacement.clone();
    filter.replacement = replacement.unwrap_or_else(|| filter.replacement.clone());
    filter.editor = editor;
    let filter = filter.clone();
    check(&filter)?;
    compile(&list)?;
    let deed = Deed::of_operator("filter.update", "filter", filter.id);
    let updated = office.store.update_filter(&filter);
    match office
        .recorded(deed.change(before, view(&filter)), updated)
        .await
    {
        Err(Error::Taken) => bail!("another filter of this type has this expression"),
        other => other?,
    }
    office.show(&view(&filter));
    Ok(office.close().await)
}

fn missing(id: i64) -> String {
    format!("there is no filter {id}")
}

async fn remove(args: FilterRemove) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let deed = Deed::of_operator("filter.delete", "filter", args.id);
    if !office
        .recorded(deed, office.store.delete_filter(args.id))
        .await?
    {
        bail!(missing(args.id));
    }
    office.show(&json!({ "deleted_id": args.id }));
    Ok(office.close().await)
}

async fn test(args: FilterTest) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let set = compile(&office.store.list_filters().await?)?;
    let verdict = match args.kind {
        Some(kind) => set.judge_by(kind, &args.prompt),
        None => set.judge(&args.prompt),
    };
    office.show(&json!({
        "suspicion": verdict.suspicion, "matches": verdict.matches,
        "refused": verdict.suspicion >= filter::CORRUPT,
    }));
    Ok(office.close().await)
}
