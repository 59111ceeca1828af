//! The passkeys by which service accounts prove that they may speak for their users' addresses.
//!
//! All of them are at hand, as keyed hashes, and read again every few seconds. A presented one is
//! compared with every one of them in constant time.
//!
//! # Source
//! `community.md` § 2.10.

use std::sync::{Arc, PoisonError, RwLock};

use ordu_api::UserId;
use ordu_store::Store;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::secret::Secret;

/// The longest passkey that is looked at, in bytes; ours have 22.
const MAX_PASSKEY_BYTES: usize = 256;

/// The known passkeys.
pub(crate) struct Passkeys {
    secret: Secret,
    known: RwLock<Arc<[Known]>>,
}

struct Known {
    digest: [u8; 32],
    owner: UserId,
}

impl Passkeys {
    pub(crate) fn new(secret: Secret) -> Self {
        Self {
            secret,
            known: RwLock::new(Arc::new([])),
        }
    }

    /// Whose passkey this is.
    pub(crate) fn owner(&self, presented: &str) -> Option<UserId> {
        let known = Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner));
        if known.is_empty() || presented.is_empty() || presented.len() > MAX_PASSKEY_BYTES {
            return None;
        }
        let digest = self.digest(presented);
        let mut owner = 0_i64;
        let mut found = Choice::from(0);
        for key in known.iter() {
            let same = key.digest.ct_eq(&digest);
            owner.conditional_assign(&key.owner.get(), same);
            found |= same;
        }
        bool::from(found).then(|| UserId::new(owner)).flatten()
    }

    /// Reads all passkeys again.
    pub(crate) async fn refresh(&self, store: &Store) -> Result<(), ordu_store::Error> {
        let stored = store.list_passkeys().await?;
        let known = stored.into_iter().map(|(owner, passkey)| Known {
            digest: self.digest(&passkey),
            owner,
        });
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known.collect();
        Ok(())
    }

    fn digest(&self, passkey: &str) -> [u8; 32] {
        self.secret.digest(&format!("passkey {passkey}"))
    }
}
