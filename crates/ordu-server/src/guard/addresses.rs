//! Who is shut out, and who hides: in memory for the checks, in the database for restarts and other
//! nodes.

use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ordu_api::ReturnCode;
use ordu_core::address::{Party, REPORT_LIFETIME, Reputation, TOLD_REST};
use ordu_core::horde::Address;
use ordu_core::{Millis, Role, Timestamp};
use ordu_store::Store;

use super::OVERLAP_MS;
use super::checker::AddressVerdict;
use crate::accounts::Account;
use crate::app::App;
use crate::error::{ApiError, ApiResult};

/// The reputation of addresses, and up to which change it is known.
#[derive(Default)]
pub(crate) struct Addresses {
    reputation: Mutex<Reputation>,
    seen: AtomicI64,
}

/// Who asks for something, and from where.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) account: &'a Account,
    pub(crate) address: Option<IpAddr>,
    /// The address of the service that speaks for it, if one does.
    pub(crate) proxy: Option<IpAddr>,
}

impl Addresses {
    /// The reputation. Never held across an `.await`.
    pub(crate) fn reputation(&self) -> MutexGuard<'_, Reputation> {
        self.reputation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what was stored since the last time, and forgets what is over.
    pub(crate) async fn refresh(
        &self,
        store: &Store,
        now: Timestamp,
    ) -> Result<(), ordu_store::Error> {
        let since = Timestamp(self.seen.load(Ordering::Relaxed).saturating_sub(OVERLAP_MS));
        let entries = store.list_addresses(since).await?;
        let mut reputation = self.reputation();
        for entry in entries {
            self.seen.fetch_max(entry.changed.0, Ordering::Relaxed);
            reputation.merge(&entry);
        }
        reputation.prune(now);
        Ok(())
    }
}

impl App {
    /// Refuses who is shut out.
    ///
    /// # Errors
    /// `TimeoutIP`.
    pub(crate) fn check_shut_out(&self, address: Option<IpAddr>) -> ApiResult<()> {
        let Some(rest) = self.shut_out_for(address) else {
            return Ok(());
        };
        let message = if rest > TOLD_REST {
            "This address is shut out because of what came from it".to_owned()
        } else {
            let seconds = (rest.0 + 999) / 1000;
            format!(
                "This address is shut out for {seconds} more seconds because of what came from it"
            )
        };
        Err(ApiError::refused(ReturnCode::TimeoutIP, message))
    }

    /// How much longer an address is shut out.
    pub(crate) fn shut_out_for(&self, address: Option<IpAddr>) -> Option<Millis> {
        let now = self.clock.now();
        self.guard.addresses.reputation().rest(address?, now)
    }

    /// Whether the horde is being raided.
    pub(crate) fn is_raided(&self) -> bool {
        self.modes().raid_mode.unwrap_or(false)
    }

    /// From where somebody asks, as workers are told.
    ///
    /// # Errors
    /// `UntrustedUnsafeIP` during a raid, for untrusted accounts that hide.
    pub(crate) async fn admit_address(&self, asker: Asker<'_>) -> ApiResult<Address> {
        let Some(address) = asker.address else {
            return Ok(Address::Safe);
        };
        let now = self.clock.now();
        if self.guard.checker.judge(address, now).await != AddressVerdict::Unsafe {
            return Ok(Address::Safe);
        }
        let roles = asker.account.roles();
        if self.is_raided() && !roles.has_any(&[Role::Trusted, Role::Patron]) {
            let message = "Just now the horde takes no requests of untrusted accounts from proxies \
                           and data centres";
            return Err(ApiError::refused(ReturnCode::UntrustedUnsafeIP, message));
        }
        Ok(Address::Unsafe)
    }

    /// Reports an address: it is shut out, here at once and, once stored, on every node.
    pub(crate) async fn report_address(&self, address: IpAddr) {
        let now = self.clock.now();
        let party = self.party(address);
        let entry = self
            .guard
            .addresses
            .reputation()
            .report(address, party, now);
        let Some(entry) = entry else {
            tracing::warn!("too many addresses are shut out to remember one more");
            return;
        };
        if let Err(error) = self.store.put_address(&entry).await {
            tracing::warn!(%error, "a reported address is known to this node only");
            self.guard.addresses.reputation().cap(address, now);
        }
    }

    /// Whose address this is.
    fn party(&self, address: IpAddr) -> Party {
        let services = &self.config.guard.service_addresses;
        if services.iter().any(|block| block.contains(&address)) {
            Party::Service
        } else {
            Party::Ordinary
        }
    }

    /// Deletes what nobody needs to know any more.
    pub(crate) async fn delete_old_addresses(&self) -> Result<(), ordu_store::Error> {
        let now = self.clock.now();
        self.store
            .delete_addresses(now, now - REPORT_LIFETIME)
            .await?;
        Ok(())
    }
}
