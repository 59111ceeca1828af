//! What the tests share.

pub mod http;

use ordu_api::ApiKey;
use ordu_client::Horde;

pub const KEY: &str = "0123456789abcdefghijkl";
pub const AGENT: &str = "test:1.0:nobody";

pub fn horde(url: &str) -> Horde {
    Horde::new(url, ApiKey::new(KEY), AGENT).unwrap()
}
