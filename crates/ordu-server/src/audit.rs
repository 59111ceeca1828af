//! The audit log: what those who keep order did to whom, recorded with the change itself.
//!
//! A handler says what is being done and hands over the work:
//! `app.recorded(Deed::new(actor, "worker.update", "worker", id).change(before, after), work).await`.
//! No keys and no secrets belong in `before` and `after`.

use std::fmt::Display;
use std::future::Future;

use ordu_api::UserId;
use ordu_core::Timestamp;
use ordu_store::AuditEntry;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::app::App;

/// Something that is being done with the rights of a moderator or an admin.
#[derive(Debug, Clone, PartialEq)]
pub struct Deed {
    actor: Option<UserId>,
    operation: &'static str,
    target_kind: &'static str,
    target: String,
    before: Value,
    after: Value,
}

impl Deed {
    /// `actor` does `operation` (such as `user.update`) to a thing of this kind.
    pub fn new(
        actor: UserId,
        operation: &'static str,
        target_kind: &'static str,
        target: impl Display,
    ) -> Self {
        Self {
            actor: Some(actor),
            operation,
            target_kind,
            target: target.to_string(),
            before: json!({}),
            after: json!({}),
        }
    }

    /// The operator does it, at the command line.
    pub fn of_operator(
        operation: &'static str,
        target_kind: &'static str,
        target: impl Display,
    ) -> Self {
        Self {
            actor: None,
            ..Self::new(UserId::ANONYMOUS, operation, target_kind, target)
        }
    }

    /// What was, and what is.
    #[must_use]
    pub fn change(self, before: Value, after: Value) -> Self {
        Self {
            before,
            after,
            ..self
        }
    }

    /// The row about it.
    pub fn entry(self, now: Timestamp) -> AuditEntry {
        AuditEntry {
            id: Uuid::new_v4(),
            at: now,
            actor: self.actor,
            operation: self.operation.to_owned(),
            target_kind: self.target_kind.to_owned(),
            target: readable(self.target),
            before: readable(self.before.to_string()),
            after: readable(self.after.to_string()),
        }
    }
}

/// Databases do not take NUL. Inside JSON it is escaped, which they do take as text.
fn readable(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "")
    } else {
        text
    }
}

/// Of what was, the members that `after` names.
pub(crate) fn same_members(before: &Value, after: &Value) -> Value {
    let names = after.as_object().into_iter().flat_map(Map::keys);
    let members = names.map(|name| (name.clone(), before.get(name).cloned().unwrap_or_default()));
    Value::Object(members.collect())
}

/// An object without the members that say nothing.
pub(crate) fn said(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let said = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(said.collect())
        }
        other => other,
    }
}

impl App {
    /// Does `work` and records `deed` in the same transaction; nothing is recorded where there is
    /// no deed, or where the work fails. Must be awaited where the work writes, not outside of
    /// [`App::complete`].
    pub(crate) async fn recorded<T, E: From<ordu_store::Error>>(
        &self,
        deed: impl Into<Option<Deed>>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        match deed.into() {
            Some(deed) => {
                let entry = deed.entry(self.clock.now());
                self.store.recorded(entry, work).await
            }
            None => work.await,
        }
    }

    /// Deletes what need not be kept any more.
    pub(crate) async fn delete_old_audit(&self) -> Result<(), ordu_store::Error> {
        if let Some(kept_for) = self.config.audit_kept_for {
            let before = self.clock.now() - kept_for;
            self.store.delete_audit(before).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_kept_of_what_was() {
        let before = json!({ "a": 1, "b": 2 });
        let after = said(json!({ "b": 3, "c": 4, "d": null }));
        assert_eq!(after, json!({ "b": 3, "c": 4 }));
        assert_eq!(same_members(&before, &after), json!({ "b": 2, "c": null }));
    }
}
