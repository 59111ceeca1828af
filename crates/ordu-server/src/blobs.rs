//! Pictures: where they lie and the signed, expiring links to them.
//!
//! Workers upload with `PUT` and clients download with `GET` through links that carry their own
//! permission: method, name and expiry are signed, nothing else is needed. In a folder the links
//! lead to us; in an S3-compatible store they are the store's own presigned ones, and pictures
//! pass us by.

mod place;
mod s3;

use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::Method;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use ordu_api::{JobId, RequestId};
use ordu_core::{Millis, Timestamp};
use uuid::Uuid;

use crate::secret::Secret;

pub use place::{BlobPlace, PlaceError, S3Credentials, S3Defaults, S3Place, S3Secret};

/// How long a link works.
pub(crate) const LINK_LIFETIME: Millis = Millis::from_minutes(30);

/// How long a picture is kept after its last change.
pub(crate) const PICTURE_LIFETIME: Millis = Millis::from_minutes(120);

/// The largest picture that a worker may upload, in bytes.
pub(crate) const MAX_PICTURE_BYTES: usize = 32 << 20;

/// The folder of the public dataset, which is never swept.
pub(crate) const SHARED: &str = "shared";

/// How many pictures of a bucket are looked at in one sweep: five pages of its listing.
const SWEEP_BITE: usize = 5000;

/// What is written at the start and looked for to see whether the store is there.
const PROBE: &str = "ordu-probe";

/// The word of S3 for a bucket that is not there; listing has no error of its own for it.
const NO_BUCKET: &str = "NoSuchBucket";

/// How long the store may take to show that it is there.
const PROBE_DEADLINE: Duration = Duration::from_secs(3);

/// What a link allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    Download,
    Upload,
}

impl Permission {
    const fn method(self) -> Method {
        match self {
            Self::Download => Method::GET,
            Self::Upload => Method::PUT,
        }
    }
}

/// Which pictures lie here, and for whom.
pub(crate) struct Blobs {
    store: Arc<dyn ObjectStore>,
    folder: Option<Path>,
    links: Links,
    /// How many pictures a sweep looks at; a folder, which is listed in no order, at all.
    bite: usize,
    /// Where the next sweep begins.
    swept: Mutex<Option<Path>>,
    described: String,
}

/// Who signs links and answers them.
enum Links {
    /// We do.
    Ours { secret: Secret, public_url: String },
    /// The store does.
    Presigned(Box<AmazonS3>),
}

/// What can go wrong with pictures.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no such picture.
    #[error("there is no such picture")]
    Missing,
    /// The place of all pictures does not exist.
    #[error("the pictures' {0} does not exist: make it first")]
    NoPlace(String),
    /// The store does not accept our key, or not for this.
    #[error("the store of pictures refuses our key")]
    Refused(#[source] object_store::Error),
    /// The key is not at hand.
    #[error("the key of the store of pictures is not at hand")]
    Unsigned,
    /// The store does not answer, or not as it should.
    #[error("the store of pictures cannot be used")]
    Away(#[source] object_store::Error),
}

impl From<object_store::Error> for BlobError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Missing,
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => Self::Refused(error),
            other => Self::Away(other),
        }
    }
}

/// The name of a job's result.
pub(crate) fn result_name(job: JobId) -> String {
    format!("{job}.webp")
}

/// The name of a request's source picture.
pub(crate) fn source_name(request: RequestId, part: SourcePart) -> String {
    match part {
        SourcePart::Image => format!("{request}_src.webp"),
        SourcePart::Mask => format!("{request}_msk.webp"),
        SourcePart::Extra(index) => format!("{request}_src_{index}.webp"),
    }
}

/// Which picture of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourcePart {
    Image,
    Mask,
    Extra(usize),
}

impl Blobs {
    /// Keeps pictures in a folder, which must exist.
    pub(crate) fn in_folder(
        folder: &FilePath,
        secret: Secret,
        public_url: &str,
    ) -> Result<Self, BlobError> {
        let store = LocalFileSystem::new_with_prefix(folder)?;
        let described = format!("folder `{}`", folder.display());
        Ok(Self::ours(Arc::new(store), secret, public_url, described))
    }

    /// Keeps pictures in memory, for tests.
    pub(crate) fn in_memory(secret: Secret, public_url: &str) -> Self {
        let described = "memory".to_owned();
        Self::ours(Arc::new(InMemory::new()), secret, public_url, described)
    }

    /// Keeps pictures in a bucket, which must exist.
    pub(crate) fn in_bucket(place: &S3Place) -> Result<Self, BlobError> {
        let folder = (!place.prefix.is_empty()).then(|| Path::from(place.prefix.as_str()));
        let links = Links::Presigned(Box::new(s3::signer(place)?));
        let store = Arc::new(s3::open(place)?);
        Ok(Self {
            folder,
            bite: SWEEP_BITE,
            ..Self::new(store, links, place.describe())
        })
    }

    fn ours(
        store: Arc<dyn ObjectStore>,
        secret: Secret,
        public_url: &str,
        described: String,
    ) -> Self {
        let public_url = public_url.trim_end_matches('/').to_owned();
        let links = Links::Ours { secret, public_url };
        Self::new(store, links, described)
    }

    fn new(store: Arc<dyn ObjectStore>, links: Links, described: String) -> Self {
        Self {
            store,
            folder: None,
            links,
            bite: usize::MAX,
            swept: Mutex::new(None),
            described,
        }
    }

    fn location(&self, name: &str) -> Path {
        match &self.folder {
            Some(folder) => folder.clone().join(name),
            None => Path::from(name),
        }
    }

    /// Whether something lies where our pictures do and is named like one: a bucket may hold other
    /// people's things too, and the public dataset lies in a folder of its own.
    fn is_ours(&self, location: &Path) -> bool {
        let root = self.folder.clone().unwrap_or_default();
        let Some(mut parts) = location.prefix_match(&root) else {
            return false;
        };
        let (Some(name), None) = (parts.next(), parts.next()) else {
            return false;
        };
        let id = name.as_ref().get(..36).unwrap_or_default();
        location.extension() == Some("webp") && Uuid::try_parse(id).is_ok()
    }

    /// Makes sure that pictures can be read, listed and written; says what is wrong if not.
    pub(crate) async fn check(&self) -> Result<(), BlobError> {
        match self.store.head(&self.location(PROBE)).await {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let mut listed = self.store.list(self.folder.as_ref());
        match listed.try_next().await {
            Err(error) if error.to_string().contains(NO_BUCKET) => {
                return Err(BlobError::NoPlace(self.described.clone()));
            }
            other => other?,
        };
        if let Links::Presigned(store) = &self.links {
            self.presign(store, PROBE, Permission::Download)?;
        }
        self.put(PROBE, Bytes::from_static(b"ordu")).await
    }

    pub(crate) async fn put(&self, name: &str, bytes: Bytes) -> Result<(), BlobError> {
        let payload = PutPayload::from_bytes(bytes);
        self.store.put(&self.location(name), payload).await?;
        Ok(())
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Bytes, BlobError> {
        let found = self.store.get(&self.location(name)).await?;
        Ok(found.bytes().await?)
    }

    /// Forgets a picture, if it is there.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), BlobError> {
        self.delete(vec![self.location(name)]).await.map(|_| ())
    }

    /// Keeps the same under another name as well.
    pub(crate) async fn copy(&self, from: &str, to: &str) -> Result<(), BlobError> {
        let (from, to) = (self.location(from), self.location(to));
        Ok(self.store.copy(&from, &to).await?)
    }

    /// Whether the store answers.
    pub(crate) async fn is_reachable(&self) -> bool {
        let probe = self.location(PROBE);
        let look = async {
            match self.store.head(&probe).await {
                Ok(_) => true,
                // Somebody tidied up.
                Err(object_store::Error::NotFound { .. }) => self.check().await.is_ok(),
                Err(_) => false,
            }
        };
        let looked = tokio::time::timeout(PROBE_DEADLINE, look).await;
        looked.unwrap_or(false)
    }

    /// Removes what is older than [`PICTURE_LIFETIME`]; says how many pictures that were. A bucket
    /// is swept in bites, each from where the last one ended.
    pub(crate) async fn sweep(&self, now: Timestamp) -> Result<u64, BlobError> {
        let oldest = (now - PICTURE_LIFETIME).0;
        let is_old = |picture: &ObjectMeta| {
            picture.last_modified.timestamp_millis() < oldest && self.is_ours(&picture.location)
        };
        let folder = self.folder.as_ref();
        let listed = match &self.swept_to() {
            Some(from) => self.store.list_with_offset(folder, from),
            None => self.store.list(folder),
        };
        let (mut looked, mut last) = (0_usize, None);
        let mut old = Vec::new();
        let mut listed = listed.take(self.bite);
        while let Some(picture) = listed.try_next().await? {
            looked += 1;
            if is_old(&picture) {
                old.push(picture.location.clone());
            }
            last = Some(picture.location);
        }
        let swept = self.delete(old).await?;
        self.set_swept_to(last.filter(|_| looked == self.bite));
        Ok(swept)
    }

    /// Deletes pictures, in bulk where the store can.
    async fn delete(&self, locations: Vec<Path>) -> Result<u64, BlobError> {
        let locations = futures::stream::iter(locations).map(Ok).boxed();
        let mut deleted = self.store.delete_stream(locations);
        let mut count = 0;
        loop {
            match deleted.try_next().await {
                Ok(Some(_)) => count += 1,
                Ok(None) => return Ok(count),
                // Another node swept it.
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn swept_to(&self) -> Option<Path> {
        let swept = self.swept.lock();
        swept.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_swept_to(&self, to: Option<Path>) {
        *self.swept.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }

    /// A link that allows one thing with one picture until [`LINK_LIFETIME`] is over.
    #[expect(
        clippy::expect_used,
        reason = "the key is at hand and `check` has signed with it"
    )]
    pub(crate) fn link(&self, name: &str, permission: Permission, now: Timestamp) -> String {
        match &self.links {
            Links::Ours { secret, public_url } => {
                let expires = (now + LINK_LIFETIME).seconds();
                let signature = secret.sign(&signed_text(name, permission, expires));
                format!("{public_url}/blobs/{name}?expires={expires}&signature={signature}")
            }
            Links::Presigned(store) => self
                .presign(store, name, permission)
                .expect("invariant: signing with a key that is at hand does not fail"),
        }
    }

    fn presign(
        &self,
        store: &AmazonS3,
        name: &str,
        permission: Permission,
    ) -> Result<String, BlobError> {
        let lifetime = Duration::from_millis(LINK_LIFETIME.0.unsigned_abs());
        let location = self.location(name);
        let signed = store.signed_url(permission.method(), &location, lifetime);
        // Signing waits only for keys that must be fetched, and ours is given.
        let signed = signed.now_or_never().ok_or(BlobError::Unsigned)?;
        Ok(signed?.into())
    }

    /// Whether a link was made here, for this, and has not expired.
    pub(crate) fn allows(&self, link: &Link<'_>, permission: Permission, now: Timestamp) -> bool {
        let Links::Ours { secret, .. } = &self.links else {
            return false;
        };
        let text = signed_text(link.name, permission, link.expires);
        link.expires >= now.seconds() && secret.verify(&text, link.signature)
    }
}

/// A link as it was presented.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link<'a> {
    pub(crate) name: &'a str,
    pub(crate) expires: i64,
    pub(crate) signature: &'a str,
}

fn signed_text(name: &str, permission: Permission, expires: i64) -> String {
    format!("{} {name} {expires}", permission.method())
}

#[cfg(test)]
mod tests;
