//! Rows on their way into a statement. Ids travel as 32 hexadecimal digits, which both databases
//! read.

use serde::Serialize;
use uuid::Uuid;

use crate::error::{Error, Result};

/// One JSON value.
pub(crate) fn object(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Invalid(error.to_string()))
}

/// Objects joined by commas.
pub(crate) fn rows(values: impl IntoIterator<Item = impl Serialize>) -> Result<String> {
    let mut json = String::new();
    for value in values {
        if !json.is_empty() {
            json.push(',');
        }
        json.push_str(&object(&value)?);
    }
    Ok(json)
}

/// An id as the rows spell it.
pub(crate) fn hex(id: Uuid) -> String {
    id.simple().to_string()
}
