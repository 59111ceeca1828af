//! The members of a call, read one by one.
//!
//! OpenAI's clients send `null` for what they do not mean, members that came later than this was
//! written, and one member in several forms; so there is no table to hold bodies against. Each member
//! is read where it is needed, and what is wrong is said of the member that it is wrong with.

use std::ops::RangeInclusive;

use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::refusal::{GatewayError, GatewayResult};
use crate::error::ApiError;
use crate::extract::{MAX_PICTURE_JSON_BYTES, read_json};

/// The members of a JSON object.
#[derive(Debug, Default)]
pub(crate) struct Members(Map<String, Value>);

impl<S: Sync> FromRequest<S> for Members {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        match read_json(&parts.headers, body, MAX_PICTURE_JSON_BYTES).await? {
            Value::Object(members) => Ok(Self(members)),
            _ => Err(ApiError::field("body", "must be a JSON object")),
        }
    }
}

impl FromIterator<(String, Value)> for Members {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(members: I) -> Self {
        Self(members.into_iter().collect())
    }
}

impl Members {
    /// A member as it came; `None` also if it is `null`.
    pub(crate) fn value(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// A member of some type.
    pub(crate) fn read<T: DeserializeOwned>(&mut self, name: &str) -> GatewayResult<Option<T>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let read = serde_json::from_value(value);
        read.map(Some)
            .map_err(|error| GatewayError::member(name, error.to_string()))
    }

    /// A text. Empty is as good as none.
    pub(crate) fn text(&mut self, name: &str) -> GatewayResult<Option<String>> {
        let text: Option<String> = self.read(name)?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// A switch, off unless it is said to be on. Forms bring it as text.
    pub(crate) fn switch(&mut self, name: &str) -> GatewayResult<bool> {
        match self.value(name) {
            None => Ok(false),
            Some(Value::Bool(is_on)) => Ok(is_on),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" => Ok(false),
            Some(other) => {
                let complaint = format!("{other} is neither true nor false");
                Err(GatewayError::member(name, complaint))
            }
        }
    }

    /// A number within bounds.
    pub(crate) fn number(
        &mut self,
        name: &str,
        bounds: RangeInclusive<f64>,
    ) -> GatewayResult<Option<f64>> {
        let number: Option<f64> = self.read(name)?;
        match number {
            Some(number) if !bounds.contains(&number) => Err(out_of(name, number, &bounds)),
            number => Ok(number),
        }
    }

    /// A whole number within bounds. Forms bring it as text.
    pub(crate) fn whole(
        &mut self,
        name: &str,
        bounds: RangeInclusive<u64>,
    ) -> GatewayResult<Option<u64>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let number = match &value {
            Value::String(text) => text.trim().parse().ok(),
            // Some clients say 16.0.
            value => value.as_u64().or_else(|| whole_part(value.as_f64()?)),
        };
        let number = number.ok_or_else(|| {
            GatewayError::member(name, format!("{value} is not a whole number of at least 0"))
        })?;
        if !bounds.contains(&number) {
            return Err(out_of(name, number, &bounds));
        }
        Ok(Some(number))
    }

    /// A text or a list of them.
    pub(crate) fn texts(&mut self, name: &str) -> GatewayResult<Vec<String>> {
        match self.value(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text]),
            Some(Value::Array(items)) => {
                let text = |item: Value| match item {
                    Value::String(text) => Ok(text),
                    other => Err(GatewayError::member(name, format!("{other} is not a text"))),
                };
                items.into_iter().map(text).collect()
            }
            Some(other) => Err(GatewayError::member(
                name,
                format!("{other} is neither a text nor a list of texts"),
            )),
        }
    }

    /// Complains if a member asks for something that the horde does not do. What is off, empty or
    /// nothing asks for nothing.
    pub(crate) fn refuse(&mut self, name: &str, why: &str) -> GatewayResult<()> {
        let asks = match self.value(name) {
            None | Some(Value::Bool(false)) => false,
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Object(members)) => !members.is_empty(),
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(Value::String(text)) => !matches!(text.as_str(), "" | "none"),
            Some(_) => true,
        };
        if asks {
            return Err(GatewayError::unsupported(name, why));
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within what a whole number holds exactly"
)]
fn whole_part(number: f64) -> Option<u64> {
    let fits = number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number);
    fits.then_some(number as u64)
}

fn out_of<T: std::fmt::Display>(name: &str, value: T, bounds: &RangeInclusive<T>) -> GatewayError {
    let (least, most) = (bounds.start(), bounds.end());
    GatewayError::member(name, format!("{value} is not from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::response::IntoResponse as _;
    use serde_json::json;

    use super::*;

    fn members(value: Value) -> Members {
        let Value::Object(members) = value else {
            panic!("no object");
        };
        Members(members)
    }

    #[test]
    fn what_is_null_or_empty_was_not_said() {
        let mut said = members(json!({"a": null, "b": "", "c": [], "d": false, "e": "none"}));
        assert_eq!(said.text("a").unwrap(), None);
        assert_eq!(said.text("b").unwrap(), None);
        for name in ["c", "d", "e", "f"] {
            said.refuse(name, "no").unwrap();
        }
    }

    #[test]
    fn a_member_is_read_in_all_its_forms() {
        let mut said = members(json!({
            "one": "x", "more": ["x", "y"], "whole": 16.0, "form": "3", "half": 0.5,
        }));
        assert_eq!(said.texts("one").unwrap(), ["x"]);
        assert_eq!(said.texts("more").unwrap(), ["x", "y"]);
        assert_eq!(said.whole("whole", 1..=20).unwrap(), Some(16));
        assert_eq!(said.whole("form", 1..=20).unwrap(), Some(3));
        assert_eq!(said.number("half", 0.0..=1.0).unwrap(), Some(0.5));
    }

    #[test]
    fn a_complaint_names_the_member() {
        let wrong = json!({"n": 21, "half": 1.5, "minus": -1, "list": ["x", 1], "tools": [{}]});
        let mut said = members(wrong);
        let complaints = [
            said.whole("n", 1..=20).map(drop),
            said.whole("half", 1..=20).map(drop),
            said.whole("minus", 0..=20).map(drop),
            said.texts("list").map(drop),
            said.refuse("tools", "no"),
        ];
        for complaint in complaints {
            let status = complaint.unwrap_err().into_response().status();
            assert_eq!(status, StatusCode::BAD_REQUEST);
        }
    }
}
