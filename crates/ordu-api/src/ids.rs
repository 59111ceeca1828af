//! Ids of the things the protocol names, one type each, so that they cannot be mixed up.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id")]
pub struct NotAnId;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that is known to name such a thing.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The bare UUID, for storage.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
                json_schema!({ "type": "string", "format": "uuid" })
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            /// Reads the hyphenated form only: other spellings of a UUID are not ids on the wire.
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                if text.len() != uuid::fmt::Hyphenated::LENGTH {
                    return Err(NotAnId);
                }
                Uuid::try_parse(text).map(Self).map_err(|_| NotAnId)
            }
        }
    )+};
}

id! {
    /// What a client asked for: one prompt, `n` results.
    RequestId,
    /// One result of a request, given to one worker.
    JobId,
    /// A worker of any kind.
    WorkerId,
    /// A team of workers.
    TeamId,
    /// A style or a collection of styles.
    StyleId,
    /// A picture that shows what a style does.
    StyleExampleId,
    /// A set of styles.
    CollectionId,
    /// A message to workers.
    MessageId,
    /// A key with its own budget that spends its owner's kudos.
    SharedKeyId,
}

/// A user's number. 0 is the anonymous account.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UserId(i64);

impl UserId {
    /// The account behind [`crate::ANONYMOUS_KEY`].
    pub const ANONYMOUS: Self = Self(0);

    /// The largest number the protocol allows.
    pub const MAX: i64 = 2_147_483_647;

    /// Wraps a number; `None` outside 0…[`Self::MAX`].
    pub const fn new(number: i64) -> Option<Self> {
        if number >= 0 && number <= Self::MAX {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The bare number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Reads the number after the last `#` of an alias, or a bare number.
    pub fn from_alias(alias: &str) -> Option<Self> {
        let number = alias.rsplit('#').next()?;
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        number.parse().ok().and_then(Self::new)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for UserId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NotAnId);
        }
        text.parse().ok().and_then(Self::new).ok_or(NotAnId)
    }
}

impl JsonSchema for UserId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "UserId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        json_schema!({ "type": "integer", "minimum": 0, "maximum": Self::MAX })
    }
}

/// A credential as it was presented. Never printed, never stored: only its keyed hash is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApiKey(String);

impl ApiKey {
    /// Wraps a presented or freshly made key.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The key everybody shares.
    pub fn anonymous() -> Self {
        Self(crate::ANONYMOUS_KEY.to_owned())
    }

    /// The secret itself, for hashing and for the header of a request.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl JsonSchema for ApiKey {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ApiKey".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        json_schema!({ "type": "string" })
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hyphenated_uuids_are_ids() {
        let text = "6a1b0c9e-7f43-4b6e-9f3b-0d1c2b3a4958";
        assert_eq!(text.parse::<RequestId>().unwrap().to_string(), text);
        for wrong in [
            "",
            "garbage",
            "6a1b0c9e7f434b6e9f3b0d1c2b3a4958",
            "{6a1b0c9e-7f43-4b6e-9f3b-0d1c2b3a49}",
        ] {
            assert_eq!(wrong.parse::<RequestId>(), Err(NotAnId), "{wrong}");
        }
    }

    #[test]
    fn user_ids_have_bounds_and_aliases_end_in_them() {
        assert_eq!("2147483647".parse(), Ok(UserId(UserId::MAX)));
        for wrong in ["2147483648", "-1", "+1", "1.0", "", "99999999999999999999"] {
            assert_eq!(wrong.parse::<UserId>(), Err(NotAnId), "{wrong}");
        }
        assert_eq!(UserId::from_alias("a#b#12"), Some(UserId(12)));
        assert_eq!(UserId::from_alias("12"), Some(UserId(12)));
        assert_eq!(UserId::from_alias("a#"), None);
    }

    #[test]
    fn a_key_does_not_print() {
        assert_eq!(format!("{:?}", ApiKey::new("secret")), "ApiKey(…)");
    }
}
