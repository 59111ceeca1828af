//! The description of the API: one table of operations, read by machines and people.
//!
//! What goes in is described by the tables that validate it, what comes out by the types that
//! serialise it; `table` joins the two with path, key and words. A test holds the table against
//! the router, and every answer of every test against the description.
//!
//! # Source
//! `community.md` § 1.1 and § 16; `docs/decisions/0008-the-api-describes-itself.md`.

mod document;
pub(crate) mod operation;
mod page;
mod swagger;
pub(crate) mod table;

use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::Value;

pub(crate) use document::refusal;
pub(crate) use operation::Group;
pub(crate) use page::Page;

/// Whose API it is.
pub(crate) struct Site<'a> {
    /// The site's name.
    pub(crate) title: &'a str,
    /// Where its operators can be reached.
    pub(crate) contact: Option<&'a str>,
}

/// The description in its forms, made when somebody asks first.
#[derive(Debug, Default)]
pub(crate) struct Descriptions {
    openapi: OnceLock<Bytes>,
    swagger: OnceLock<Bytes>,
}

impl Descriptions {
    /// OpenAPI 3.1, as JSON.
    pub(crate) fn openapi(&self, site: &Site<'_>) -> Bytes {
        let make = || {
            document::document(site, &table::groups())
                .to_string()
                .into()
        };
        self.openapi.get_or_init(make).clone()
    }

    /// Swagger 2.0, as JSON.
    pub(crate) fn swagger(&self, site: &Site<'_>) -> Bytes {
        let make = || {
            let document = document::document(site, &table::groups());
            swagger::downgrade(&document).to_string().into()
        };
        self.swagger.get_or_init(make).clone()
    }
}

/// The description of a horde of this name, as OpenAPI 3.1.
pub fn description(title: &str) -> Value {
    let contact = None;
    document::document(&Site { title, contact }, &table::groups())
}

/// The path of every route there is, as the router knows it.
pub fn routes() -> Vec<String> {
    crate::router::paths()
}
