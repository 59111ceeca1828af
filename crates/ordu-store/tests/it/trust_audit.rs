//! Pictures that were made once more.

use ordu_api::{JobId, UserId, WorkerId};
use ordu_core::Timestamp;
use ordu_store::TrustAudit;
use uuid::Uuid;

use crate::database::Database;

on_both!(audits_are_kept_counted_and_deleted);

fn audit(number: u128, worker: u128, differs: bool) -> TrustAudit {
    TrustAudit {
        job: JobId::from_uuid(Uuid::from_u128(number)),
        worker: WorkerId::from_uuid(Uuid::from_u128(worker)),
        owner: UserId::new(7).unwrap(),
        model: "ordu-tiny".to_owned(),
        twin_worker: WorkerId::from_uuid(Uuid::from_u128(99)),
        distance: if differs { 800 } else { 30 },
        differs,
        at: Timestamp(i64::try_from(number).unwrap() * 1000),
    }
}

async fn audits_are_kept_counted_and_deleted(database: &Database) {
    let store = database.open().await;
    let all = [
        audit(1, 5, true),
        audit(2, 6, true),
        audit(3, 5, false),
        audit(4, 5, true),
    ];
    for audit in &all {
        assert!(store.insert_trust_audit(audit).await.unwrap());
        assert!(!store.insert_trust_audit(audit).await.unwrap());
    }
    let five = WorkerId::from_uuid(Uuid::from_u128(5));
    let listed = store.list_trust_audits(Some(five), 0, 2).await.unwrap();
    assert_eq!(listed, [all[3].clone(), all[2].clone()]);
    let rest = store.list_trust_audits(Some(five), 1, 2).await.unwrap();
    assert_eq!(rest, [all[0].clone()]);
    assert_eq!(store.list_trust_audits(None, 0, 50).await.unwrap().len(), 4);
    let differing = async |since| store.count_differing_audits(five, Timestamp(since)).await;
    assert_eq!(differing(0).await.unwrap(), 2);
    assert_eq!(differing(1000).await.unwrap(), 1);
    assert_eq!(store.delete_trust_audits(Timestamp(3000)).await.unwrap(), 2);
    assert_eq!(store.list_trust_audits(None, 0, 50).await.unwrap().len(), 2);
}
