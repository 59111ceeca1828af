//! Kudos that go from user to user.
//!
//! # Source
//! `community.md` § 6; `observed.md` 36.

use serde::{Deserialize, Serialize};

/// The answer of `POST /kudos/transfer`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Transferred {
    /// How much, in kudos.
    pub transferred: f64,
}

/// The answer of `POST /kudos/award`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Awarded {
    /// How much, in kudos.
    pub awarded: f64,
}
