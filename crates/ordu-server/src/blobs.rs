//! Pictures: where they lie and the signed, expiring links to them.
//!
//! Workers upload with `PUT` and clients download with `GET` through links that carry their own
//! permission, as they would with S3: method, name and expiry are signed, nothing else is needed.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use ordu_api::{JobId, RequestId};
use ordu_core::{Millis, Timestamp};

use crate::secret::Secret;

/// How long a link works.
pub(crate) const LINK_LIFETIME: Millis = Millis::from_minutes(30);

/// How long a picture is kept after its last change.
pub(crate) const PICTURE_LIFETIME: Millis = Millis::from_minutes(120);

/// The largest picture that a worker may upload, in bytes.
pub(crate) const MAX_PICTURE_BYTES: usize = 32 << 20;

/// The folder of the public dataset, which is never swept.
pub(crate) const SHARED: &str = "shared";

/// What a link allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    Download,
    Upload,
}

impl Permission {
    const fn method(self) -> &'static str {
        match self {
            Self::Download => "GET",
            Self::Upload => "PUT",
        }
    }
}

/// Which pictures lie here, and for whom.
pub(crate) struct Blobs {
    store: Arc<dyn ObjectStore>,
    secret: Secret,
    public_url: String,
}

/// The folder of pictures could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep pictures")]
pub struct BlobError(#[from] object_store::Error);

impl BlobError {
    /// Whether there simply is no such picture.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.0, object_store::Error::NotFound { .. })
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
        folder: &Path,
        secret: Secret,
        public_url: &str,
    ) -> Result<Self, BlobError> {
        let store = LocalFileSystem::new_with_prefix(folder)?;
        Ok(Self::new(Arc::new(store), secret, public_url))
    }

    /// Keeps pictures in memory, for tests.
    pub(crate) fn in_memory(secret: Secret, public_url: &str) -> Self {
        Self::new(Arc::new(InMemory::new()), secret, public_url)
    }

    fn new(store: Arc<dyn ObjectStore>, secret: Secret, public_url: &str) -> Self {
        Self {
            store,
            secret,
            public_url: public_url.trim_end_matches('/').to_owned(),
        }
    }

    pub(crate) async fn put(&self, name: &str, bytes: Bytes) -> Result<(), BlobError> {
        self.store
            .put(&name.into(), PutPayload::from_bytes(bytes))
            .await?;
        Ok(())
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Bytes, BlobError> {
        Ok(self.store.get(&name.into()).await?.bytes().await?)
    }

    /// Keeps the same under another name as well.
    pub(crate) async fn copy(&self, from: &str, to: &str) -> Result<(), BlobError> {
        Ok(self.store.copy(&from.into(), &to.into()).await?)
    }

    /// Whether pictures can be read and listed at all.
    pub(crate) async fn is_reachable(&self) -> bool {
        self.store.list_with_delimiter(None).await.is_ok()
    }

    /// Removes what is older than [`PICTURE_LIFETIME`]; says how many pictures that were.
    pub(crate) async fn sweep(&self, now: Timestamp) -> Result<u64, BlobError> {
        let oldest = (now - PICTURE_LIFETIME).0;
        let mut swept = 0;
        let mut pictures = self.store.list(None);
        while let Some(picture) = pictures.try_next().await? {
            let is_shared = picture.location.prefix_matches(&SHARED.into());
            if !is_shared && picture.last_modified.timestamp_millis() < oldest {
                self.store.delete(&picture.location).await?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// A link that allows one thing with one picture until [`LINK_LIFETIME`] is over.
    pub(crate) fn link(&self, name: &str, permission: Permission, now: Timestamp) -> String {
        let expires = (now + LINK_LIFETIME).seconds();
        let signature = self.secret.sign(&signed_text(name, permission, expires));
        let base = &self.public_url;
        format!("{base}/blobs/{name}?expires={expires}&signature={signature}")
    }

    /// Whether a link was made here, for this, and has not expired.
    pub(crate) fn allows(&self, link: &Link<'_>, permission: Permission, now: Timestamp) -> bool {
        let text = signed_text(link.name, permission, link.expires);
        link.expires >= now.seconds() && self.secret.verify(&text, link.signature)
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
mod tests {
    use super::*;

    fn parts(url: &str) -> (String, i64, String) {
        let (head, signature) = url.split_once("&signature=").unwrap();
        let (path, expires) = head.split_once("?expires=").unwrap();
        (
            path.rsplit('/').next().unwrap().into(),
            expires.parse().unwrap(),
            signature.into(),
        )
    }

    #[test]
    fn a_link_allows_one_thing_for_half_an_hour() {
        let blobs = Blobs::in_memory(Secret::new("s"), "http://horde/");
        let now = Timestamp(1_000_000);
        let url = blobs.link("a.webp", Permission::Upload, now);
        assert!(url.starts_with("http://horde/blobs/a.webp?"), "{url}");
        let (name, expires, signature) = parts(&url);
        let link = Link {
            name: &name,
            expires,
            signature: &signature,
        };
        assert!(blobs.allows(&link, Permission::Upload, now + LINK_LIFETIME));
        assert!(!blobs.allows(&link, Permission::Download, now));
        assert!(!blobs.allows(
            &link,
            Permission::Upload,
            now + LINK_LIFETIME + Millis(1000)
        ));
        assert!(!blobs.allows(
            &Link {
                name: "b.webp",
                ..link
            },
            Permission::Upload,
            now
        ));
        assert!(!blobs.allows(
            &Link {
                expires: expires + 1,
                ..link
            },
            Permission::Upload,
            now
        ));
    }
}
