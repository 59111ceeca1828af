//! What whoever has the server's secret may try out: whether pictures can be kept and reached, and what
//! the server sees of who asks. For `ordu doctor`; nobody else has a use for it.

use std::net::IpAddr;

use bytes::Bytes;
use ordu_core::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::blobs::{BlobError, BlobPlace, Blobs, Permission};
use crate::secret::Secret;

/// Where a server says what it sees.
pub(crate) const SEEN_PATH: &str = "/healthz/seen";

/// How long a question works.
const LINK_LIFETIME: Millis = Millis::from_minutes(5);

/// What a server sees of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The other end of the socket.
    pub peer: IpAddr,
    /// Whom it takes for the client.
    pub client: IpAddr,
    /// Whether it believes what the other end says about others.
    pub trusted: bool,
    /// `X-Forwarded-For` as it came.
    #[serde(default)]
    pub forwarded_for: Option<String>,
    /// `X-Forwarded-Proto` as it came.
    #[serde(default)]
    pub forwarded_proto: Option<String>,
    /// `Host` as it came.
    #[serde(default)]
    pub host: Option<String>,
}

/// The address at which the server at `url` says what it sees.
pub fn seen_link(secret: &Secret, url: &str, now: Timestamp) -> String {
    let expires = (now + LINK_LIFETIME).seconds();
    let signature = secret.sign(&signed_text(expires));
    let url = url.trim_end_matches('/');
    format!("{url}{SEEN_PATH}?expires={expires}&signature={signature}")
}

/// Whether a question was made with the server's secret, and is not old.
pub(crate) fn may_see(secret: &Secret, (expires, signature): (i64, &str), now: Timestamp) -> bool {
    expires >= now.seconds() && secret.verify(&signed_text(expires), signature)
}

fn signed_text(expires: i64) -> String {
    format!("SEEN {expires}")
}

/// A picture that comes and goes, where all pictures lie.
pub struct BlobProbe {
    blobs: Blobs,
    name: String,
}

impl BlobProbe {
    /// Makes sure that pictures can be read, listed and written there. Links lead to `url`, unless
    /// the store makes its own.
    ///
    /// # Errors
    /// What keeps pictures from being there; a folder must exist.
    pub async fn begin(place: &BlobPlace, secret: &Secret, url: &str) -> Result<Self, BlobError> {
        let secret = secret.clone();
        let blobs = match place {
            BlobPlace::Memory => Blobs::in_memory(secret, url),
            BlobPlace::Folder(folder) => Blobs::in_folder(folder, secret, url)?,
            BlobPlace::S3(place) => Blobs::in_bucket(place)?,
        };
        blobs.check().await?;
        // It is named like a result: should it stay, it is swept like one.
        let name = format!("{}.webp", Uuid::new_v4());
        Ok(Self { blobs, name })
    }

    /// Keeps these bytes.
    ///
    /// # Errors
    /// The store of pictures did not take them.
    pub async fn write(&self, bytes: Bytes) -> Result<(), BlobError> {
        self.blobs.put(&self.name, bytes).await
    }

    /// The bytes that are kept.
    ///
    /// # Errors
    /// There are none, or the store of pictures does not answer.
    pub async fn read(&self) -> Result<Bytes, BlobError> {
        self.blobs.get(&self.name).await
    }

    /// The link that a worker would be given.
    pub fn upload(&self, now: Timestamp) -> String {
        self.blobs.link(&self.name, Permission::Upload, now)
    }

    /// The link that a client would be given.
    pub fn download(&self, now: Timestamp) -> String {
        self.blobs.link(&self.name, Permission::Download, now)
    }

    /// Removes it.
    ///
    /// # Errors
    /// The store of pictures does not let it go.
    pub async fn end(self) -> Result<(), BlobError> {
        self.blobs.remove(&self.name).await
    }
}
