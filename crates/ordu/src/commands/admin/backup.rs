//! `ordu admin backup` and `ordu admin restore`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use ordu_core::Kudos;
use ordu_server::backup::{self, Contents, Head, Summary, Target};
use ordu_server::{BlobPlace, Clock, S3Defaults, Secret};
use ordu_store::{Options, Store};
use serde_json::{Map, Value, json};

use super::{Office, database};
use crate::cli::{AdminStore, Backup, Restore};
use crate::commands::data::DataFolder;
use crate::exit::Exit;

pub(super) async fn backup(args: Backup) -> Result<Exit> {
    let office = Office::open(&args.store).await?;
    let files = if args.with_secret {
        office.data.secret_files()
    } else {
        Map::new()
    };
    let pictures = pictures(args.blobs.as_deref(), &office.data)?;
    let contents = Contents {
        store: &office.store,
        pictures: pictures.as_deref(),
        secret: &office.secret,
        files,
        now: office.now,
    };
    let summary = backup::write(contents, &args.file).await?;
    let mut shown = view(&args.file, summary);
    shown["with_secret"] = json!(args.with_secret);
    office.show(&shown);
    if !args.with_secret && !office.json {
        println!(
            "The secret is not in it: keep a copy of `secret.key`, or of what `--secret-key` is."
        );
    }
    Ok(office.close().await)
}

fn view(file: &std::path::Path, summary: Summary) -> Value {
    json!({
        "file": file.display().to_string(), "rows": summary.rows, "pictures": summary.pictures,
    })
}

/// The folder of pictures; those in a bucket stay there.
fn pictures(blobs: Option<&str>, data: &DataFolder) -> Result<Option<PathBuf>> {
    let Some(url) = blobs else {
        return Ok(Some(data.blobs()));
    };
    if url.starts_with("s3:") {
        return Ok(None);
    }
    let place = BlobPlace::from_url(url, &S3Defaults::default());
    match place.context("`--blobs` cannot be used")? {
        BlobPlace::Folder(folder) => Ok(Some(folder)),
        BlobPlace::Memory | BlobPlace::S3(_) => Ok(None),
    }
}

pub(super) async fn restore(args: Restore) -> Result<Exit> {
    let head = backup::head(&args.file)?;
    let data = DataFolder::open(&args.store.data)?;
    let Some(_serving) = data.claim()? else {
        bail!(
            "a server serves `{}`: restore into another folder",
            args.store.data.display()
        );
    };
    check_secret(&args.store, &data, &head)?;
    let target = Target {
        database: database(&args.store, &data)?,
        pictures: pictures(args.blobs.as_deref(), &data)?,
    };
    let summary = backup::restore(&args.file, &target).await?;
    if args.store.secret_key.is_none() {
        data.keep_secret_files(&head.files)?;
    }
    check_books(&target).await?;
    let shown = view(&args.file, summary);
    if args.store.json {
        println!("{shown}");
    } else {
        println!(
            "{} rows and {} pictures are back; the ledger sums to zero",
            summary.rows, summary.pictures
        );
    }
    Ok(Exit::Done)
}

/// Without the secret that its keys are salted with, a restored horde would know nobody.
fn check_secret(args: &AdminStore, data: &DataFolder, head: &Head) -> Result<()> {
    let secret = match &args.secret_key {
        Some(given) => Some(Secret::new(given.as_str())),
        // What is in the folder stays, so it must be the right one.
        None => data.existing_secret()?.or_else(|| {
            let kept = head.files.get(DataFolder::SECRET).and_then(Value::as_str);
            kept.map(|kept| Secret::new(kept.trim()))
        }),
    };
    match secret {
        Some(secret) if head.is_of(&secret) => Ok(()),
        Some(_) => bail!(
            "the backup's keys are salted with another secret: give the right one as \
             `--secret-key`, or put the `secret.key` of the old data folder into the new one"
        ),
        None => bail!(
            "the backup does not hold the secret that its keys are salted with: put the \
             `secret.key` of the old data folder into `{}`, or give it as `--secret-key`",
            args.data.display()
        ),
    }
}

async fn check_books(target: &Target) -> Result<()> {
    let store = Store::open(&target.database, &Options::default(), Clock::System.now()).await?;
    let sum = store.ledger_sum().await;
    store.close().await;
    let sum = sum?;
    if sum != Kudos::ZERO {
        bail!("everything is back, but the ledger sums to {sum} kudos, as it did in the backup");
    }
    Ok(())
}
