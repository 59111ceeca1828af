//! Where pictures lie: what an operator's address of a folder or of an S3-compatible store says.

use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

/// The region of stores that have none.
const DEFAULT_REGION: &str = "us-east-1";

/// Where pictures lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobPlace {
    /// In a folder, which is made if it is missing.
    Folder(PathBuf),
    /// In a bucket of an S3-compatible store.
    S3(Box<S3Place>),
    /// In memory, for tests.
    Memory,
}

/// A bucket of an S3-compatible store, and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Place {
    /// The bucket; it must exist.
    pub bucket: String,
    /// The folder in the bucket; empty for the bucket itself.
    pub prefix: String,
    /// Where the store is; AWS if `None`.
    pub endpoint: Option<Url>,
    /// Where clients and workers reach it, if not where we do.
    pub public_endpoint: Option<Url>,
    /// The region that signatures name.
    pub region: String,
    /// Who we are.
    pub credentials: S3Credentials,
}

/// A key of an S3-compatible store.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct S3Credentials {
    /// Its public half.
    pub access_key_id: String,
    /// Its secret half.
    pub secret_access_key: String,
    /// What goes with a key that is only lent.
    pub session_token: Option<String>,
}

impl std::fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "S3Credentials({}, …)", self.access_key_id)
    }
}

/// What counts where the address itself says nothing: from options and the environment.
#[derive(Debug, Clone, Default)]
pub struct S3Defaults {
    /// The public half of the key.
    pub access_key_id: Option<String>,
    /// Its secret half.
    pub secret_access_key: Option<S3Secret>,
    /// What goes with a key that is only lent.
    pub session_token: Option<S3Secret>,
    /// The region.
    pub region: Option<String>,
}

/// A text that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Secret(pub String);

impl std::fmt::Debug for S3Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("S3Secret(…)")
    }
}

impl FromStr for S3Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// Why an address names no place for pictures. Never repeats the address: it may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// It is of no kind that is known.
    #[error("the place of pictures is `file:///DIR` or `s3://BUCKET?endpoint=https://…`")]
    Scheme,
    /// No bucket is named.
    #[error("the place of pictures names no bucket: write `s3://BUCKET?endpoint=https://…`")]
    Bucket,
    /// A parameter is not known.
    #[error(
        "the place of pictures has a parameter `{0}`: only endpoint, public_endpoint, region, \
         access_key_id, secret_access_key and session_token are known"
    )]
    Parameter(String),
    /// An endpoint is no web address.
    #[error("the {0} of the place of pictures is no http:// or https:// address")]
    Endpoint(&'static str),
    /// There is no key.
    #[error(
        "the bucket `{0}` needs a key: give --s3-access-key-id and --s3-secret-access-key, \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or both in the address"
    )]
    Credentials(String),
}

impl BlobPlace {
    /// Reads `file:///DIR` or `s3://BUCKET[/FOLDER]?endpoint=…&region=…&access_key_id=…`.
    ///
    /// # Errors
    /// When the address is of another kind, holds what is not known, or lacks a key.
    pub fn from_url(address: &str, defaults: &S3Defaults) -> Result<Self, PlaceError> {
        if let Some(path) = address.strip_prefix("file://") {
            return Ok(Self::Folder(path.into()));
        }
        let url = Url::parse(address).map_err(|_| PlaceError::Scheme)?;
        if url.scheme() != "s3" {
            return Err(PlaceError::Scheme);
        }
        S3Place::from_url(&url, defaults).map(|place| Self::S3(Box::new(place)))
    }
}

impl S3Place {
    fn from_url(url: &Url, defaults: &S3Defaults) -> Result<Self, PlaceError> {
        let bucket = url.host_str().filter(|bucket| !bucket.is_empty());
        let bucket = bucket.ok_or(PlaceError::Bucket)?.to_owned();
        let (mut endpoint, mut public_endpoint) = (None, None);
        let mut region = defaults.region.clone();
        let mut key = defaults.access_key_id.clone();
        let secret_of = |secret: &Option<S3Secret>| secret.as_ref().map(|secret| secret.0.clone());
        let mut secret = secret_of(&defaults.secret_access_key);
        let mut session_token = secret_of(&defaults.session_token);
        for (name, value) in url.query_pairs() {
            match name.as_ref() {
                "endpoint" => endpoint = Some(web_address("endpoint", &value)?),
                "public_endpoint" => {
                    public_endpoint = Some(web_address("public_endpoint", &value)?);
                }
                "region" => region = Some(value.into_owned()),
                "access_key_id" => key = Some(value.into_owned()),
                "secret_access_key" => secret = Some(value.into_owned()),
                "session_token" => session_token = Some(value.into_owned()),
                other => return Err(PlaceError::Parameter(other.to_owned())),
            }
        }
        let (Some(access_key_id), Some(secret_access_key)) = (key, secret) else {
            return Err(PlaceError::Credentials(bucket));
        };
        Ok(Self {
            prefix: url.path().trim_matches('/').to_owned(),
            endpoint,
            public_endpoint,
            region: region.unwrap_or_else(|| DEFAULT_REGION.to_owned()),
            credentials: S3Credentials {
                access_key_id,
                secret_access_key,
                session_token,
            },
            bucket,
        })
    }

    /// The place as an operator may read it, without the key.
    pub(crate) fn describe(&self) -> String {
        let endpoint = self.endpoint.as_ref().map_or("AWS", Url::as_str);
        format!("bucket `{}` at {endpoint}", self.bucket)
    }
}

fn web_address(name: &'static str, text: &str) -> Result<Url, PlaceError> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or(PlaceError::Endpoint(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(address: &str) -> Result<BlobPlace, PlaceError> {
        let defaults = S3Defaults {
            access_key_id: Some("id".to_owned()),
            secret_access_key: Some(S3Secret("secret".to_owned())),
            ..S3Defaults::default()
        };
        BlobPlace::from_url(address, &defaults)
    }

    fn s3(address: &str) -> S3Place {
        match read(address).unwrap() {
            BlobPlace::S3(place) => *place,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_address_names_folder_or_bucket() {
        assert_eq!(read("file:///a/b"), Ok(BlobPlace::Folder("/a/b".into())));
        let place = s3("s3://my_bucket/a/b/?endpoint=https://x.example:9000&region=auto");
        assert_eq!(place.bucket, "my_bucket");
        assert_eq!(place.prefix, "a/b");
        assert_eq!(place.endpoint.unwrap().as_str(), "https://x.example:9000/");
        assert_eq!(place.region, "auto");
        assert_eq!(place.credentials.access_key_id, "id");
        assert_eq!(s3("s3://bucket").region, "us-east-1");
    }

    #[test]
    fn the_address_stands_above_options_and_hides_its_secret() {
        let place = s3("s3://b?access_key_id=mine&secret_access_key=a%2Fb%2Bc&session_token=t");
        assert_eq!(place.credentials.secret_access_key, "a/b+c");
        assert_eq!(place.credentials.session_token.as_deref(), Some("t"));
        let shown = format!("{place:?} {}", place.describe());
        assert!(
            shown.contains("mine") && !shown.contains("a/b+c"),
            "{shown}"
        );
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        for (address, error) in [
            ("blobs", PlaceError::Scheme),
            ("https://bucket", PlaceError::Scheme),
            ("s3:///?region=x", PlaceError::Bucket),
            ("s3://b?endpont=x", PlaceError::Parameter("endpont".into())),
            (
                "s3://b?endpoint=minio:9000",
                PlaceError::Endpoint("endpoint"),
            ),
        ] {
            assert_eq!(read(address), Err(error), "{address}");
        }
        let missing = BlobPlace::from_url("s3://b", &S3Defaults::default());
        assert_eq!(missing, Err(PlaceError::Credentials("b".to_owned())));
    }
}
