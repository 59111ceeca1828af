//! Places in the queue against a sorted map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn place(priority: i64) -> Place {
    Place::new(Kudos::new(priority), Timestamp(0), 0)
}

fn item(priority: i64, slots: u64) -> Item {
    Item {
        place: place(priority),
        request: RequestId::from_uuid(uuid::Uuid::nil()),
        group: 0,
        load: Load {
            slots,
            things: slots * 7,
            jobs: slots,
            job_things: slots * 7,
        },
    }
}

fn assert_same(ranking: &Ranking, naive: &BTreeMap<Place, Item>) {
    let order: Vec<Place> = ranking.iter().map(|item| item.place).collect();
    assert_eq!(order, naive.keys().copied().collect::<Vec<_>>());
    let mut expected = Ahead::default();
    for (place, item) in naive {
        expected.add(Ahead::of(item.load));
        assert_eq!(ranking.ahead(*place), Some(expected));
    }
    assert_eq!(ranking.total().things, expected.things);
    for chunk in &ranking.chunks {
        assert!(!chunk.items.is_empty() && chunk.items.len() <= CHUNK);
        assert_eq!(
            chunk.items.first().map(|item| item.place),
            Some(chunk.first)
        );
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert(i64, u64),
    Remove(i64),
    Update(i64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..3000_i64, 0..9_u64).prop_map(|(p, slots)| Step::Insert(p, slots)),
        2 => (0..3000_i64).prop_map(Step::Remove),
        1 => (0..3000_i64, 0..9_u64).prop_map(|(p, slots)| Step::Update(p, slots)),
    ];
    proptest::collection::vec(step, 0..3000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn ranking_equals_a_sorted_map(steps in steps()) {
        let mut ranking = Ranking::default();
        let mut naive = BTreeMap::new();
        for step in steps {
            match step {
                Step::Insert(priority, slots) => {
                    ranking.insert(item(priority, slots));
                    naive.insert(place(priority), item(priority, slots));
                }
                Step::Remove(priority) => {
                    let removed = ranking.remove(place(priority));
                    prop_assert_eq!(removed, naive.remove(&place(priority)));
                }
                Step::Update(priority, slots) => {
                    let before = ranking.update(place(priority), item(priority, slots).load);
                    let found = naive.get_mut(&place(priority));
                    prop_assert_eq!(before, found.as_ref().map(|item| item.load));
                    if let Some(found) = found {
                        found.load = item(priority, slots).load;
                    }
                }
            }
        }
        assert_same(&ranking, &naive);
    }
}

#[test]
fn chunks_split_and_join_at_their_bounds() {
    let mut ranking = Ranking::default();
    let mut naive = BTreeMap::new();
    for priority in 0..513 {
        ranking.insert(item(priority, 1));
        naive.insert(place(priority), item(priority, 1));
    }
    assert_same(&ranking, &naive);
    assert!(ranking.chunks.len() > 2);
    for priority in 1..513 {
        ranking.remove(place(priority));
        naive.remove(&place(priority));
    }
    assert_same(&ranking, &naive);
    assert_eq!(ranking.chunks.len(), 1);
}

#[test]
fn older_requests_overtake_richer_ones_with_time() {
    let second = |seconds: i64| Timestamp(seconds * 1000);
    let poor = Place::new(Kudos::new(0), second(0), 0);
    let richer = |seconds| Place::new(Kudos::new(50), second(seconds), 1);
    assert!(richer(9) < poor, "50 kudos are worth ten seconds");
    assert!(poor < richer(11));
    assert!(poor < richer(10), "of equals the older comes first");
}
