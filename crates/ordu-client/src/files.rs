//! Pictures that travel beside the API, to and from signed addresses.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::LOCATION;
use reqwest::{Response, Url};

use crate::transport::{read, send, succeeded};
use crate::{Error, Horde};

/// How long a picture may take to travel.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(30);

/// How many redirects a download follows.
const MAX_REDIRECTS: usize = 3;

impl Horde {
    /// Puts a picture where the horde said.
    ///
    /// The signature of the address covers the query as it is and no content type: neither key nor
    /// agent nor content type is sent, and nothing is encoded again.
    ///
    /// # Errors
    /// [`Error::Refused`] and [`Error::Unavailable`] by the store's status; [`Error::Malformed`] if
    /// `url` is not an address.
    pub async fn upload(&self, url: &str, picture: Bytes) -> Result<(), Error> {
        let call = self.http.put(address(url)?).timeout(TRANSFER_TIMEOUT);
        succeeded(send(call.body(picture)).await?).await?;
        Ok(())
    }

    /// Reads a picture of at most `limit` bytes from where the horde said. For addresses that other
    /// people chose there is [`crate::Fetcher`].
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Refused`] and [`Error::Unavailable`] by the store's status;
    /// [`Error::Malformed`] if `url` is not an address.
    pub async fn download(&self, url: &str, limit: usize) -> Result<Bytes, Error> {
        let mut url = address(url)?;
        for _ in 0..=MAX_REDIRECTS {
            let call = self.http.get(url.clone()).timeout(TRANSFER_TIMEOUT);
            let response = send(call).await?;
            match redirect(&response) {
                Some(next) => url = next,
                None => return read(succeeded(response).await?, limit).await,
            }
        }
        Err(Error::malformed("too many redirects"))
    }
}

/// An address of the web, as it was given.
pub(crate) fn address(url: &str) -> Result<Url, Error> {
    match Url::parse(url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        _ => Err(Error::malformed("not an address of the web")),
    }
}

/// Where a response sends its reader, if it does.
pub(crate) fn redirect(response: &Response) -> Option<Url> {
    if !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    address(response.url().join(location).ok()?.as_str()).ok()
}
